import pytest

from providers.models import ApiKey, AuditEntry, ConnectionParameter, Provider, ProviderModel, RegistryRevision
from tests.callers import REGISTRY, SEED_BODY, caller

pytestmark = pytest.mark.django_db

PROVIDER_FIELDS = {
    "provider_id",
    "display_name",
    "provider_type",
    "description",
    "enabled",
    "created_at",
    "updated_at",
    "models",
    "connection_parameters",
    "connection_params",
    "request_settings",
}


@pytest.fixture
def api():
    return caller(*REGISTRY, "secrets:read")


@pytest.fixture
def openai(api):
    assert api.post("/providers", SEED_BODY).status_code == 201
    return Provider.objects.get(provider_id="openai")


def errors_of(response):
    assert response["Content-Type"] == "application/problem+json"
    return {error["field"]: error["message"] for error in response.json()["errors"]}


def test_the_seeds_body_creates_a_provider_with_all_its_parts(api):
    response = api.post("/providers", SEED_BODY)
    assert response.status_code == 201
    body = response.json()
    assert set(body) - {"warnings"} == PROVIDER_FIELDS
    assert body["connection_params"] == {"api_base": "https://api.openai.com/v1"}
    assert body["models"] == [
        {
            "model_id": "gpt-4-turbo-preview",
            "display_name": "GPT-4 Turbo",
            "model_type": "chat",
            "context_window": 128000,
            "max_tokens": 4096,
            "enabled": True,
            "capabilities": [],
            "parameters": {},
        }
    ]
    assert ApiKey.objects.get().secret.reveal() == "your-api-key"


def test_a_placeholder_key_is_accepted_and_named_in_a_warning(api):
    assert "placeholder" in api.post("/providers", SEED_BODY).json()["warnings"][0]
    real = {"provider_id": "b", "provider_type": "openai", "api_key": {"key_value": "sk-proj-4fT9aQ2LmZ"}}
    assert "warnings" not in api.post("/providers", real).json()


def test_a_reference_that_cannot_be_read_now_is_stored_with_a_warning_at_every_address(api):
    key = {"key_value": "env:NOT_SET_API_KEY"}
    made = api.post("/providers", {"provider_id": "p", "provider_type": "openai", "api_key": key})
    again = api.post("/providers/p/api-keys", key)
    row = api.post("/api/v1/api-keys", {"provider_id": "p", "secret": key["key_value"]})
    renamed = api.patch("/api/v1/providers/p", {"display_name": "P"})
    assert [one.status_code for one in (made, again, row, renamed)] == [201, 200, 201, 200]
    assert all("NOT_SET_API_KEY" in one.json()["warnings"][0] for one in (made, again, row, renamed))


@pytest.mark.parametrize("path", ["/providers", "/providers/", "/api/providers", "/api/providers/"])
def test_both_forms_of_a_path_create_without_a_redirect(api, path):
    assert api.post(path, SEED_BODY).status_code == 201
    assert [provider["provider_id"] for provider in api.get(path).json()] == ["openai"]


def test_a_minimal_body_gets_the_defaults(api):
    body = {
        "provider_id": "p",
        "provider_type": "openai",
        "models": [{"model_id": "m"}],
        "connection_parameters": [{"param_name": "organization", "param_value": "acme"}],
        "api_keys": [{"key_value": "sk-1"}],
    }
    created = api.post("/providers", body).json()
    assert created["display_name"] == "p"
    assert created["enabled"] is True
    assert created["models"][0]["model_type"] == "chat"
    assert created["models"][0]["display_name"] == "m"
    assert created["connection_parameters"] == [
        {"param_name": "organization", "param_value": "acme", "is_sensitive": False, "environment": "development"}
    ]
    assert api.get("/providers/p/api-keys").json()[0]["environment"] == "development"


def test_a_bad_model_leaves_nothing_behind(api):
    body = SEED_BODY | {"models": [{"model_id": "good"}, {"model_id": "bad", "context_window": "plenty"}]}
    revision = RegistryRevision.objects.values_list("number", flat=True).first()
    response = api.post("/providers", body)
    assert response.status_code == 400
    assert "models[1].context_window" in errors_of(response)
    assert not Provider.objects.exists()
    assert not AuditEntry.objects.filter(target_type="provider").exists()
    assert RegistryRevision.objects.values_list("number", flat=True).first() == revision


