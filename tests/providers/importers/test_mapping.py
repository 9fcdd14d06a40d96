import json
from datetime import UTC, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from cryptography.fernet import Fernet
from hypothesis import given, settings
from hypothesis import strategies as st

from providers import connection
from providers.importers import findings, mapping
from providers.importers.drafts import Origin
from providers.importers.legacy import ABSENT, LegacyKey, LegacyModel, LegacyParameter, LegacyProvider
from providers.importers.legacy_keys import LegacyKeys, looks_like_token
from providers.secrets import Secret

KEY, LOST = Fernet.generate_key(), Fernet.generate_key()
MADE, CHANGED = datetime(2024, 1, 2, 3, 4, 5), datetime(2024, 2, 3, 4, 5, 6)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
REAL = "sk-live-0123456789abcdef"
WAYS = mapping.Ways(
    naive_timezone=UTC,
    default_environment="production",
    now=NOW,
    users={7: "alice"},
    opener=LegacyKeys([Secret(KEY.decode())]),
    known_types={"openai", "azure_openai", "ollama", "fake"},
)
PROVIDER = {
    "provider_type": "openai",
    "display_name": "OpenAI",
    "description": "Ours",
    "enabled": 1,
    "connection_params": '{"base_url": "https://u.example/v1"}',
    "request_settings": '{"timeout": 30}',
    "created_at": MADE,
    "updated_at": CHANGED,
    "created_by_user_id": 7,
}
MODEL = {
    "display_name": "GPT",
    "model_type": "chat",
    "context_window": 128000,
    "max_tokens": 4096,
    "max_output_tokens": None,
    "enabled": 1,
    "capabilities": '["chat"]',
    "parameters": '{"temperature": 0.7}',
    "created_at": MADE,
    "updated_at": CHANGED,
}
KEY_ROW = {
    "is_encrypted": 0,
    "environment": "production",
    "expires_at": None,
    "created_at": MADE,
    "updated_at": ABSENT,
    "created_by_user_id": None,
}
PARAMETER = {"is_sensitive": 0, "environment": "staging", "created_at": MADE, "updated_at": CHANGED}


def token(value, *keys):
    for key in keys or (KEY,):
        value = Fernet(key).encrypt(value.encode()).decode()
    return value


def without_tokens(value):
    """The name of a test's case: tokens are others in each process, which must all call it the same."""
    return "token" if isinstance(value, str) and value.startswith("gAAAA") else None


def provider(provider_id="openai", ways=WAYS, **raw):
    record = LegacyProvider("llm_providers", provider_id, **PROVIDER | raw)
    return mapping.provider(record, Origin("llm_providers", "openai", "d"), ways)


def model(model_id="gpt-4o", ways=WAYS, **raw):
    record = LegacyModel("llm_models", "openai", model_id, **MODEL | raw)
    return mapping.model(record, Origin("llm_models", "openai:gpt-4o", "d"), ways)


def key(key_value=REAL, ways=WAYS, **raw):
    record = LegacyKey("llm_provider_api_keys", 1, "openai", key_value, **KEY_ROW | raw)
    return mapping.key(record, Origin("llm_provider_api_keys", "1", "d"), ways)


def parameter(name="region", value="eu", **raw):
    record = LegacyParameter("parameters", 1, "openai", name, value, **PARAMETER | raw)
    return mapping.parameter(record, Origin("parameters", "1", "d"), WAYS)


def codes(mapped):
    return [finding.code.name for finding in mapped.findings]


# --- Providers ------------------------------------------------------------------------------------------------------------


def test_a_clean_provider_is_taken_over_without_a_word():
    mapped = provider()
    assert mapped.findings == mapped.keys == ()
    assert mapped.draft.updated_at == CHANGED.replace(tzinfo=UTC)
    assert mapped.draft.facts == {
        "provider_type": "openai",
        "display_name": "OpenAI",
        "description": "Ours",
        "enabled": True,
        "connection_params": {"base_url": "https://u.example/v1"},
        "request_settings": {"timeout": 30},
        "created_at": MADE.replace(tzinfo=UTC),
        "created_by": "alice",
    }


