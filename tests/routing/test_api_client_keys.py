import json
from datetime import timedelta

import pytest
from django.utils import timezone

from providers.models import AuditEntry
from routing import issuing
from routing.models import ClientKey, Team
from tests.callers import caller, with_key

pytestmark = pytest.mark.django_db


@pytest.fixture
def api():
    return caller("admin")


def test_a_key_is_shown_once_and_works(api):
    created = api.post("/api/v1/client-keys", {"name": "app", "scopes": ["registry:read"]})
    assert created.status_code == 201
    key = created.json()["key"]
    assert key.startswith(created.json()["prefix"])
    assert with_key(key).get("/providers").status_code == 200
    again = api.get(f"/api/v1/client-keys/{created.json()['id']}").json()
    assert again["key"] is None
    assert key not in api.get("/api/v1/client-keys").content.decode()


def test_neither_the_row_nor_the_audit_log_holds_the_key(api):
    created = api.post("/api/v1/client-keys", {"name": "app", "scopes": ["generate"]}).json()
    secret = created["key"].removeprefix(created["prefix"])
    row = ClientKey.objects.filter(pk=created["id"]).values().get()
    assert secret not in str(row)
    for entry in AuditEntry.objects.all():
        assert secret not in f"{entry.before}{entry.after}{entry.target_id}"


def test_a_dry_run_makes_no_key_and_shows_none(api):
    before = ClientKey.objects.count()
    response = api.post("/api/v1/client-keys?dry_run=true", {"name": "app", "scopes": ["generate"]})
    assert response.status_code == 200
    assert response["Dry-Run"] == "true"
    assert response.json()["key"] is None
    assert ClientKey.objects.count() == before


@pytest.mark.parametrize(
    "body",
    [
        {"name": "app", "scopes": ["root"]},
        {"name": "app", "scopes": []},
        {"name": "", "scopes": ["generate"]},
        {"scopes": ["generate"]},
        {"name": "app", "scopes": ["generate"], "allowed_models": "gpt-*"},
        {"name": "app", "scopes": ["generate"], "digest": "00"},
    ],
)
def test_a_key_that_makes_no_sense_is_refused(api, body):
    before = ClientKey.objects.count()
    assert api.post("/api/v1/client-keys", body).status_code == 400
    assert ClientKey.objects.count() == before


def test_prefix_cannot_be_chosen(api):
    body = {"name": "app", "scopes": ["generate"], "prefix": "gw-000000000000"}
    assert api.post("/api/v1/client-keys", body).json()["prefix"] != "gw-000000000000"


def test_disabling_a_key_counts_from_the_next_request(api):
    created = api.post("/api/v1/client-keys", {"name": "app", "scopes": ["registry:read"]}).json()
    client = with_key(created["key"])
    assert client.get("/providers").status_code == 200
    assert api.patch(f"/api/v1/client-keys/{created['id']}", {"enabled": False}).json()["enabled"] is False
    assert client.get("/providers").status_code == 401


def test_no_key_but_an_admins_makes_or_widens_keys(api):
    created = api.post("/api/v1/client-keys", {"name": "app", "scopes": ["registry:read", "registry:write"]}).json()
    client = with_key(created["key"])
    assert client.post("/api/v1/client-keys", {"name": "x", "scopes": ["generate"]}).status_code == 403
    assert client.patch(f"/api/v1/client-keys/{created['id']}", {"scopes": ["admin"]}).status_code == 403
    assert ClientKey.objects.get(pk=created["id"]).scopes == ["registry:read", "registry:write"]


def test_deleting_a_key_is_audited(api):
    created = api.post("/api/v1/client-keys", {"name": "app", "scopes": ["generate"]}).json()
    assert api.delete(f"/api/v1/client-keys/{created['id']}").status_code == 204
    entry = AuditEntry.objects.first()
    assert (entry.action, entry.target_type, entry.target_id) == ("delete", "clientkey", created["prefix"])


# --- Rotating, suspending, revoking -------------------------------------------------------------------------------------------


def made(api, **told):
    response = api.post("/api/v1/client-keys", {"name": "app", "scopes": ["registry:read"], **told})
    assert response.status_code == 201, response.json()
    return response.json()


def act(api, created, verb, body=None):
    return api.post(f"/api/v1/client-keys/{created['id']}/{verb}", body or {})


def answers(key):
    return with_key(key).get("/providers").status_code