def test_a_model_that_stands_twice_is_named(api):
    response = api.post("/providers", SEED_BODY | {"models": [{"model_id": "m"}, {"model_id": "m"}]})
    assert list(errors_of(response)) == ["models[1].model_id"]


def test_an_unknown_type_is_refused_with_the_known_ones(api):
    response = api.post("/providers", SEED_BODY | {"provider_type": "opnai"})
    assert response.status_code == 400
    message = errors_of(response)["provider_type"]
    assert "'opnai'" in message
    assert "openai" in message
    assert "llama_cpp" in message


def test_a_duplicate_is_a_conflict(api, openai):
    response = api.post("/providers", SEED_BODY)
    assert response.status_code == 409
    assert "openai" in response.json()["detail"]
    assert Provider.objects.count() == 1


def test_an_update_leaves_what_it_does_not_name(api, openai):
    before = api.get("/providers/openai").json()
    after = api.put("/providers/openai", {"enabled": False}).json()
    assert after["enabled"] is False
    unchanged = PROVIDER_FIELDS - {"enabled", "updated_at"}
    assert {name: after[name] for name in unchanged} == {name: before[name] for name in unchanged}
    assert after["updated_at"] > before["updated_at"]


def test_what_was_read_can_be_written_back_without_losing_a_secret(api):
    params = {"base_url": "https://up.example/v1", "api_key": "sk-inline", "headers": {"Authorization": "Bearer x"}}
    api.post("/providers", {"provider_id": "p", "provider_type": "openai_compatible", "connection_params": params})
    shown = api.get("/providers/p").json()
    assert shown["connection_params"] == {"base_url": "https://up.example/v1", "headers": {}}
    assert api.put("/providers/p", shown).status_code == 200
    full = Provider.objects.get().full_connection_params()
    assert full["api_key"].reveal() == "sk-inline"
    assert full["headers"]["Authorization"].reveal() == "Bearer x"


def test_null_forgets_a_secret_and_a_text_replaces_it(api):
    params = {"api_key": "sk-old", "headers": {"Authorization": "Bearer old"}}
    api.post("/providers", {"provider_id": "p", "provider_type": "openai_compatible", "connection_params": params})
    changed = {"connection_params": {"api_key": None, "headers": {"Authorization": "Bearer new"}}}
    assert api.put("/providers/p", changed).json()["connection_params"] == {"headers": {}}
    full = Provider.objects.get().full_connection_params()
    assert "api_key" not in full
    assert full["headers"]["Authorization"].reveal() == "Bearer new"


def test_deleting_answers_json(api, openai):
    response = api.delete("/providers/openai")
    assert response.status_code == 200
    assert response.json()["provider_id"] == "openai"
    assert isinstance(response.json()["message"], str)
    assert not ProviderModel.objects.exists()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("get", "/providers/nobody"),
        ("put", "/providers/nobody"),
        ("delete", "/providers/nobody"),
        ("get", "/providers/nobody/models"),
        ("post", "/providers/nobody/models"),
        ("get", "/providers/openai/models/nothing"),
        ("get", "/providers/openai/api-keys/999/value"),
        ("post", "/providers/nobody/test"),
        ("post", "/providers/nobody/sync"),
    ],
)
def test_what_is_not_there_is_404(api, openai, method, path):
    assert getattr(api, method)(path, {}).status_code == 404


MODEL_IDS = [
    "meta-llama/Meta-Llama-3-8B-Instruct",
    "llama3:8b",
    "通义千问-72b",
    "a b",
    "x.y/z:w@1",
    "models",
    "api-keys",
]