def test_what_a_generation_does_not_have_is_left_alone():
    facts = provider(connection_params=ABSENT, request_settings=ABSENT, created_by_user_id=ABSENT).draft.facts
    assert not {"connection_params", "request_settings", "created_by"} & set(facts)


@pytest.mark.parametrize(
    ("field", "raw", "fact", "code"),
    [
        ("provider_type", "mock", "fake", "type_renamed"),
        ("provider_type", "azure", "azure_openai", "type_renamed"),
        ("provider_type", "biomedlm", "biomedlm", "type_unknown"),
        ("provider_type", " openai ", "openai", "text_repaired"),
        ("display_name", None, "openai", "name_missing"),
        ("display_name", "x" * 300, "x" * 255, "text_cut"),
        ("display_name", "a\x00b\ud800", "ab", "text_repaired"),
        ("description", "a\x00\nb", "a\nb", "text_repaired"),
        ("enabled", None, True, "null_flag"),
        ("enabled", "perhaps", False, "flag_broken"),
        ("enabled", 2, False, "flag_broken"),
    ],
)
def test_a_field_that_is_not_as_meant_is_named(field, raw, fact, code):
    mapped = provider(**{field: raw})
    assert mapped.draft.facts[field] == fact
    assert codes(mapped) == [code]
    assert mapped.findings[0].field == field


@pytest.mark.parametrize("raw", [True, 1, 1.0, Decimal(1), "1", "true", "TRUE", "yes", "t", b"\x01", "on"])
def test_yes_is_understood_in_every_spelling(raw):
    mapped = provider(enabled=raw)
    assert (mapped.draft.facts["enabled"], codes(mapped)) == (True, [])


@pytest.mark.parametrize("raw", [False, 0, "0", "false", "No", "f", b"\x00", Decimal(0)])
def test_no_is_understood_in_every_spelling(raw):
    mapped = provider(enabled=raw)
    assert (mapped.draft.facts["enabled"], codes(mapped)) == (False, [])


@pytest.mark.parametrize("raw", ["meta/llama:70b", "模型", "🦙", "a b"])
def test_ids_are_kept_as_they_are(raw):
    assert provider(raw).draft.provider_id == raw
    assert model(raw).draft.name == raw


@pytest.mark.parametrize("raw", ["", "  ", None, "a\nb", "a\x00", "x" * 256])
def test_an_id_that_cannot_be_used_rejects_the_row(raw):
    assert (provider(raw).draft, codes(provider(raw))) == (None, ["id_unusable"])
    assert (model(raw).draft, codes(model(raw))) == (None, ["id_unusable"])


def test_blanks_around_an_id_are_trimmed_and_named():
    assert (provider(" openai ").draft.provider_id, codes(provider(" openai "))) == ("openai", ["text_repaired"])


@pytest.mark.parametrize("raw", ["{broken", "[1]", '"text"'])
def test_a_provider_whose_address_is_lost_is_disabled(raw):
    mapped = provider(connection_params=raw)
    assert (mapped.draft.facts["enabled"], mapped.draft.facts["connection_params"]) == (False, {})
    assert codes(mapped) == ["json_broken", "disabled_for_safety"]


def test_an_address_that_does_not_open_is_lost_too():
    mapped = provider(connection_params={"base_url": token("https://u.example", LOST)})
    assert mapped.draft.facts["enabled"] is False
    assert codes(mapped) == ["undecryptable", "disabled_for_safety"]


@pytest.mark.parametrize("raw", [None, "", "null", "{}"])
def test_no_connection_parameters_are_no_loss(raw):
    mapped = provider(connection_params=raw)
    assert (mapped.draft.facts["enabled"], mapped.draft.facts["connection_params"], codes(mapped)) == (True, {}, [])