def test_all_limits_are_told_and_shown(api):
    Team.objects.create(name="research")
    limits = {
        "team": "research",
        "allowed_policies": ["chat_*"],
        "allowed_providers": ["openai"],
        "ip_ranges": ["127.0.0.0/8"],
        "tags": ["batch"],
        "role": "pro",
        "captures_content": True,
    }
    created = made(api, **limits)
    assert {name: created[name] for name in limits} == limits
    assert (created["state"], answers(created["key"])) == ("active", 200)


@pytest.mark.parametrize(
    "wrong",
    [
        {"ip_ranges": ["10.0.0.1/8"]},
        {"ip_ranges": []},
        {"team": "ghosts"},
        {"role": "king"},
        {"tags": ["a,b"]},
        {"allowed_policies": [""]},
        {"allowed_models": ["x"] * 201},
        {"revoked_reason": "x", "digest": "00"},
    ],
)
def test_a_limit_that_makes_no_sense_is_refused_by_its_name(api, wrong):
    response = api.post("/api/v1/client-keys", {"name": "app", "scopes": ["generate"], **wrong})
    assert response.status_code == 400
    assert next(reversed(wrong)) in response.content.decode()


def test_a_rotated_key_is_shown_once_and_the_one_before_is_good_for_the_overlap(api):
    created = made(api)
    rotated = act(api, created, "rotate", {"overlap_seconds": 60}).json()
    assert rotated["prefix"] == created["prefix"]
    assert rotated["key"] not in (None, created["key"])
    assert (answers(rotated["key"]), answers(created["key"])) == (200, 200)
    assert act(api, created, "rotate").json()["previous_until"] is None
    assert (answers(rotated["key"]), answers(created["key"])) == (401, 401)
    assert rotated["key"].removeprefix(rotated["prefix"]) not in str(list(AuditEntry.objects.values()))


def test_a_dry_rotation_shows_no_key_and_leaves_the_old_one(api):
    created = made(api)
    assert api.post(f"/api/v1/client-keys/{created['id']}/rotate?dry_run=true", {}).json()["key"] is None
    assert answers(created["key"]) == 200


def test_a_suspended_key_is_resumed_and_a_revoked_one_never(api):
    created = made(api)
    assert act(api, created, "suspend").json()["state"] == "suspended"
    assert answers(created["key"]) == 401
    assert act(api, created, "resume").json()["state"] == "active"
    assert answers(created["key"]) == 200
    revoked = act(api, created, "revoke", {"reason": "leaked in a log"}).json()
    assert (revoked["state"], revoked["revoked_reason"]) == ("revoked", "leaked in a log")
    assert answers(created["key"]) == 401
    for verb in ("resume", "rotate"):
        assert act(api, created, verb).status_code == 400
    assert api.patch(f"/api/v1/client-keys/{created['id']}", {"enabled": True}).status_code == 400
    again = act(api, created, "revoke", {"reason": "another"}).json()
    assert (again["revoked_at"], again["revoked_reason"]) == (revoked["revoked_at"], "leaked in a log")


def test_revoking_needs_a_reason(api):
    created = made(api)
    for body in ({}, {"reason": ""}, {"reason": " "}):
        assert act(api, created, "revoke", body).status_code == 400
    assert answers(created["key"]) == 200


def test_the_api_tells_when_and_from_where_a_key_was_used(api):
    created = made(api)
    answers(created["key"])
    row = api.get(f"/api/v1/client-keys/{created['id']}").json()
    assert row["last_used_from"] == "127.0.0.1"
    assert row["last_used_at"] is not None


# --- No key makes a wider one ---------------------------------------------------------------------------------------------------


def limited_admin(**limits):
    return with_key(issuing.issue("limited", ["admin"], **limits)[1].reveal())


