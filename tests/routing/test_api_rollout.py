"""The roll-out over REST: who may move traffic, what is refused, and that nothing secret is shown."""

from __future__ import annotations

import pytest

from providers.models import AuditEntry, RegistryRevision
from routing import building
from routing.models import Rollout
from tests.callers import caller

pytestmark = pytest.mark.django_db

URL = "/api/v1/rollout"
LEGACY = "http://10.1.2.3:8080"


@pytest.fixture
def admin():
    return caller("admin")


def test_before_the_first_write_everything_is_served_here(admin):
    told = admin.get(URL).json()
    assert (told["percentage"], told["gateway_enabled"], told["legacy_base_url"]) == ("100.00", True, "")
    assert not Rollout.objects.exists()


def test_a_share_is_set_and_read_back(admin):
    answer = admin.patch(URL, {"legacy_base_url": LEGACY + "/", "percentage": 12.5})
    assert (answer.status_code, answer.json()["percentage"]) == (200, "12.50")
    assert admin.get(URL).json()["legacy_base_url"] == LEGACY
    view = building.build().rollout
    assert (view.share, view.gateway_enabled, view.legacy_base_url) == (1250, True, LEGACY)


@pytest.mark.parametrize("method", ["put", "patch"])
def test_what_a_body_leaves_out_keeps_its_value(admin, method):
    admin.patch(URL, {"legacy_base_url": LEGACY, "percentage": 25})
    answer = getattr(admin, method)(URL, {"gateway_enabled": False})
    assert (answer.json()["percentage"], answer.json()["gateway_enabled"]) == ("25.00", False)


def test_a_write_raises_the_revision_and_is_audited(admin):
    before = RegistryRevision.objects.filter(pk=1).values_list("number", flat=True).first() or 0
    admin.patch(URL, {"legacy_base_url": LEGACY, "percentage": 10})
    admin.patch(URL, {"percentage": 20})
    assert RegistryRevision.objects.get(pk=1).number == before + 2
    entry = AuditEntry.objects.first()
    assert (entry.target_type, entry.target_id, entry.action) == ("rollout", "cut-over", "update")
    assert (entry.before["percentage"], entry.after["percentage"]) == ("10.00", "20.00")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("percentage", 100.01),
        ("percentage", -1),
        ("percentage", "half"),
        ("percentage", 12.345),
        ("legacy_base_url", "ftp://old.example"),
        ("legacy_base_url", "http://169.254.169.254/"),
        ("legacy_base_url", "http://user:pw@old.example"),
        ("legacy_base_url", "http://old.example/?x=1"),
        ("legacy_base_url", "http://old.example/alté"),
        ("legacy_headers", {"Host": "x"}),
        ("legacy_headers", {"X-A": "two\nlines"}),
        ("legacy_headers", {"bad name": "x"}),
        ("extra_paths", ["chat"]),
        ("extra_paths", ["/"]),
        ("extra_paths", ["/api"]),
        ("extra_paths", ["/admin/x"]),
        ("salt", ""),
        ("salt", "ü" * 40),
        ("connect_timeout_seconds", 0),
    ],
)
def test_what_cannot_work_is_refused_by_its_field(admin, field, value):
    answer = admin.patch(URL, {"legacy_base_url": LEGACY} | {field: value})
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"].startswith(field)
    assert not Rollout.objects.exists()


def test_the_kill_switch_needs_a_legacy_side(admin):
    answer = admin.patch(URL, {"gateway_enabled": False})
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == "legacy_base_url"


def test_a_private_address_is_refused_where_private_upstreams_are(admin, settings):
    settings.GATEWAY_ALLOW_PRIVATE_UPSTREAMS = False
    assert admin.patch(URL, {"legacy_base_url": LEGACY}).status_code == 400
    assert admin.patch(URL, {"legacy_base_url": "https://93.184.216.34"}).status_code == 200


