import json

import pytest

from providers.importers import documents, yaml_config
from providers.importers.config_forms import BadConfiguration
from providers.importers.documents import BadDocument
from providers.importers.drafts import Kind
from providers.models import ApiKey, Provider
from providers.references import reference_to
from tests import callers

pytestmark = pytest.mark.django_db

BEFORE = {
    "provider_id": "openai",
    "api_key": "your-api-key",
    "api_base": "https://api.openai.com/v1",
    "models": {"gpt-4-turbo-preview": {"max_tokens": 4096}},
}
AFTER = {
    "provider_id": "openai",
    "provider_type": "openai",
    "display_name": "OpenAI",
    "enabled": True,
    "api_base": "https://api.openai.com/v1",
    "models": {
        "gpt-4-turbo-preview": {"display_name": "GPT-4 Turbo", "context_window": 128000, "max_tokens": 4096},
    },
}
CREATE = callers.SEED_BODY
NESTED = """
gateway_id: main
default_provider: openai
max_retries: 2
routing_strategy: cost
allowed_providers: [openai, ghost]
model_provider_mapping: {gpt-4o: openai}
additional_config:
  providers:
    openai:
      provider_type: openai
      display_name: OpenAI
      connection_params:
        api_base: https://api.openai.com/v1
        api_key: sk-proj-Zr81Lq0pXw7Tn4
        api_key_env_var: OPENAI_API_KEY
      models:
        gpt-4o: {display_name: GPT-4o, context_window: 128000, max_tokens: 4096, temperature: 0.7}
    claude:
      provider_type: anthropic
      enabled: true
      models:
        claude-3: {max_output_tokens: 1000}
"""
FLAT = """
allowed_providers: [openai]
providers:
  openai:
    provider_type: openai
    api_base: https://api.openai.com/v1
    api_key: ${OPENAI_KEY}
    timeout_seconds: 30
    models:
      - model_id: gpt-4o
        max_tokens: 4096
      - gpt-4o-mini
"""
SEED_003 = """
providers:
  - id: ollama_local
    provider_type: ollama
    base_url: http://localhost:11434
    priority: 1
    models:
      - {model_id: nomic-embed-text, task: embedding, context_window: 8192, dimension: 768}
default_models: {embedding: nomic-embed-text}
"""


def read(document, **kwargs):
    text = document if isinstance(document, str) else json.dumps(document)
    return yaml_config.read(text, label="test", **kwargs)


def one(document):
    (provider,) = read(document).providers
    return provider


def codes(document):
    return {(finding.code.name, finding.key) for finding in read(document).configuration.findings}


def problems(document):
    with pytest.raises(BadConfiguration) as caught:
        read(document)
    return {problem.place: problem.sentence for problem in caught.value.problems}


def test_the_seeds_before_dict_gives_provider_type_address_and_limits():
    found = one(BEFORE)
    assert found.provider.facts["provider_type"] == "openai"
    assert found.provider.facts["connection_params"] == {"api_base": "https://api.openai.com/v1"}
    assert [(model.name, model.facts["max_tokens"]) for model in found.models] == [("gpt-4-turbo-preview", 4096)]
    assert found.keys == []
    assert codes(BEFORE) == {("type_guessed", ""), ("placeholder_dropped", "api_key")}


@pytest.mark.parametrize("document", [AFTER, CREATE], ids=["after", "create_provider"])
def test_the_seeds_other_dicts_say_the_same(document):
    found = one(document)
    assert found.provider.facts == {
        "provider_type": "openai",
        "display_name": "OpenAI",
        "enabled": True,
        "connection_params": {"api_base": "https://api.openai.com/v1"},
    }
    (model,) = found.models
    assert model.name == "gpt-4-turbo-preview"
    assert model.facts == {"display_name": "GPT-4 Turbo", "context_window": 128000, "max_tokens": 4096}


def test_a_task_that_nobody_can_ask_for_is_named():
    found = read(SEED_003.replace("embedding,", "embeding,"))
    (told,) = [one for one in found.configuration.findings if one.field == "task"]
    assert (told.code.name, "'embeding'" in told.detail) == ("unknown_name", True)
    assert "tasks" not in found.providers[0].models[0].facts