@pytest.mark.parametrize("name", ["api_key", "apiKey", "api-key", "key"])
@pytest.mark.parametrize("value", [REAL, token(REAL), token(REAL, KEY, KEY), f" {REAL}\n"], ids=without_tokens)
def test_an_api_key_among_the_parameters_becomes_a_key(name, value):
    mapped = provider(connection_params={"base_url": "https://u", name: value})
    (found,) = mapped.keys
    assert found.secrets == {"secret": Secret(REAL)}
    assert found.environment == "production"
    assert found.facts["enabled"] is True
    assert found.origin == Origin("llm_providers", f"openai#connection_params.{name}", "d", inside=True)
    assert mapped.draft.facts["connection_params"] == {"base_url": "https://u"}
    assert {"secret_moved", "environment_guessed"} <= set(codes(mapped))


@pytest.mark.parametrize(
    ("value", "code"),
    [
        *(("", "placeholder_dropped"), (None, "placeholder_dropped"), ("your-api-key", "placeholder_dropped")),
        *(
            (token(REAL, LOST), "undecryptable"),
            ("gw1.0a0b0c0d.c2VjcmV0", "undecryptable"),
            ("sk-1\nsk-2", "secret_unusable"),
        ),
    ],
    ids=without_tokens,
)
def test_an_api_key_that_is_none_is_dropped(value, code):
    mapped = provider(connection_params={"api_key": value})
    assert (mapped.keys, mapped.draft.secrets, mapped.draft.facts["connection_params"]) == ((), {}, {})
    assert codes(mapped) == [code]


def test_other_secrets_stay_with_the_provider_encrypted():
    params = {
        "headers": {"Authorization": f"Bearer {REAL}", "X": "1"},
        "proxy": "http://u:p@proxy",
        "password": token("pw"),
    }
    mapped = provider(connection_params=params)
    assert mapped.draft.facts["connection_params"] == {"headers": {"X": "1"}}
    assert mapped.draft.secrets == {
        json.dumps(["headers", "Authorization"]): Secret(f"Bearer {REAL}"),
        json.dumps(["proxy"]): Secret("http://u:p@proxy"),
        json.dumps(["password"]): Secret("pw"),
    }


def test_nothing_is_left_for_the_registry_to_take_out():
    mapped = provider(connection_params={"a": [{"token": "x"}], "secrets": {"one": "x"}, "headers": '{"api-key": "x"}'})
    assert connection.split(mapped.draft.facts["connection_params"], "openai")[1] == {}
    assert "x" not in json.dumps(mapped.draft.facts["connection_params"])


def test_names_of_places_are_no_secrets():
    params = {"api_key_env_var": "OPENAI_API_KEY", "api_key_secret": "llm:openai"}
    mapped = provider(connection_params=params)
    assert (mapped.draft.facts["connection_params"], codes(mapped)) == (params, [])


def test_secrets_of_request_settings_become_disabled_keys():
    mapped = provider(request_settings={"timeout": 3, "headers": {"Authorization": f"Bearer {REAL}"}})
    (found,) = mapped.keys
    assert found.facts["enabled"] is False
    assert found.facts["name"] == "request_settings.headers.Authorization"
    assert mapped.draft.facts["request_settings"] == {"timeout": 3, "headers": {}}
    assert codes(mapped) == ["secret_disabled"]


def test_azures_parameters_are_made_readable():
    params = {"api_type": "azure", "azure_endpoint": "https://n.openai.azure.com", "azure_deployment": "d"}
    mapped = provider(connection_params=params)
    assert mapped.draft.facts["connection_params"] == params | {"url_style": "azure", "auth_header": "api-key"}
    assert set(codes(mapped)) == {"connection_adapted"}
    there = provider(provider_type="azure_openai", connection_params=params).draft.facts["connection_params"]
    assert there == params


