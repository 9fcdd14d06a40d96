import json
import uuid

import pytest

from providers import exporting
from providers.importers import documents
from providers.models import ApiKey, AuditEntry, ImportRun, Provider
from tests.callers import REGISTRY, caller
from tests.providers import registries

pytestmark = pytest.mark.django_db

PATH = "/api/v1/config"
YAML = """\
version: 1
providers:
  openai:
    provider_type: openai
    api_keys:
      - secret: sk-proj-Qm82xWv71
        environment: production
"""


@pytest.fixture
def api():
    return caller("admin")


def send(api, body, query="", content_type="application/yaml"):
    return api.generic("POST", f"{PATH}{query}", body, content_type=content_type)


@pytest.mark.parametrize("scopes", [REGISTRY, ("secrets:read",)])
def test_only_an_admin_may_read_or_write_it(scopes):
    assert caller(*scopes).get(PATH).status_code == 403
    assert send(caller(*scopes), YAML, "?apply=true").status_code == 403
    assert not Provider.objects.exists()


def test_it_is_yaml_unless_asked_otherwise(api):
    registries.build()
    answer = api.get(PATH)
    assert answer["Content-Type"] == "application/yaml; charset=utf-8"
    assert answer.content.decode() == exporting.text("yaml")
    assert not [secret for secret in registries.SECRETS if secret in answer.content.decode()]


@pytest.mark.parametrize(("query", "accept"), [("?format=json", "*/*"), ("", "application/json")])
def test_it_is_json_if_the_query_or_the_header_says_so(api, query, accept):
    registries.build()
    answer = api.get(f"{PATH}{query}", HTTP_ACCEPT=accept)
    assert answer["Content-Type"] == "application/json"
    assert answer.content.decode() == exporting.text("json")


def test_the_older_name_of_yaml_is_answered(api):
    assert documents.parse(api.get(PATH, HTTP_ACCEPT="application/x-yaml").content)["version"] == 1


def test_only_the_providers_asked_for(api):
    registries.build()
    assert list(documents.parse(api.get(f"{PATH}?only=local").content)["providers"]) == ["local"]
    missing = api.get(f"{PATH}?only=nobody")
    assert missing.status_code == 404
    assert json.loads(missing.content)["detail"] == "No provider is named 'nobody'."


def test_a_name_that_no_database_takes_is_not_found(api):
    assert api.get(PATH, {"only": "\0"}).status_code == 404


def test_without_apply_the_answer_is_what_would_change(api):
    answer = send(api, YAML)
    assert answer.status_code == 200
    body = answer.json()
    assert (body["applied"], body["run"]) == (False, None)
    assert [(change["action"], change["kind"], change["provider_id"]) for change in body["changes"]] == [
        ("add", "provider", "openai"),
        ("add", "key", "openai"),
    ]
    assert "sk-proj-Qm82xWv71" not in answer.content.decode()
    assert not Provider.objects.exists()
    assert not ImportRun.objects.exists()


@pytest.mark.parametrize("path", [PATH, PATH + "/"])
def test_with_apply_it_is_written_and_audited_to_the_caller(api, path):
    body = api.generic("POST", f"{path}?apply=true", YAML, content_type="application/yaml").json()
    assert body["applied"] is True
    assert ApiKey.objects.get().secret.reveal() == "sk-proj-Qm82xWv71"
    run = ImportRun.objects.get(pk=body["run"])
    assert run.actor.startswith("key:")
    entry = AuditEntry.objects.get(action="import")
    assert (entry.target_id, entry.actor) == ("openai", run.actor)


def test_a_change_names_the_field_before_and_after(api):
    send(api, YAML, "?apply=true")
    text = json.dumps(
        {"version": 1, "providers": {"openai": {"priority": 4, "connection_params": {"base_url": "http://x/v1"}}}}
    )
    (change,) = send(api, text, content_type="application/json").json()["changes"]
    assert change["fields"] == [
        {"field": "priority", "before": 1, "after": 4},
        {"field": "connection_params.base_url", "before": None, "after": "http://x/v1"},
    ]


def test_pruning_is_asked_for(api):
    registries.build()
    assert [change["action"] for change in send(api, YAML, "?prune=true").json()["changes"]].count("remove") == 4
    send(api, YAML, "?prune=true&apply=true")
    assert list(Provider.objects.values_list("provider_id", flat=True)) == ["openai"]
    assert ApiKey.objects.count() == 1


def test_mistakes_are_problems_with_their_places(api):
    answer = send(api, "version: 1\nproviders: {a: {prioritty: 1}, b: 3}\n", "?apply=true")
    assert answer.status_code == 400
    assert answer["Content-Type"] == "application/problem+json"
    assert {error["field"] for error in answer.json()["errors"]} == {
        "providers.a.prioritty",
        "providers.a.provider_type",
        "providers.b",
    }
    assert not Provider.objects.exists()


@pytest.mark.parametrize("body", [b"", b"a: [1", b"\xff", b"a: 1\na: 1\n", b"[" * 100_000])
def test_a_body_that_is_no_document_is_a_400(api, body):
    answer = send(api, body, "?apply=true")
    assert answer.status_code == 400
    assert answer["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("content_type", ["application/x-www-form-urlencoded", "multipart/form-data", "text/plain", ""])
def test_a_body_is_read_whatever_it_is_called(api, content_type):
    answer = send(api, YAML, "?apply=true", content_type)
    assert (answer.status_code, answer.json()["applied"]) == (200, True)


def test_a_stored_secret_that_does_not_open_is_a_problem_without_it(api):
    registries.build()
    key = ApiKey.objects.first()
    ApiKey.objects.filter(pk=key.pk).update(identity=uuid.uuid4())
    for answer in (api.get(PATH), send(api, "version: 1\nproviders: {openai: {description: x}}")):
        assert (answer.status_code, json.loads(answer.content)["code"]) == (500, "secret_unreadable")


def test_the_schema_describes_it(client):
    schema = documents.parse(client.get("/api/schema").content)
    described = schema["paths"]["/api/v1/config"]
    assert set(described["get"]["responses"]["200"]["content"]) == {"application/yaml", "application/json"}
    assert {one["name"] for one in described["post"]["parameters"]} == {"apply", "prune", "only"}