def test_a_gateways_yaml_with_nested_parameters():
    openai, claude = read(NESTED).providers
    assert openai.provider.facts["connection_params"] == {
        "api_base": "https://api.openai.com/v1",
        "api_key_env_var": "OPENAI_API_KEY",
    }
    assert openai.models[0].facts["parameters"] == {"temperature": 0.7}
    assert [(key.secrets["secret"].reveal(), key.environment) for key in openai.keys] == [
        ("sk-proj-Zr81Lq0pXw7Tn4", "development")
    ]
    assert (openai.provider.facts["enabled"], claude.provider.facts["enabled"]) == (True, False)
    assert claude.models[0].facts["max_tokens"] == 1000


def test_settings_of_the_whole_gateway_are_named_and_not_dropped_in_silence():
    found = codes(NESTED)
    for name in ("gateway_id", "default_provider", "max_retries", "routing_strategy", "model_provider_mapping"):
        assert ("no_place", name) in found
    assert ("orphan", "allowed_providers") in found
    assert ("enabled_by_list", "additional_config.providers.claude") in found
    assert ("max_tokens_fallback", "additional_config.providers.claude.models.claude-3") in found


def test_a_gateways_yaml_with_flat_parameters():
    found = one(FLAT)
    assert found.provider.facts["connection_params"] == {"api_base": "https://api.openai.com/v1", "timeout_seconds": 30}
    assert found.provider.facts["enabled"] is True
    assert [model.name for model in found.models] == ["gpt-4o", "gpt-4o-mini"]
    assert [key.secrets["secret"].reveal() for key in found.keys] == ["env:OPENAI_KEY"]
    assert ("reference_taken", "providers.openai.api_key") in codes(FLAT)


def test_the_providers_of_seed_003_are_read_too():
    found = one(SEED_003)
    assert found.provider.provider_id == "ollama_local"
    assert found.provider.facts["connection_params"] == {"base_url": "http://localhost:11434"}
    assert found.models[0].facts["tasks"] == ["embedding"]


def test_a_mapping_and_a_list_of_providers():
    assert [
        one.provider.provider_id for one in read({"openai": {"models": {}}, "groq": {"api_key": "x"}}).providers
    ] == [
        "openai",
        "groq",
    ]
    assert [one.provider.provider_id for one in read([AFTER, {**AFTER, "provider_id": "b"}]).providers] == [
        "openai",
        "b",
    ]


@pytest.mark.parametrize(
    ("raw", "guess"),
    [
        ({"provider_id": "groq"}, "groq"),
        ({"provider_id": "x", "api_base": "https://api.mistral.ai/v1"}, "mistral"),
        ({"provider_id": "x", "api_base": "https://acme.openai.azure.com"}, "azure_openai"),
        ({"provider_id": "azure_openai_prod"}, "azure_openai"),
        ({"provider_id": "x", "api_base": "http://10.0.0.7:9000/v1"}, "openai_compatible"),
    ],
)
def test_a_missing_type_is_guessed_from_id_or_address(raw, guess):
    assert one(raw).provider.facts["provider_type"] == guess


def test_a_type_that_cannot_be_guessed_is_a_mistake():
    assert "needs its type" in problems({"provider_id": "x", "models": {}})["provider_type"]


def test_the_type_of_a_stored_provider_is_not_guessed_over():
    Provider(provider_id="openai", provider_type="azure_openai").save()
    assert "provider_type" not in one(BEFORE).provider.facts


def test_a_secret_elsewhere_in_connection_params_stays_there_encrypted():
    found = one({**CREATE, "connection_params": {"headers": {"Authorization": "Bearer 9vQm2KxT7pLw", "X": "1"}}})
    assert found.provider.facts["connection_params"] == {"headers": {"X": "1"}}
    assert {path: secret.reveal() for path, secret in found.provider.secrets.items()} == {
        '["headers", "Authorization"]': "Bearer 9vQm2KxT7pLw"
    }


def test_a_key_among_a_models_parameters_becomes_a_disabled_key():
    found = one({**AFTER, "models": {"m": {"api_key": "sk-proj-Zr81Lq0pXw7Tn4", "top_p": 1}}})
    assert found.models[0].facts["parameters"] == {"top_p": 1}
    assert [(key.secrets["secret"].reveal(), key.facts["enabled"]) for key in found.keys] == [
        ("sk-proj-Zr81Lq0pXw7Tn4", False)
    ]