@pytest.mark.parametrize("prefix", ["/providers", "/api/providers"])
@pytest.mark.parametrize("model_id", MODEL_IDS)
def test_any_model_id_is_addressable(api, openai, prefix, model_id):
    from urllib.parse import quote

    assert api.post("/providers/openai/models", {"model_id": model_id}).status_code == 201
    for written in {quote(model_id), quote(model_id, safe="")}:
        for slash in ("", "/"):
            response = api.get(f"{prefix}/openai/models/{written}{slash}")
            assert response.status_code == 200
            assert response.json()["model_id"] == model_id
            assert response.json()["provider_id"] == "openai"
    assert api.put(f"{prefix}/openai/models/{quote(model_id)}", {"max_tokens": 7}).json()["max_tokens"] == 7
    deleted = api.delete(f"{prefix}/openai/models/{quote(model_id)}")
    assert deleted.status_code == (200 if prefix == "/providers" else 204)
    assert not ProviderModel.objects.filter(model_id=model_id).exists()


def test_one_model_id_may_stand_under_two_providers(api, openai):
    api.post("/providers", {"provider_id": "azure", "provider_type": "azure_openai"})
    for provider, limit in (("openai", 16000), ("azure", 4000)):
        body = {"model_id": "gpt-4o", "provider_id": provider, "max_tokens": limit}
        assert api.post(f"/providers/{provider}/models", body).status_code == 201
    assert api.get("/providers/azure/models/gpt-4o").json()["max_tokens"] == 4000
    assert api.post("/providers/azure/models", {"model_id": "gpt-4o"}).status_code == 409


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/models", {"model_id": "m", "provider_id": "other"}),
        ("/api-keys", {"key_value": "sk-1", "provider_id": "other"}),
        ("/connection-params", {"param_name": "n", "param_value": "v", "provider_id": "other"}),
    ],
)
def test_path_and_body_must_agree_except_in_the_backoffices_shape(api, openai, path, body):
    refused = api.post(f"/providers/openai{path}", body)
    assert refused.status_code == 400
    assert list(errors_of(refused)) == ["provider_id"]
    accepted = api.post(f"/api/providers/openai{path}", body)
    assert accepted.status_code == 201
    assert accepted.json()["provider_id"] == "openai"


def test_keys_of_several_environments_are_listed_without_their_values(api, openai):
    for environment in ("staging", "production"):
        body = {"provider_id": "openai", "key_value": f"sk-{environment}", "environment": environment}
        created = api.post("/providers/openai/api-keys", body | {"expires_at": "2031-01-01T00:00:00Z"})
        assert created.status_code == 200
        assert f"sk-{environment}" not in created.content.decode()
    listed = api.get("/providers/openai/api-keys").json()
    assert {key["environment"] for key in listed} == {"development", "staging", "production"}
    fields = {"key_id", "provider_id", "is_encrypted", "environment", "created_at", "expires_at"}
    assert all(set(key) == fields for key in listed)


@pytest.mark.parametrize("is_encrypted", [True, False])
def test_a_key_reads_back_and_is_encrypted_whatever_the_flag_says(api, openai, is_encrypted):
    created = api.post("/providers/openai/api-keys", {"key_value": "sk-mine", "is_encrypted": is_encrypted}).json()
    value = api.get(f"/providers/openai/api-keys/{created['key_id']}/value")
    assert value.json() == {"key_id": created["key_id"], "provider_id": "openai", "key_value": "sk-mine"}
    assert value["Cache-Control"] == "no-store"
    stored = ApiKey._base_manager.filter(pk=created["key_id"]).values_list("secret", flat=True)[0].ciphertext
    assert "sk-mine" not in stored


def test_revealing_a_key_is_audited_without_the_value(api, openai):
    key = ApiKey.objects.get()
    api.get(f"/providers/openai/api-keys/{key.pk}/value")
    entry = AuditEntry.objects.first()
    assert (entry.action, entry.target_id) == ("reveal", f"openai/key/{key.pk}")
    assert entry.actor.startswith("key:gw-")
    assert entry.after == {"fingerprint": key.fingerprint}


def test_a_key_is_found_under_its_own_provider_only(api, openai):
    api.post("/providers", {"provider_id": "anthropic", "provider_type": "anthropic"})
    key = ApiKey.objects.get()
    entries = AuditEntry.objects.count()
    assert api.get(f"/providers/anthropic/api-keys/{key.pk}/value").status_code == 404
    assert api.delete(f"/providers/anthropic/api-keys/{key.pk}").status_code == 404
    assert AuditEntry.objects.count() == entries