def test_extra_headers_are_stored_encrypted_and_never_shown(admin):
    answer = admin.patch(URL, {"legacy_base_url": LEGACY, "legacy_headers": {"X-Legacy-Key": "canary-value"}})
    assert answer.json()["header_names"] == ["X-Legacy-Key"]
    stored = Rollout.objects.values().get()
    assert "canary" not in answer.content.decode() + repr(stored) + repr(list(AuditEntry.objects.values()))
    assert [(name, value.reveal()) for name, value in building.build().rollout.headers] == [
        ("X-Legacy-Key", "canary-value")
    ]


def test_headers_are_replaced_as_a_whole(admin):
    admin.patch(URL, {"legacy_base_url": LEGACY, "legacy_headers": {"X-One": "1", "X-Two": "2"}})
    assert admin.patch(URL, {"percentage": 50}).json()["header_names"] == ["X-One", "X-Two"]
    assert admin.patch(URL, {"legacy_headers": {"X-Two": "3"}}).json()["header_names"] == ["X-Two"]
    assert admin.patch(URL, {"legacy_headers": {}}).json()["header_names"] == []


def test_headers_that_do_not_decrypt_are_a_note_and_clients_still_go_to_the_legacy_side(admin):
    admin.patch(URL, {"legacy_base_url": LEGACY, "percentage": 0, "legacy_headers": {"X-One": "1"}})
    Rollout.objects.update(identity="00000000-0000-0000-0000-000000000001")
    built = building.build()
    assert built.rollout.parts
    assert built.rollout.headers == ()
    assert any("extra headers" in note for note in built.notes)


def test_a_dry_run_changes_nothing(admin):
    answer = admin.patch(f"{URL}?dry_run=true", {"legacy_base_url": LEGACY, "percentage": 5})
    assert (answer.status_code, answer.json()["percentage"]) == (200, "5.00")
    assert not Rollout.objects.exists()


def test_a_change_in_between_is_noticed(admin):
    admin.patch(URL, {"legacy_base_url": LEGACY, "percentage": 10})
    read = admin.get(URL)["ETag"]
    admin.patch(URL, {"percentage": 20})
    assert admin.patch(URL, {"percentage": 30}, headers={"If-Match": read}).status_code == 412
    assert Rollout.load().percentage == 20


@pytest.mark.parametrize("scopes", [("generate",), ("registry:read", "registry:write")])
def test_only_admins_may_read_and_move_it(scopes):
    client = caller(*scopes)
    assert client.get(URL).status_code == 403
    assert client.patch(URL, {"percentage": 0}).status_code == 403


def test_without_a_key_nobody_may(client):
    assert client.get(URL).status_code == 401


def test_a_slash_at_the_end_is_the_same(admin):
    assert admin.get(URL + "/").status_code == 200


def test_it_cannot_be_deleted_or_made_twice(admin):
    assert admin.delete(URL).status_code == 405
    assert admin.post(URL, {}).status_code == 405


def test_the_environment_s_switch_is_shown_and_wins(admin, settings):
    admin.patch(URL, {"legacy_base_url": LEGACY, "percentage": 100})
    settings.GATEWAY_V2_ENABLED = False
    assert admin.get(URL).json()["enabled_by_environment"] is False
    view = building.build().rollout
    assert (view.gateway_enabled, view.parts) == (False, True)


def test_without_a_legacy_side_there_is_nothing_to_part(admin, settings):
    settings.GATEWAY_V2_ENABLED = False
    assert building.build().rollout is None


def test_the_operator_s_cookies_are_known_by_names_that_no_django_has_by_itself(admin, settings):
    admin.patch(URL, {"legacy_base_url": LEGACY})
    own = building.build().rollout.own_cookies
    assert own == {settings.SESSION_COOKIE_NAME.encode(), settings.CSRF_COOKIE_NAME.encode()}
    assert not own & {b"sessionid", b"csrftoken"}


def test_a_roll_out_begins_with_the_share_of_the_environment_and_keeps_its_own(admin, settings):
    settings.GATEWAY_V2_PERCENTAGE = 25
    assert admin.patch(URL, {"legacy_base_url": LEGACY}).json()["percentage"] == "25.00"
    settings.GATEWAY_V2_PERCENTAGE = 50
    assert admin.patch(URL, {"verify_tls": False}).json()["percentage"] == "25.00"
