"""Policies over REST: documents with their versions, what lies between them, what stands over them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from providers.models import AuditEntry, Provider
from routing import building
from routing.models import Override, Policy, PolicyVersion, RoutingSettings
from tests.callers import REGISTRY, caller

pytestmark = pytest.mark.django_db

URL = "/api/v1/policies"


@pytest.fixture
def client():
    return caller(*REGISTRY)


@pytest.fixture
def models():
    provider = Provider.objects.create(provider_id="p", provider_type="fake")
    for name in ("one", "two"):
        provider.models.create(model_id=name)


@pytest.fixture
def policy(client):
    return client.post(URL, {"name": "best", "document": {"targets": ["one"]}}, format="json").json()


def of(policy, *path):
    return "/".join([URL, str(policy["id"]), *path])


def patch(client, policy, document, **more):
    return client.patch(of(policy), {"document": document, **more}, format="json")


def test_a_policy_is_created_with_its_first_version(client):
    answer = client.post(
        URL, {"name": "best", "kind": "alias", "document": {"targets": ["one"]}, "note": "for the start"}, format="json"
    )
    told = answer.json()
    assert (answer.status_code, told["name"], told["kind"], told["version"]) == (201, "best", "alias", 1)
    assert told["document"] == {"targets": [{"model": "one"}], "strategy": "priority"}
    version = PolicyVersion.objects.get()
    assert (version.number, version.note, version.created_by[:4]) == (1, "for the start", "key:")


def test_a_mistake_is_told_with_its_place(client):
    document = {"targets": ["one", {"model": "two", "weight": -1}], "retries": {"attempts": "many"}, "colour": 1}
    answer = client.post(URL, {"name": "best", "document": document}, format="json")
    assert answer.status_code == 400
    assert {error["field"] for error in answer.json()["errors"]} == {
        "document.targets[1].weight",
        "document.retries.attempts",
        "document.colour",
    }


@pytest.mark.parametrize(
    "document",
    [
        "[]",
        '"x"',
        "5",
        '{"strategy": "astrology"}',
        '{"targets": ["a\\u0000b"]}',
        '{"fallbacks": ["\\ud800"]}',
        '{"\\ud800": 1}',
    ],
)
def test_what_is_no_document_is_refused(client, document):
    answer = client.post(URL, f'{{"name": "best", "document": {document}}}', content_type="application/json")
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"].startswith("document")


def test_two_policies_cannot_have_one_name(client, policy):
    answer = client.post(URL, {"name": "best", "document": {}}, format="json")
    assert (answer.status_code, answer.json()["code"]) == (409, "already_exists")


def test_another_document_becomes_the_next_version(client, policy):
    answer = patch(client, policy, {"targets": ["two"]}, note="two is quicker")
    assert (answer.status_code, answer.json()["version"]) == (200, 2)
    versions = client.get(of(policy, "versions")).json()["results"]
    assert [(one["number"], one["note"], one["active"]) for one in versions] == [
        (2, "two is quicker", True),
        (1, "", False),
    ]
    assert client.get(of(policy, "versions", "1")).json()["document"]["targets"] == [{"model": "one"}]


def test_the_same_document_in_other_words_makes_no_version(client, policy):
    assert patch(client, policy, {"targets": [{"model": "one", "weight": 1}]}).json()["version"] == 1


def test_a_description_alone_makes_no_version(client, policy):
    answer = client.patch(of(policy), {"description": "what is best"}, format="json")
    assert (answer.json()["version"], answer.json()["description"]) == (1, "what is best")


def test_two_versions_differ_member_by_member(client, policy):
    patch(client, policy, {"targets": ["one", "two"], "max_cost": 0.5})
    told = client.get(of(policy, "diff")).json()
    assert (told["from_version"], told["to_version"]) == (1, 2)
    assert told["differences"] == [
        {"place": "targets[1].model", "before": None, "after": "two"},
        {"place": "max_cost", "before": None, "after": "0.5"},
    ]
    backwards = client.get(of(policy, "diff"), {"from": 2, "to": 1}).json()["differences"]
    assert backwards[0] == {"place": "targets[1].model", "before": "two", "after": None}


@pytest.mark.parametrize(("query", "status"), [({"from": 9}, 404), ({"to": "x"}, 400), ({"to": "99999999999"}, 400)])
def test_a_version_that_never_was_is_not_compared(client, policy, query, status):
    assert client.get(of(policy, "diff"), query).status_code == status


def test_an_earlier_version_is_restored_as_the_next(client, policy):
    patch(client, policy, {"targets": ["two"]})
    answer = client.post(of(policy, "restore"), {"version": 1, "note": "two was worse"}, format="json")
    assert (answer.status_code, answer.json()["version"]) == (200, 3)
    assert answer.json()["document"]["targets"] == [{"model": "one"}]
    assert PolicyVersion.objects.get(number=3).note == "two was worse"
    assert AuditEntry.objects.first().reason == "two was worse"


def test_only_a_version_that_was_can_be_restored(client, policy):
    assert client.post(of(policy, "restore"), {"version": 7}, format="json").status_code == 404


def test_what_is_cached_is_forgotten_and_no_other_way(client, policy, redis_url, settings):
    assert client.post(of(policy, "forget-cached")).status_code == 204
    assert AuditEntry.objects.first().action == "forget cached answers"
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    assert client.post(of(policy, "forget-cached")).json()["code"] == "cache_unavailable"


def test_a_dry_run_changes_nothing(client, policy):
    answer = client.patch(f"{of(policy)}?dry_run=1", {"document": {"targets": ["two"]}}, format="json")
    assert (answer.status_code, answer.json()["version"], answer["Dry-Run"]) == (200, 2, "true")
    assert (Policy.objects.get().version, PolicyVersion.objects.count()) == (1, 1)


def test_who_read_an_older_state_does_not_overwrite_the_newer(client, policy):
    etag = client.get(of(policy))["ETag"]
    patch(client, policy, {"targets": ["two"]})
    answer = client.patch(of(policy), {"description": "x"}, format="json", HTTP_IF_MATCH=etag)
    assert answer.status_code == 412


def test_an_override_changes_the_etag(client, policy, models):
    etag = client.get(of(policy))["ETag"]
    client.post("/api/v1/overrides", {"policy": "best", "target": "two"}, format="json")
    assert client.get(of(policy), HTTP_IF_NONE_MATCH=etag).status_code == 200


def test_policies_are_found_by_kind_name_and_state(client, policy):
    client.post(URL, {"name": "writer", "kind": "node", "enabled": False}, format="json")
    for query, names in (
        ({"kind": "node"}, ["writer"]),
        ({"name": "best"}, ["best"]),
        ({"enabled": False}, ["writer"]),
    ):
        assert [one["name"] for one in client.get(URL, query).json()["results"]] == names


def test_a_name_cannot_be_changed(client, policy):
    assert client.patch(of(policy), {"name": "other"}, format="json").status_code == 400


def test_a_policy_is_deleted_with_its_versions(client, policy):
    assert client.delete(of(policy)).status_code == 204
    assert not PolicyVersion.objects.exists()


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("patch", (), {"description": "x"}),
        ("delete", (), None),
        ("post", ("restore",), {"version": 1}),
    ],
)
def test_what_a_file_owns_is_changed_there(client, policy, method, path, body):
    Policy.objects.update(managed_by="/etc/gateway/policies.yaml")
    answer = getattr(client, method)(of(policy, *path), body, format="json")
    assert (answer.status_code, answer.json()["code"]) == (409, "owned_by_file")
    assert "/etc/gateway/policies.yaml" in answer.json()["detail"]


def test_reading_needs_one_scope_and_writing_another(policy):
    reader, generator = caller("registry:read"), caller("generate")
    assert reader.get(of(policy, "versions")).status_code == 200
    assert reader.post(of(policy, "restore"), {"version": 1}, format="json").status_code == 403
    assert generator.get(URL).status_code == 403


# --- Overrides --------------------------------------------------------------------------------------------------------------


def override(client, **body):
    return client.post("/api/v1/overrides", {"policy": "best", "target": "two", **body}, format="json")


def test_an_override_serves_first_for_a_while(client, policy, models):
    answer = override(client, ttl_seconds=60, reason="one is slow today")
    assert answer.status_code == 201
    assert answer.json()["policy"] == "best"
    view = building.build().policies["best"].override
    assert [target.model.route for target in view.targets] == ["p/two"]
    assert 0 < view.expires_at - timezone.now().timestamp() <= 60
    assert client.get(of(policy)).json()["override"]["target"] == "two"
    assert AuditEntry.objects.first().reason == "one is slow today"


def test_a_second_override_replaces_the_first(client, policy, models):
    override(client, ttl_seconds=60)
    assert override(client, target="one").json()["expires_at"] is None
    assert Override.objects.get().target == "one"


def test_an_override_is_changed_and_taken_away(client, policy, models):
    told = override(client, ttl_seconds=60).json()
    url = f"/api/v1/overrides/{told['id']}"
    changed = client.patch(url, {"reason": "still slow"}, format="json").json()
    assert (changed["expires_at"], changed["reason"]) == (told["expires_at"], "still slow")
    assert client.delete(url).status_code == 204
    assert building.build().policies["best"].override is None


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"target": "nobody"}, "target"),
        ({"policy": "nobody"}, "policy"),
        ({"ttl_seconds": 0}, "ttl"),
        ({"ttl_seconds": 1e300}, "ttl"),
        ({"ttl_seconds": 5, "expires_at": "2040-01-01T00:00:00Z"}, "ttl_seconds"),
    ],
)
def test_an_override_that_cannot_be_is_refused(client, policy, models, body, field):
    answer = override(client, **body)
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == field


def test_a_policy_may_refuse_to_be_overridden(client, policy, models):
    patch(client, policy, {"targets": ["one"], "overridable": False})
    answer = override(client)
    assert (answer.status_code, answer.json()["code"]) == (409, "not_overridable")


def test_a_files_policy_may_be_overridden(client, policy, models):
    Policy.objects.update(managed_by="/etc/gateway/policies.yaml")
    assert override(client).status_code == 201


def test_an_override_that_has_expired_is_not_built(client, policy, models):
    override(client)
    Override.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert building.build().policies["best"].override is None


# --- Settings ---------------------------------------------------------------------------------------------------------------

SETTINGS = "/api/v1/routing-settings"


def test_settings_read_as_what_is_in_force_before_anybody_wrote_them(client):
    told = client.get(SETTINGS).json()
    assert (told["fallback_enabled"], told["retries"], told["unknown_model"]) == (True, 1, "refuse")
    assert not RoutingSettings.objects.exists()


def test_settings_are_changed_and_count(client, policy):
    answer = client.patch(
        SETTINGS, {"default_policy": "best", "unknown_model": "default", "max_cost_per_request": "0.5"}, format="json"
    )
    assert answer.status_code == 200
    defaults = building.build().defaults
    assert (defaults.default_policy, defaults.unknown_model, str(defaults.max_cost)) == (
        "best",
        "default",
        "0.50000000",
    )


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"unknown_model": "guess"}, "unknown_model"),
        ({"default_policy": "nobody"}, "default_policy"),
        ({"retries": 11}, "retries"),
        ({"breaker": {"failures": -1}}, "breaker"),
    ],
)
def test_settings_that_cannot_be_are_refused(client, body, field):
    answer = client.patch(SETTINGS, body, format="json")
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == field


def test_settings_that_a_file_owns_are_changed_there(client):
    RoutingSettings.objects.create(managed_by="/etc/gateway/routing.yaml")
    assert client.patch(SETTINGS, {"retries": 2}, format="json").status_code == 409
