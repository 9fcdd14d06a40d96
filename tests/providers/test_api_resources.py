import pytest

from providers import actions, revision
from providers.models import ApiKey, AuditEntry, ConnectionParameter, Provider, ProviderModel
from tests.callers import REGISTRY, caller

pytestmark = pytest.mark.django_db


@pytest.fixture
def api():
    return caller(*REGISTRY)


@pytest.fixture
def provider():
    return actions.create_provider({"provider_id": "p", "provider_type": "openai"})


def errors_of(response):
    assert response.status_code == 400
    return {error["field"] for error in response.json()["errors"]}


def test_pages_are_walked_by_cursor_and_rows_added_meanwhile_do_not_shift_them(api, provider):
    for number in range(7):
        actions.add_model(provider, {"model_id": f"m{number}"})
    page = api.get("/api/v1/provider-models?limit=3").json()
    seen = [row["model_id"] for row in page["results"]]
    actions.add_model(provider, {"model_id": "late"})
    while page["next"]:
        page = api.get(page["next"]).json()
        seen += [row["model_id"] for row in page["results"]]
    assert seen == [*(f"m{number}" for number in range(7)), "late"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("provider_id=p", ["chat", "embed"]),
        ("provider_id=q", ["other"]),
        ("model_type=embedding", ["embed"]),
        ("capability=vision", ["chat"]),
        ("enabled=false", ["other"]),
        ("provider_id=nobody", []),
    ],
)
def test_models_are_filtered(api, provider, query, expected):
    other = actions.create_provider({"provider_id": "q", "provider_type": "openai"})
    actions.add_model(provider, {"model_id": "chat", "capabilities": ["vision"]})
    actions.add_model(provider, {"model_id": "embed", "model_type": "embedding"})
    actions.add_model(other, {"model_id": "other", "enabled": False})
    rows = api.get(f"/api/v1/provider-models?{query}").json()["results"]
    assert [row["model_id"] for row in rows] == expected


def test_chosen_fields_are_shown_alone(api, provider):
    rows = api.get("/api/v1/providers?fields=provider_id,enabled").json()["results"]
    assert rows == [{"provider_id": "p", "enabled": True}]
    assert api.get("/api/v1/providers/p?fields=provider_id").json() == {"provider_id": "p"}
    assert errors_of(api.get("/api/v1/providers?fields=provider_id,nonsense")) == {"fields"}


def test_unknown_fields_of_a_body_are_refused_by_name(api):
    body = {"provider_id": "x", "provider_type": "openai", "enabeld": True}
    assert errors_of(api.post("/api/v1/providers", body)) == {"enabeld"}


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_resource_answers_with_and_without_a_slash(api, slash):
    body = {"provider_id": "x", "provider_type": "openai"}
    assert api.post(f"/api/v1/providers{slash}", body).status_code == 201
    assert api.get(f"/api/v1/providers/x{slash}").json()["provider_id"] == "x"


def test_a_dry_run_answers_as_the_write_would_and_changes_nothing(api, provider):
    before = revision.current(), AuditEntry.objects.count()
    created = api.post("/api/v1/providers?dry_run=true", {"provider_id": "x", "provider_type": "openai"})
    assert (created.status_code, created["Dry-Run"]) == (200, "true")
    assert created.json()["display_name"] == "x"
    changed = api.patch("/api/v1/providers/p?dry_run=true", {"display_name": "Other"})
    assert changed.json()["display_name"] == "Other"
    assert api.delete("/api/v1/providers/p?dry_run=true").status_code == 200
    assert (revision.current(), AuditEntry.objects.count()) == before
    assert [row.display_name for row in Provider.objects.all()] == ["p"]


def test_a_dry_run_finds_what_is_wrong(api, provider):
    body = {"provider_id": "p", "provider_type": "openai"}
    assert api.post("/api/v1/providers?dry_run=true", body).status_code == 409


def test_a_write_is_refused_when_somebody_was_quicker(api, provider):
    read = api.get("/api/v1/providers/p")
    first = api.patch("/api/v1/providers/p", {"priority": 2}, HTTP_IF_MATCH=read["ETag"])
    assert first.status_code == 200
    second = api.patch("/api/v1/providers/p", {"priority": 3}, HTTP_IF_MATCH=read["ETag"])
    assert second.status_code == 412
    assert second.json()["code"] == "changed"
    assert Provider.objects.get().priority == 2
    assert api.delete("/api/v1/providers/p", HTTP_IF_MATCH=read["ETag"]).status_code == 412
    assert api.delete("/api/v1/providers/p", HTTP_IF_MATCH=first["ETag"]).status_code == 204


def test_an_unchanged_resource_is_not_sent_again(api, provider):
    read = api.get("/api/v1/providers/p")
    assert api.get("/api/v1/providers/p", HTTP_IF_NONE_MATCH=read["ETag"]).status_code == 304


