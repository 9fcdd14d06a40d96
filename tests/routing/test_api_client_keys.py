import pytest

from providers.models import AuditEntry
from routing.models import ClientKey
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
