from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone

from inference.alert_models import AlertChannel, AlertIncident, AlertRule
from tests.callers import caller

pytestmark = pytest.mark.django_db

RULES, CHANNELS, INCIDENTS = "/api/v1/alert-rules", "/api/v1/alert-channels", "/api/v1/alert-incidents"
TOKEN = "hook-token-0123456789"
HOOK = {
    "name": "hook",
    "kind": "webhook",
    "address": f"https://hooks.example.com/{TOKEN}",
    "signing_secret": "shared-0123",
}


def test_a_rule_is_made_changed_and_deleted() -> None:
    admin = caller("registry:read", "registry:write")
    made = admin.post(RULES, {"name": "slow", "signal": "average_latency", "threshold": "10", "told_for": "provider"})
    assert (made.status_code, made.data["condition"]) == (201, "average_latency > 10s")
    path = f"{RULES}/{made.data['id']}"
    assert admin.patch(path, {"threshold": "2.5"}).data["condition"] == "average_latency > 2.5s"
    assert admin.delete(path).status_code == 204


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"signal": "mood"}, "signal"),
        ({"told_for": "budget"}, "told_for"),
        ({"action": "auto_disable_model"}, "action"),
        ({"threshold": "-1"}, "threshold"),
        ({"window_minutes": 0}, "window_minutes"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_bad_rule_is_refused_by_the_name_of_its_field(changed: dict[str, Any], field: str) -> None:
    told = {"name": "a", "signal": "error_rate", "threshold": "5"} | changed
    answer = caller("registry:write").post(RULES, told)
    assert answer.status_code == 400
    assert field in str(answer.data)
    assert not AlertRule.objects.exists()


def test_a_channel_never_shows_its_secrets() -> None:
    admin = caller("admin")
    made = admin.post(CHANNELS, HOOK)
    assert (made.status_code, made.data["host"], made.data["is_signed"]) == (201, "hooks.example.com", True)
    shown = str(admin.get(CHANNELS).data) + str(admin.get(f"{CHANNELS}/{made.data['id']}").data) + str(made.data)
    assert TOKEN not in shown
    assert "shared-0123" not in shown
    channel = AlertChannel.objects.get()
    assert channel.address is not None
    assert channel.address.reveal() == HOOK["address"]


def test_a_change_keeps_the_secrets_that_it_does_not_name() -> None:
    admin = caller("admin")
    path = f"{CHANNELS}/{admin.post(CHANNELS, HOOK).data['id']}"
    assert (
        admin.patch(path, {"quiet_from": "22:00", "quiet_until": "07:00", "time_zone": "Europe/Berlin"}).status_code
        == 200
    )
    assert AlertChannel.objects.get().host == "hooks.example.com"
    assert admin.patch(path, {"signing_secret": ""}).data["is_signed"] is False


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"address": "http://169.254.169.254/"}, "address"),
        ({"address": "http://127.0.0.1/"}, "address"),
        ({"kind": "email"}, "recipients"),
        ({"quiet_from": "22:00"}, "quiet_until"),
        ({"time_zone": "Mars/Olympus"}, "time_zone"),
        ({"kind": "pigeon"}, "kind"),
    ],
)
def test_a_bad_channel_is_refused_by_the_name_of_its_field(changed: dict[str, Any], field: str) -> None:
    answer = caller("admin").post(CHANNELS, HOOK | changed)
    assert answer.status_code == 400
    assert field in str(answer.data)
    assert TOKEN not in str(answer.data)


def test_a_test_says_what_came_of_it() -> None:
    channel = AlertChannel.objects.create(name="mail", kind="email", recipients=["ops@example.com"])
    answer = caller("admin").post(f"{CHANNELS}/{channel.pk}/test")
    assert answer.data == {"state": "gave up", "error": "There is no mail server: set GATEWAY_EMAIL_HOST."}
    assert caller("registry:write").post(f"{CHANNELS}/{channel.pk}/test").status_code == 403


def test_incidents_are_read_and_acknowledged_once() -> None:
    incident = AlertIncident.objects.create(
        rule_name="r", subject="p", subject_name="p", value=Decimal(6), worst=Decimal(7), told_at=timezone.now()
    )
    first, second = caller("registry:read", "registry:write"), caller("registry:read", "registry:write")
    assert [one["subject"] for one in first.get(f"{INCIDENTS}?open=true").data["results"]] == ["p"]
    by = first.post(f"{INCIDENTS}/{incident.pk}/acknowledge").data["acknowledged_by"]
    assert by.startswith("key:")
    assert second.post(f"{INCIDENTS}/{incident.pk}/acknowledge").data["acknowledged_by"] == by
    assert first.get(f"{INCIDENTS}?open=false").data["results"] == []