def test_prices_are_exact_decimals(api, provider):
    body = {"provider_id": "p", "model_id": "m", "input_cost_per_million": "0.15", "output_cost_per_million": "0.6"}
    created = api.post("/api/v1/provider-models", body)
    assert created.status_code == 201
    assert created.json()["input_cost_per_million"] == "0.1500000000"
    assert errors_of(api.post("/api/v1/provider-models", body | {"model_id": "n", "input_cost_per_million": "-1"})) == {
        "input_cost_per_million"
    }


def test_a_key_is_written_and_never_read(api, provider):
    created = api.post("/api/v1/api-keys", {"provider_id": "p", "secret": "sk-canary-0123456789"})
    assert created.status_code == 201
    assert "canary" not in created.content.decode()
    assert created.json()["hint"] == "sk-…6789"
    changed = api.patch(f"/api/v1/api-keys/{created.json()['id']}", {"enabled": False})
    assert changed.json()["enabled"] is False
    key = ApiKey.objects.get()
    assert key.secret.reveal() == "sk-canary-0123456789"
    rotated = api.patch(f"/api/v1/api-keys/{key.pk}", {"secret": "sk-another-987654321"}).json()
    assert rotated["fingerprint"] != created.json()["fingerprint"]
    assert ApiKey.objects.get().secret.reveal() == "sk-another-987654321"


def test_a_parameter_named_like_a_secret_becomes_one(api, provider):
    body = {"provider_id": "p", "param_name": "client_secret", "param_value": "canary"}
    created = api.post("/api/v1/connection-parameters", body)
    assert created.json()["is_sensitive"] is True
    assert created.json()["param_value"] is None
    assert ConnectionParameter.objects.get().secret_value.reveal() == "canary"
    assert api.post("/api/v1/connection-parameters", body).status_code == 409


def test_a_stored_secret_is_not_turned_into_plain_text(api, provider):
    body = {"provider_id": "p", "param_name": "handle", "param_value": "canary", "is_sensitive": True}
    row = api.post("/api/v1/connection-parameters", body).json()
    path = f"/api/v1/connection-parameters/{row['id']}"
    assert errors_of(api.patch(path, {"is_sensitive": False})) == {"param_value"}
    assert api.patch(path, {"is_sensitive": False, "param_value": "open"}).json()["param_value"] == "open"


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("providers/p", {"provider_id": "renamed"}, "provider_id"),
        ("provider-models/{model}", {"provider_id": "q"}, "provider_id"),
        ("connection-parameters/{parameter}", {"param_name": "renamed"}, "param_name"),
    ],
)
def test_what_names_a_row_cannot_be_changed(api, provider, path, body, field):
    actions.create_provider({"provider_id": "q", "provider_type": "openai"})
    model = actions.add_model(provider, {"model_id": "m"})
    parameter = actions.add_parameter(provider, {"param_name": "n", "param_value": "v"})
    path = path.format(model=model.pk, parameter=parameter.pk)
    assert errors_of(api.patch(f"/api/v1/{path}", body)) == {field}


def test_a_part_of_an_unknown_provider_is_refused(api):
    assert errors_of(api.post("/api/v1/provider-models", {"provider_id": "x", "model_id": "m"})) == {"provider_id"}


@pytest.mark.parametrize("path", ["provider-models/999999999999999999", "provider-models/9" + "9" * 40, "api-keys/abc"])
def test_an_id_that_cannot_be_is_404(api, path):
    assert api.get(f"/api/v1/{path}").status_code == 404


def test_the_audit_log_is_read_newest_first_and_filtered(provider):
    admin = caller("admin")
    admin.patch("/api/v1/providers/p", {"priority": 5}, headers={"X-Request-Id": "req-5"})
    newest = admin.get("/api/v1/audit").json()["results"][0]
    assert (newest["action"], newest["target_id"], newest["after"]["priority"]) == ("update", "p", 5)
    assert len(admin.get("/api/v1/audit?request_id=req-5").json()["results"]) == 1
    assert admin.get("/api/v1/audit?action=reveal").json()["results"] == []
    assert admin.delete(f"/api/v1/audit/{newest['id']}").status_code == 405
    assert admin.get("/api/v1/audit?since=not-a-time").status_code == 400


def test_provider_types_are_told_with_their_parameters(api):
    kinds = {kind["name"]: kind for kind in api.get("/api/v1/provider-types").json()}
    assert kinds["openai"]["needs_key"] is True
    assert {"base_url", "headers"} <= {parameter["name"] for parameter in kinds["openai_compatible"]["parameters"]}
    assert kinds["llama_cpp"]["runs_in"] == "worker"


def test_a_probe_is_run_and_kept(api):
    fake = actions.create_provider({"provider_id": "f", "provider_type": "fake"}, models=[{"model_id": "fake-chat"}])
    created = api.post("/api/v1/probes", {"provider_id": "f", "generate": False})
    assert created.status_code == 201
    assert created.json()["trigger"] == "api"
    assert [stage["name"] for stage in created.json()["stages"]][:2] == ["dns", "tcp"]
    listed = api.get("/api/v1/probes?provider_id=f").json()["results"]
    assert [row["id"] for row in listed] == [created.json()["id"]]
    assert fake.probes.count() == 1
    assert not ProviderModel.objects.exclude(provider=fake).exists()