@pytest.mark.parametrize(
    ("where", "path"),
    [
        ({"organization": "sk-proj-Zr81Lq0pXw7Tn4qW"}, '["organization"]'),
        ({"deep": [{"note": "sk-proj-Zr81Lq0pXw7Tn4qW"}]}, '["deep", 0, "note"]'),
        ({"headers": '{"Authorization": "Bearer sk-proj-Zr81Lq0pXw7Tn4qW"}'}, '["headers"]'),
    ],
)
@pytest.mark.parametrize("frame", [{"provider_id": "a"}, {}], ids=["legacy", "own"])
def test_what_has_the_shape_of_a_key_is_encrypted_whatever_its_name(frame, where, path):
    provider = {**frame, "provider_type": "openai", "connection_params": where}
    found = one(provider if frame else {"version": 1, "providers": {"a": provider}})
    assert list(found.provider.secrets) == [path]
    assert "sk-proj" not in repr(found.provider.facts)


def test_a_parameter_that_has_the_shape_of_a_key_is_encrypted():
    parameter = {"param_name": "note", "param_value": "sk-proj-Zr81Lq0pXw7Tn4qW", "environment": "production"}
    (draft,) = one({**CREATE, "connection_parameters": [parameter]}).parameters
    assert draft.secrets["value"].reveal() == "sk-proj-Zr81Lq0pXw7Tn4qW"
    assert "plain_value" not in draft.facts


def test_a_secret_in_a_list_is_no_secret_of_the_provider():
    params = {"notes": ["sk-proj-Zr81Lq0pXw7Tn4qW", "b"]}
    found = one({**CREATE, "connection_params": params})
    assert found.provider.facts["connection_params"] == {"notes": ["", "b"]}
    assert [(key.secrets["secret"].reveal(), key.facts["enabled"]) for key in found.keys] == [
        ("sk-proj-Zr81Lq0pXw7Tn4qW", False)
    ]
    own = {"version": 1, "providers": {"a": {"provider_type": "openai", "connection_params": params}}}
    assert list(problems(own)) == ["providers.a.connection_params.notes[0]"]


@pytest.mark.parametrize("frame", [{"provider_id": "a"}, {}], ids=["legacy", "own"])
def test_a_tokenizers_tokens_are_no_secrets(frame):
    model = {"model_id": "m", "parameters": {"eos_token": "</s>", "pad_token": "<pad>"}}
    provider = {**frame, "provider_type": "openai", "models": [model]}
    found = one(provider if frame else {"version": 1, "providers": {"a": provider}})
    assert found.models[0].facts["parameters"] == model["parameters"]
    assert found.keys == []


def test_a_fernet_token_is_never_taken_for_a_key():
    token = "gAAAAABl" + "x" * 112 + "=="
    assert one({**AFTER, "api_key": token}).keys == []
    assert ("undecryptable", "api_key") in codes({**AFTER, "api_key": token})


def test_the_same_key_twice_is_one():
    document = {**AFTER, "api_keys": [{"key_value": "sk-1x9Q2mL"}, {"key_value": "sk-1x9Q2mL"}]}
    assert len(one(document).keys) == 1
    assert ("duplicate", "api_keys[1]") in codes(document)


def test_the_same_key_elsewhere_does_not_disable_it():
    document = {**AFTER, "api_key": "sk-1x9Q2mL", "request_settings": {"api_key": "sk-1x9Q2mL"}}
    (key,) = one(document).keys
    assert key.facts.get("enabled", True)
    assert ("duplicate", "request_settings.api_key") in codes(document)


def test_an_unknown_name_beside_nested_parameters_is_named_with_the_nearest():
    (finding,) = [f for f in read({**CREATE, "dispaly_name": "x"}).configuration.findings if f.field == "dispaly_name"]
    assert (finding.code.name, "'display_name'" in finding.detail) == ("unknown_name", True)


def test_a_flat_name_that_reads_like_a_misspelt_field_is_named():
    (finding,) = [f for f in read({**AFTER, "prioritty": 3}).configuration.findings if f.field == "prioritty"]
    assert (finding.code.name, "'priority'" in finding.detail) == ("unusual_name", True)
    assert one({**AFTER, "prioritty": 3}).provider.facts["connection_params"]["prioritty"] == 3


def test_a_variable_that_nothing_expands_is_named():
    assert ("not_expanded", "connection_params.api_base") in codes({**AFTER, "api_base": "http://${HOST}/v1"})