@pytest.mark.parametrize("address", ["http://h:11434", "http://h/v1"])
def test_ollamas_address_stays_as_it_is(address):
    mapped = provider(provider_type="ollama", connection_params={"base_url": address})
    assert mapped.draft.facts["connection_params"] == {"base_url": address}
    assert codes(mapped) == []


# --- Models ---------------------------------------------------------------------------------------------------------------


def test_a_clean_model_is_taken_over_without_a_word():
    mapped = model()
    assert mapped.findings == mapped.keys == ()
    assert mapped.draft.facts == {
        "display_name": "GPT",
        "model_type": "chat",
        "context_window": 128000,
        "max_tokens": 4096,
        "enabled": True,
        "capabilities": ["chat"],
        "parameters": {"temperature": 0.7},
        "created_at": MADE.replace(tzinfo=UTC),
    }


@pytest.mark.parametrize("raw", ["4096", 4096.0, Decimal("4096"), "4,096", " 4096 ", "4096.0", b"4096"])
def test_a_number_in_another_form_is_understood(raw):
    mapped = model(context_window=raw)
    assert (mapped.draft.facts["context_window"], codes(mapped)) == (4096, ["number_repaired"])


@pytest.mark.parametrize("raw", [0, -1, True, 2**31, "128k", 4096.5, float("inf"), Decimal("sNaN"), "", [1]])
def test_what_is_no_number_is_none(raw):
    mapped = model(context_window=raw)
    assert (mapped.draft.facts["context_window"], codes(mapped)) == (None, ["number_broken"])


@pytest.mark.parametrize(
    ("most", "output", "taken", "expected"),
    [
        (None, 1000, 1000, ["max_tokens_fallback"]),
        (4096, 1000, 4096, ["max_tokens_disagree"]),
        (4096, 4096, 4096, []),
        (0, 1000, 1000, ["number_broken", "max_tokens_fallback"]),
        (None, None, None, []),
        (4096, ABSENT, 4096, []),
    ],
)
def test_max_tokens_falls_back_to_max_output_tokens(most, output, taken, expected):
    mapped = model(max_tokens=most, max_output_tokens=output)
    assert (mapped.draft.facts["max_tokens"], codes(mapped)) == (taken, expected)


def test_secrets_of_a_model_become_disabled_keys_and_special_tokens_stay():
    mapped = model(parameters={"eos_token": "</s>", "api_key": REAL})
    assert mapped.draft.facts["parameters"] == {"eos_token": "</s>"}
    assert [(found.facts["name"], found.facts["enabled"]) for found in mapped.keys] == [("parameters.api_key", False)]
    assert mapped.keys[0].origin.key == "openai:gpt-4o#parameters.api_key"


# --- Times and authors ----------------------------------------------------------------------------------------------------


def test_a_missing_creation_time_is_that_of_the_last_change():
    mapped = model(created_at=None)
    assert mapped.draft.facts["created_at"] == mapped.draft.updated_at == CHANGED.replace(tzinfo=UTC)
    assert codes(mapped) == ["time_missing"]


def test_without_any_time_the_registry_keeps_its_own_and_one_finding_says_so():
    mapped = model(created_at=None, updated_at=None)
    assert "created_at" not in mapped.draft.facts
    assert mapped.draft.updated_at is None
    assert codes(mapped) == ["time_missing"]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [({"updated_at": None}, ["time_missing"]), ({"updated_at": "0000-00-00 00:00:00"}, ["time_broken"])],
)
def test_a_missing_change_is_the_creation(raw, expected):
    mapped = model(**raw)
    assert (mapped.draft.updated_at, codes(mapped)) == (MADE.replace(tzinfo=UTC), expected)


def test_a_time_of_the_clock_change_is_named():
    ways = mapping.Ways(ZoneInfo("Europe/Berlin"), "production", NOW, {}, LegacyKeys(), {"openai"})
    assert codes(model(ways=ways, created_at="2024-10-27 02:30:00")) == ["time_guessed"]