def test_revealing_needs_its_own_scope(openai):
    registrar = caller(*REGISTRY)
    key = ApiKey.objects.get()
    for prefix in ("/providers", "/api/providers"):
        assert registrar.get(f"{prefix}/openai/api-keys/{key.pk}/value").status_code == 403
    assert registrar.get("/providers/openai/connection-params").status_code == 200
    assert registrar.get("/providers/openai/connection-params?include_sensitive=true").status_code == 403


def test_parameters_are_set_again_by_the_same_call(api, openai):
    body = {"provider_id": "openai", "param_name": "base_url", "param_value": "https://one.example"}
    first = api.post("/providers/openai/connection-params", body).json()
    again = api.post("/providers/openai/connection-params", body | {"param_value": "https://two.example"}).json()
    assert again["param_id"] == first["param_id"]
    assert again["param_value"] == "https://two.example"
    api.post("/providers/openai/connection-params", body | {"environment": "production", "param_value": "https://p"})
    assert api.get("/providers/openai/connection-params").json() == {"base_url": "https://two.example"}
    production = api.get("/providers/openai/connection-params?environment=production").json()
    assert production == {"base_url": "https://p"}


def test_sensitive_values_show_only_on_request_and_are_audited(api, openai):
    body = {"param_name": "session_cookie", "param_value": "s3cr3t-cookie", "is_sensitive": True}
    created = api.post("/providers/openai/connection-params", body).json()
    assert created["param_value"] is None
    assert created["is_sensitive"] is True
    assert api.get("/providers/openai/connection-params").json() == {}
    listed = api.get("/providers/openai").json()["connection_parameters"]
    assert listed[0]["param_value"] is None
    shown = api.get("/providers/openai/connection-params?include_sensitive=true").json()
    assert shown == {"session_cookie": "s3cr3t-cookie"}
    assert AuditEntry.objects.first().action == "reveal"


def test_a_sensitive_parameter_stays_so_when_only_its_value_changes(api, openai):
    body = {"param_name": "handle", "param_value": "one", "is_sensitive": True}
    api.post("/providers/openai/connection-params", body)
    api.post("/providers/openai/connection-params", {"param_name": "handle", "param_value": "two"})
    row = ConnectionParameter.objects.get()
    assert row.is_sensitive
    assert row.secret_value.reveal() == "two"


def test_both_ways_to_give_connection_parameters_are_taken(api):
    body = {
        "provider_id": "p",
        "provider_type": "openai_compatible",
        "connection_params": {"api_base": "https://a.example"},
        "connection_parameters": [{"param_name": "organization", "param_value": "acme", "environment": "staging"}],
    }
    created = api.post("/providers", body).json()
    assert created["connection_params"] == {"api_base": "https://a.example"}
    assert created["connection_parameters"][0]["environment"] == "staging"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"provider_id": "a/b"}, "provider_id"),
        ({"provider_id": " p"}, "provider_id"),
        ({"provider_id": ""}, "provider_id"),
        ({"provider_id": "p" * 256}, "provider_id"),
        ({"connection_params": ["not", "an", "object"]}, "connection_params"),
        ({"connection_params": {"note": "nul\u0000"}}, "connection_params"),
        ({"request_settings": {"api_key": "sk-1"}}, "request_settings"),
        ({"enabled": "perhaps"}, "enabled"),
        ({"api_key": {"key_value": ""}}, "api_key.key_value"),
        ({"models": [{"model_id": "m", "max_tokens": 10**20}]}, "models[0].max_tokens"),
        ({"models": [{"model_id": "m", "parameters": {"api_key": "sk"}}]}, "models[0].parameters"),
        ({"connection_parameters": [{"param_name": "x"}]}, "connection_parameters[0].param_value"),
    ],
)
def test_a_bad_field_is_named_and_nothing_is_written(api, body, field):
    response = api.post("/providers", {"provider_id": "p", "provider_type": "openai"} | body)
    assert response.status_code == 400
    assert list(errors_of(response)) == [field]
    assert not Provider.objects.exists()


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"text"', b"null", b"[" * 100_000])
def test_a_body_that_is_no_object_is_a_400(api, body):
    assert api.generic("POST", "/providers", body, content_type="application/json").status_code == 400