def test_every_mistake_is_named_with_its_place_at_once():
    document = {
        "version": 1,
        "providers": {
            "openai": {
                "provider_type": "openai",
                "prioritty": 2,
                "enabled": "perhaps",
                "models": [
                    {"model_id": "a"},
                    {"model_id": "a"},
                    {"max_tokens": 1},
                    {"model_id": "b", "max_tokens": "many", "input_cost_per_million": -1, "colour": "red"},
                ],
                "api_keys": [{"secret": "sk-1", "expires_at": "soon"}],
                "connection_parameters": [{"param_name": "x"}],
            },
            "new": {},
            "bad": 3,
        },
        "provider": {},
    }
    found = problems(document)
    assert found["providers.openai.prioritty"].endswith("Was 'priority' meant?")
    assert found["provider"].endswith("Was 'providers' meant?")
    assert set(found) == {
        "provider",
        "providers.openai.prioritty",
        "providers.openai.enabled",
        "providers.openai.models[1]",
        "providers.openai.models[2].model_id",
        "providers.openai.models[3].max_tokens",
        "providers.openai.models[3].input_cost_per_million",
        "providers.openai.models[3].colour",
        "providers.openai.api_keys[0].expires_at",
        "providers.openai.connection_parameters[0].param_value",
        "providers.new.provider_type",
        "providers.bad",
    }


def test_no_mistake_repeats_what_stands_there():
    document = {
        "version": 1,
        "providers": {"openai": {"provider_type": "openai", "api_keys": [{"secret": ["sk-9Qx"]}]}},
    }
    with pytest.raises(BadConfiguration) as caught:
        read(document)
    assert "sk-9Qx" not in str(caught.value)


@pytest.mark.parametrize("version", [2, "1", True, None])
def test_another_version_is_not_read(version):
    assert "version 1" in problems({"version": version, "providers": {}})["version"]


@pytest.mark.parametrize("document", [{}, {"a": 1}, {"hello": {"world": {}}}, "text: 1", "[1, 2]", "just words"])
def test_what_holds_no_providers_says_so(document):
    assert problems(document)


def test_an_id_that_contradicts_its_key_is_a_mistake():
    assert (
        "stands under 'a'"
        in problems({"version": 1, "providers": {"a": {"provider_id": "b"}}})["providers.a.provider_id"]
    )


def test_the_same_provider_twice_is_a_mistake():
    assert "stands at [0]" in problems([AFTER, AFTER])["[1]"]


def test_a_provider_in_both_places_of_a_gateways_file_is_one_if_both_say_the_same():
    both = {"providers": {"openai": AFTER}, "additional_config": {"providers": {"openai": AFTER}}}
    assert len(read(both).providers) == 1
    both["providers"] = {"openai": {**AFTER, "enabled": False}}
    assert "additional_config.providers.openai" in problems(both)


def test_what_a_file_of_ours_leaves_out_is_left_alone():
    Provider(provider_id="openai", provider_type="openai").save()
    assert one({"version": 1, "providers": {"openai": {"priority": 3}}}).provider.facts == {"priority": 3}


def test_a_reference_of_ours_means_the_stored_secret_with_that_fingerprint():
    provider = Provider(provider_id="openai", provider_type="openai")
    provider.save()
    ApiKey(provider=provider, secret="sk-proj-Zr81Lq0pXw7Tn4", environment="production").save()
    reference = reference_to("sk-proj-Zr81Lq0pXw7Tn4", "openai", "production")
    key = {"secret": reference, "environment": "production"}
    (draft,) = one({"version": 1, "providers": {"openai": {"api_keys": [key]}}}).keys
    assert draft.secrets["secret"].reveal() == "sk-proj-Zr81Lq0pXw7Tn4"
    (draft,) = one({"version": 1, "providers": {"b": {"provider_type": "openai", "api_keys": [key]}}}).keys
    assert draft.secrets["secret"].reveal() == reference


def test_a_reference_never_brings_a_stored_secret_into_the_clear():
    provider = Provider(provider_id="openai", provider_type="openai")
    provider.save()
    ApiKey(provider=provider, secret="sk-proj-Zr81Lq0pXw7Tn4").save()
    reference = reference_to("sk-proj-Zr81Lq0pXw7Tn4", "openai", "development")
    entry = {
        "description": reference,
        "connection_params": {"note": reference},
        "request_settings": {"api_key": reference},
        "connection_parameters": [{"param_name": "note", "param_value": reference, "is_sensitive": False}],
        "models": [{"model_id": "m", "parameters": {"api_key": reference}}],
    }
    for draft in one({"version": 1, "providers": {"openai": entry}}).drafts():
        assert "sk-proj" not in repr(draft.facts)