@pytest.mark.parametrize(
    ("raw", "author", "expected"),
    [(7, "alice", []), ("7", "alice", []), (8, "legacy user 8", ["author_unknown"]), (None, "", [])],
)
def test_an_author_is_named_or_numbered(raw, author, expected):
    mapped = key(created_by_user_id=raw)
    assert (mapped.draft.facts["created_by"], codes(mapped)) == (author, expected)


# --- Keys -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "is_encrypted", "expected"),
    [
        (REAL, 0, []),
        (token(REAL), 1, []),
        (REAL, 1, ["encrypted_flag_wrong"]),
        (token(REAL), 0, ["encrypted_flag_wrong"]),
        (token(REAL, KEY, KEY), 1, ["double_encrypted"]),
        (f" {REAL}\n", 0, ["text_repaired"]),
        (REAL.encode(), 0, []),
        (token(REAL), None, ["null_flag"]),
    ],
    ids=without_tokens,
)
def test_a_key_is_read_whatever_its_flag_says(value, is_encrypted, expected):
    mapped = key(value, is_encrypted=is_encrypted)
    assert mapped.draft.secrets == {"secret": Secret(REAL)}
    assert codes(mapped) == expected


@pytest.mark.parametrize(
    ("value", "code"),
    [
        *(("", "empty_secret"), ("  ", "empty_secret"), (None, "empty_secret"), ("your-api-key", "placeholder")),
        *(
            (token(REAL, LOST), "undecryptable"),
            (token(token(REAL, LOST)), "undecryptable"),
            ("gw1.ab.cd", "undecryptable"),
        ),
        *(("sk-1\nsk-2", "secret_unusable"), ("sk-\x001", "secret_unusable"), ("sk-\ud800", "secret_unusable")),
    ],
    ids=without_tokens,
)
def test_what_is_no_key_is_rejected(value, code):
    mapped = key(value)
    assert (mapped.draft, codes(mapped)) == (None, [code])


def test_an_expired_key_is_imported_with_its_expiry():
    mapped = key(expires_at="2025-01-01 00:00:00")
    assert mapped.draft.facts["expires_at"] == datetime(2025, 1, 1, tzinfo=UTC)
    assert codes(mapped) == ["expired"]


def test_a_key_whose_expiry_cannot_be_read_is_disabled():
    mapped = key(expires_at="0000-00-00 00:00:00")
    assert (mapped.draft.facts["expires_at"], mapped.draft.facts["enabled"]) == (None, False)
    assert codes(mapped) == ["time_broken"]


@pytest.mark.parametrize("raw", [None, "", "  "])
def test_without_an_environment_it_is_the_legacys_default(raw):
    mapped = key(environment=raw)
    assert (mapped.draft.environment, "environment_missing" in codes(mapped)) == ("development", True)


def test_other_environments_keep_their_names():
    assert key(environment="QA / Berlin").draft.environment == "QA / Berlin"


# --- Parameters -----------------------------------------------------------------------------------------------------------


def test_a_plain_parameter_is_taken_over_without_a_word():
    mapped = parameter()
    assert (mapped.draft.name, mapped.draft.environment, codes(mapped)) == ("region", "staging", [])
    assert mapped.draft.facts == {
        "is_sensitive": False,
        "plain_value": "eu",
        "created_at": MADE.replace(tzinfo=UTC),
    }


@pytest.mark.parametrize(
    ("name", "value", "is_sensitive", "expected"),
    [
        ("region", "eu", 1, []),
        ("api_key", REAL, 0, ["sensitive_guessed"]),
        ("note", REAL, 0, ["sensitive_guessed"]),
        ("proxy", "http://u:p@proxy", 0, ["sensitive_guessed"]),
        ("headers", '{"Authorization": "Bearer 9vQm2KxT7pLw"}', 0, ["sensitive_guessed"]),
        ("api_key", REAL, None, ["null_flag", "sensitive_guessed"]),
        ("region", "eu", "perhaps", ["flag_broken"]),
    ],
)
def test_a_parameter_that_is_a_secret_is_kept_as_one(name, value, is_sensitive, expected):
    mapped = parameter(name, value, is_sensitive=is_sensitive)
    assert mapped.draft.secrets == {"value": Secret(value)}
    assert mapped.draft.facts["is_sensitive"] is True
    assert "plain_value" not in mapped.draft.facts
    assert codes(mapped) == expected