@pytest.mark.parametrize("reference", ["file:/etc/passwd", "env:HOME"])
def test_only_an_admin_may_refer_to_the_gateways_own_machine(openai, reference):
    body = {"key_value": reference}
    assert caller(*REGISTRY, "secrets:read").post("/providers/openai/api-keys", body).status_code == 400
    assert caller("admin").post("/providers/openai/api-keys", body).status_code == 200


@pytest.mark.parametrize("reference", ["env:GATEWAY_SECRET_KEY", "env:DATABASE_URL", "file:/proc/self/environ"])
def test_nobody_may_refer_to_the_gateways_own_secrets(openai, reference):
    response = caller("admin").post("/providers/openai/api-keys", {"key_value": reference})
    assert "belongs to the gateway itself" in errors_of(response)["key_value"]
    sneaky = {"connection_params": {"api_key_env_var": "GATEWAY_SECRET_KEY"}}
    assert list(errors_of(caller("admin").put("/providers/openai", sneaky))) == ["connection_params.api_key_env_var"]


def test_anybody_may_refer_to_a_variable_named_like_a_providers_key(openai):
    body = {"key_value": "env:GROQ_API_KEY"}
    assert caller(*REGISTRY).post("/providers/openai/api-keys", body).status_code == 200
    sneaky = {"connection_params": {"api_key_env_var": "GATEWAY_ENCRYPTION_KEYS"}}
    assert caller(*REGISTRY).put("/providers/openai", sneaky).status_code == 400


@pytest.mark.parametrize(
    "body",
    [
        {"connection_params": {"headers": {"Authorization": "file:/etc/passwd"}}},
        {"connection_params": {"chain": [{"secret": "env:HOME"}]}},
        {"connection_params": {"proxy": "env:HOME"}},
    ],
)
def test_a_reference_inside_connection_params_is_for_admins_too(openai, body):
    response = caller(*REGISTRY).put("/providers/openai", body)
    assert list(errors_of(response)) == [f"connection_params.{next(iter(body['connection_params']))}"]
    assert caller("admin").put("/providers/openai", body).status_code == 200


def test_a_reference_in_a_parameter_is_for_admins_too(openai):
    body = {"param_name": "proxy", "param_value": "file:/etc/passwd", "is_sensitive": True}
    assert "param_value" in errors_of(caller(*REGISTRY).post("/providers/openai/connection-params", body))
    assert caller("admin").post("/providers/openai/connection-params", body).status_code == 200


def test_the_backoffices_codes_and_bodies(api):
    assert api.post("/api/providers", SEED_BODY).status_code == 201
    key = ApiKey.objects.get()
    assert api.get(f"/api/providers/openai/api-keys/{key.pk}/value").json() == {"key_value": "your-api-key"}
    deleted = api.delete("/api/providers/openai")
    assert deleted.status_code == 204
    assert deleted.content == b""


def test_changes_are_attributed_to_the_key_and_the_request(api):
    api.post("/providers", SEED_BODY, headers={"X-Request-Id": "req-77"})
    api.put("/providers/openai", {"display_name": "New name"}, headers={"X-Request-Id": "req-78"})
    update = AuditEntry.objects.first()
    assert update.actor.startswith("key:gw-")
    assert update.request_id == "req-78"
    assert update.before["display_name"] == "OpenAI"
    assert update.after["display_name"] == "New name"
    assert {entry.target_type for entry in AuditEntry.objects.filter(request_id="req-77")} == {
        "provider",
        "providermodel",
        "apikey",
    }
    assert Provider.objects.get().created_by == update.actor


def test_listing_many_providers_takes_as_many_queries_as_listing_one(api, openai, django_assert_num_queries):
    for number in range(5):
        body = {"provider_id": f"p{number}", "provider_type": "openai", "models": [{"model_id": "m"}]}
        api.post("/providers", body)
    with django_assert_num_queries(4):
        assert len(api.get("/providers").json()) == 6