def test_a_draft_does_not_show_its_secrets():
    found = read({**AFTER, "api_key": "sk-proj-Zr81Lq0pXw7Tn4"})
    assert "sk-proj" not in repr(found)


def test_the_same_file_has_the_same_identity_and_digests():
    first, second = read(NESTED), read(NESTED)
    assert first.identity == second.identity
    assert [draft.origin for one in first.providers for draft in one.drafts()] == [
        draft.origin for one in second.providers for draft in one.drafts()
    ]
    assert {draft.kind for one in first.providers for draft in one.drafts()} == {Kind.PROVIDER, Kind.KEY, Kind.MODEL}


# --- The text ---------------------------------------------------------------------------------------------------------------


def refused(text, file_format="yaml"):
    with pytest.raises(BadDocument) as caught:
        documents.parse(text, file_format)
    return str(caught.value)


def test_a_key_that_stands_twice_is_named_with_its_line():
    assert "'b' stands twice in one object (line 3, column 1)" in refused("a: 1\nb: 1\nb: 2\n")
    assert "'b' stands twice" in refused('{"b": 1, "b": 2}', "json")


def test_a_key_that_stands_twice_among_many_is_named():
    members = ",".join(f'"k{number}": 1' for number in [*range(200_000), 199_999])
    assert "'k199999' stands twice" in refused("{" + members + "}", "json")


def test_aliases_and_merges_are_read():
    text = "base: &base {a: 1, b: 2}\none: *base\ntwo: {<<: *base, b: 3}\n"
    assert documents.parse(text) == {"base": {"a": 1, "b": 2}, "one": {"a": 1, "b": 2}, "two": {"a": 1, "b": 3}}


def test_aliases_that_multiply_are_refused():
    laughs = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    laughs += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    assert "aliases repeat more than" in refused("\n".join(laughs))


def test_merges_that_multiply_are_refused():
    laughs = ["a0: &a0 {x: 1}"]
    laughs += [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}], k{n}: 1}}" for n in range(1, 10)]
    assert "aliases repeat more than" in refused("\n".join(laughs))


def test_an_alias_to_what_it_stands_in_is_refused():
    assert "stands in" in refused("a: &a [*a]")


@pytest.mark.parametrize("text", ["[" * 200_000, "{a: " * 200_000, "- " * 200_000])
def test_a_document_of_any_depth_is_refused_and_not_built(text):
    assert "60 levels deep" in refused(text)


def test_json_of_any_depth_is_refused():
    assert "60 levels deep" in refused("[" * 200_000 + "]" * 200_000, "json")
    assert "60 levels deep" in refused("[" * 100 + "]" * 100, "json")


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system ['true']",
        "a: !!python/name:os.system x",
        "a: !secret x",
        "a: !!set {b}",
        "? [a]\n: 1",
    ],
)
def test_tags_and_odd_keys_are_refused(text):
    assert "line 1" in refused(text)


@pytest.mark.parametrize(
    "text",
    ["", "  \n", "a: [1", "a: 'b", "\t- a", "--- a\n--- b\n", "a: .nan", "a: \x07", b"\xff\xfe", "a: 0x" + "f" * 6_000],
)
def test_what_is_no_document_says_so(text):
    assert refused(text)


def test_a_mistake_of_the_text_is_named_without_quoting_it():
    sentence = refused("ok: 1\nsecret: [sk-9Qx\n")
    assert "line 3" in sentence
    assert "sk-9Qx" not in sentence


def test_a_file_that_is_too_long_is_not_read(monkeypatch):
    monkeypatch.setattr(documents, "LARGEST_BYTES", 10)
    assert "at most 10" in refused("a" * 11)


def test_what_is_too_long_for_yaml_may_be_json(monkeypatch):
    monkeypatch.setattr(documents, "LARGEST_YAML_BYTES", 10)
    assert "write it as JSON" in refused("a: 1234567890")
    assert documents.parse('{"a": 1234567890}') == {"a": 1234567890}


def test_a_null_character_is_named_with_its_place():
    assert refused('{"a": [{"b c": "x\\u0000"}]}', "json").startswith('a[0]["b c"]: ')


def test_names_and_dates_are_texts_as_they_are_written():
    assert documents.parse("1.10: a\non: 2027-01-31\n") == {"1.10": "a", "on": "2027-01-31"}


def test_braces_without_a_format_may_be_either():
    assert documents.parse('{"a": 1e5}') == {"a": 1e5}
    assert documents.parse("{a: 1}") == {"a": 1}