def test_a_parameter_that_is_a_token_is_opened():
    assert parameter("note", token("eu")).draft.secrets == {"value": Secret("eu")}
    assert codes(parameter("note", token("eu", LOST))) == ["undecryptable"]


@pytest.mark.parametrize(("flagged", "expected"), [(0, []), (1, ["reference_plain"])])
def test_a_reference_is_kept_plain(flagged, expected):
    mapped = parameter("api_key_env_var", "OPENAI_API_KEY", is_sensitive=flagged)
    assert (mapped.draft.facts["plain_value"], codes(mapped)) == ("OPENAI_API_KEY", expected)


def test_a_parameter_without_a_value_is_empty():
    assert parameter("region", None).draft.facts["plain_value"] == ""


# --- Whatever there is ----------------------------------------------------------------------------------------------------

SCALARS = st.one_of(
    st.none(),
    st.just(ABSENT),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=30),
    st.binary(max_size=30),
    st.decimals(),
    st.datetimes(timezones=st.none() | st.just(ZoneInfo("Asia/Kolkata"))),
)
RAW = SCALARS | st.recursive(
    st.none() | st.text(max_size=9) | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["api_key", "a", "token", ""]), inner),
    max_leaves=6,
)


def rows(names):
    return st.fixed_dictionaries(dict.fromkeys(names, RAW))


@settings(max_examples=40)
@given(st.data())
def test_no_row_raises(data):
    for mapped in (
        provider(data.draw(SCALARS), **data.draw(rows(PROVIDER))),
        model(data.draw(SCALARS), **data.draw(rows(MODEL))),
        key(data.draw(RAW), **data.draw(rows(KEY_ROW))),
        parameter(data.draw(SCALARS), data.draw(RAW), **data.draw(rows(PARAMETER))),
    ):
        assert mapped.draft is not None or mapped.findings
        assert all(finding.code in findings.CODES.values() for finding in mapped.findings)


MARK = "Zq7SeCrEtMaRk"
SHAPES = st.sampled_from(
    [MARK, f"sk-{MARK}-0123456789abcdef", f"http://u:{MARK}@h", f"{MARK}\n{MARK}", token(MARK), f"{{{MARK}"]
)


@settings(max_examples=30)
@given(SHAPES, st.sampled_from(["api_key", "password", "base_url", "headers", MARK]))
def test_no_finding_holds_a_secret(value, name):
    wrapped = [
        value,
        {name: value},
        json.dumps({name: value}),
        {"headers": {"Authorization": value}},
        repr({name: [value]}),
    ]
    for raw in wrapped:
        said = [
            provider(connection_params=raw),
            provider(request_settings=raw),
            model(parameters=raw, capabilities=raw),
        ]
        said += [key(raw), key(raw, expires_at=raw), parameter("api_key", raw), parameter("region", raw)]
        details = [(finding.detail, finding.changes) for mapped in said for finding in mapped.findings]
        assert MARK not in repr(details)
        held = [secret for mapped in said if mapped.draft for secret in mapped.draft.secrets.values()]
        assert MARK not in repr(held)


@settings(max_examples=50)
@given(st.text(max_size=40), st.integers(0, 3))
def test_no_key_still_looks_like_a_token(value, layers):
    mapped = key(token(value, *[KEY] * layers) if layers else value)
    assert mapped.draft is None or not looks_like_token(mapped.draft.secrets["secret"].reveal())