@pytest.mark.parametrize(
    ("limits", "within", "beyond"),
    [
        ({"allowed_models": ["gpt-*"]}, {"allowed_models": ["gpt-4o", "gpt-*"]}, {"allowed_models": ["gpt-*", "*"]}),
        ({"allowed_models": ["gpt-*"]}, {"allowed_models": []}, {}),
        ({"allowed_policies": ["p"]}, {"allowed_policies": ["p"]}, {"allowed_policies": ["p*"]}),
        ({"allowed_providers": ["p"]}, {"allowed_providers": ["p"]}, {"allowed_providers": None}),
        ({"ip_ranges": ["127.0.0.0/8"]}, {"ip_ranges": ["127.0.0.1"]}, {"ip_ranges": ["0.0.0.0/0"]}),
        (
            {"expires_at": timezone.now() + timedelta(days=2)},
            {"expires_at": (timezone.now() + timedelta(days=1)).isoformat()},
            {"expires_at": None},
        ),
    ],
)
def test_a_limited_admin_key_makes_and_changes_keys_within_its_own_limits_alone(api, limits, within, beyond):
    limited = limited_admin(**limits)
    body = {"name": "app", "scopes": ["generate"]}
    created = limited.post("/api/v1/client-keys", body | within)
    assert created.status_code == 201
    before = ClientKey.objects.count()
    refused = limited.post("/api/v1/client-keys", body | beyond)
    assert (refused.status_code, ClientKey.objects.count()) == (400, before)
    assert next(iter(limits)) in refused.content.decode()
    if beyond:
        assert limited.patch(f"/api/v1/client-keys/{created.json()['id']}", beyond).status_code == 400
    wider = made(api)
    assert act(limited, wider, "rotate").status_code == 400
    assert limited.patch(f"/api/v1/client-keys/{wider['id']}", {"name": "mine"}).status_code == 400
    assert answers(wider["key"]) == 200


@pytest.mark.parametrize(
    ("limits", "beyond"),
    [
        ({"allowed_policies": ["p"]}, {"allowed_policies": ["p"], "allowed_models": ["*"]}),
        ({"allowed_models": ["gpt-*"]}, {"allowed_models": ["gpt-*"], "allowed_policies": ["*"]}),
    ],
)
def test_a_key_limited_by_the_one_list_gives_no_more_by_the_other(limits, beyond):
    limited = limited_admin(**limits)
    body = {"name": "app", "scopes": ["generate"]}
    assert limited.post("/api/v1/client-keys", body | beyond).status_code == 400
    row, _ = issuing.issue("within", ["generate"], **limits)
    assert limited.patch(f"/api/v1/client-keys/{row.pk}", beyond).status_code == 400


def test_no_key_changes_itself(api):
    row, secret = issuing.issue("self", ["admin"], expires_at=timezone.now() + timedelta(days=1))
    own = with_key(secret.reveal())
    response = own.patch(f"/api/v1/client-keys/{row.pk}", {"expires_at": None})
    assert response.status_code == 403
    document = json.dumps({"version": 1, "client_keys": {row.prefix: {"role": "premium", "tags": ["other"]}}})
    configured = own.generic("POST", "/api/v1/config?apply=true", document, content_type="application/json")
    assert "cannot change itself" in configured.content.decode(), configured.content
    row.refresh_from_db()
    assert (row.expires_at is None, row.role, row.tags) == (False, "", [])


def test_a_team_s_admin_key_finds_and_makes_its_team_s_keys_alone(api):
    one, other = (Team.objects.create(name=name) for name in ("one", "other"))
    theirs = made(api, team="other")
    mine = limited_admin(team=one)
    created = made(mine)
    assert created["team"] == "one"
    assert {row["team"] for row in mine.get("/api/v1/client-keys").json()["results"]} == {"one"}
    for verb in ("rotate", "suspend", "revoke"):
        assert act(mine, theirs, verb, {"reason": "x"} if verb == "revoke" else {}).status_code == 404
    assert mine.delete(f"/api/v1/client-keys/{theirs['id']}").status_code == 404
    assert mine.patch(f"/api/v1/client-keys/{created['id']}", {"team": "other"}).status_code == 400
    assert answers(theirs["key"]) == 200
    other.enabled = False
    other.save()
    assert answers(theirs["key"]) == 401


def test_no_configuration_widens_a_key_beyond_the_one_that_sends_it(api):
    row, secret = issuing.issue("limited", ["admin"], allowed_models=["gpt-*"])
    other, _ = issuing.issue("app", ["generate"], allowed_models=["gpt-4o"])
    limited = with_key(secret.reveal())

    def put(prefix, **told):
        document = json.dumps({"version": 1, "client_keys": {prefix: told}})
        return limited.generic("POST", "/api/v1/config?apply=true", document, content_type="application/json")

    for prefix in (row.prefix, other.prefix):
        response = put(prefix, allowed_models=None)
        assert "limited to some models" in response.content.decode(), response.content
    narrowed = put(other.prefix, allowed_models=["gpt-4o-mini"])
    assert narrowed.status_code == 200, narrowed.content
    row.refresh_from_db()
    other.refresh_from_db()
    assert (row.allowed_models, other.allowed_models) == (["gpt-*"], ["gpt-4o-mini"])
