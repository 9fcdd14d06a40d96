from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from inference.alert_models import AlertChannel, AlertDelivery, AlertIncident, AlertRule

pytestmark = pytest.mark.django_db

TOKEN = "hook-token-0123456789"


def an_incident(**changed: Any) -> AlertIncident:
    told = {
        "rule_name": "slow",
        "condition": "average_latency > 10s",
        "unit": "s",
        "subject": "p",
        "subject_name": "openai",
    }
    return AlertIncident.objects.create(value=Decimal(12), worst=Decimal(15), told_at=timezone.now(), **told | changed)


def a_channel(**changed: Any) -> AlertChannel:
    return AlertChannel.objects.create(
        **{"name": "hook", "kind": "webhook", "address": f"https://hooks.example.com/{TOKEN}"} | changed
    )


@pytest.mark.parametrize("name", ["alertincident", "alertrule", "alertchannel"])
def test_an_empty_list_says_what_to_do_and_leads_to_the_others(admin_client: Client, name: str) -> None:
    html = admin_client.get(reverse(f"admin:inference_{name}_changelist")).content.decode()
    assert "no channel is switched on" in html
    for other in ("alertincident", "alertrule", "alertchannel"):
        assert reverse(f"admin:inference_{other}_changelist") in html


def test_a_rule_is_made_with_its_channels(admin_client: Client) -> None:
    a_channel()
    told = {
        "name": "slow",
        "enabled": "on",
        "signal": "average_latency",
        "threshold": "10",
        "told_for": "provider",
        "window_minutes": "5",
        "least_requests": "10",
        "recover_minutes": "2",
        "remind_minutes": "60",
        "channels": ["hook"],
    }
    answer = admin_client.post(reverse("admin:inference_alertrule_add"), told)
    assert answer.status_code == 302, answer.context["adminform"].form.errors
    rule = AlertRule.objects.get()
    assert (rule.condition, rule.told_for, rule.channels) == ("average_latency > 10s", "provider", ["hook"])


def test_a_rule_that_names_a_channel_which_is_not_there_says_so_and_keeps_it(admin_client: Client) -> None:
    rule = AlertRule.objects.create(name="r", signal="error_rate", told_for="gateway", threshold=5, channels=["pager"])
    assert "pager is missing" in admin_client.get(reverse("admin:inference_alertrule_changelist")).content.decode()
    page = admin_client.get(reverse("admin:inference_alertrule_change", args=[rule.pk])).content.decode()
    assert "pager (there is no such channel yet)" in page


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"kind": "email", "recipients_text": "nobody"}, "recipients_text"),
        ({"new_address": "http://169.254.169.254/"}, "new_address"),
        ({"new_address": ""}, "new_address"),
        ({"quiet_from": "22:00"}, "quiet_until"),
    ],
)
def test_a_mistake_in_a_channel_stands_at_its_field(admin_client: Client, changed: dict[str, str], field: str) -> None:
    told = {"name": "hook", "kind": "webhook", "new_address": f"https://hooks.example.com/{TOKEN}"} | changed
    answer = admin_client.post(reverse("admin:inference_alertchannel_add"), told)
    assert answer.status_code == 200
    assert field in answer.context["adminform"].form.errors
    assert not AlertChannel.objects.exists()


def test_a_channel_is_stored_and_its_url_is_never_shown(admin_client: Client) -> None:
    told = {"name": "hook", "kind": "webhook", "new_address": f"https://hooks.example.com/{TOKEN}", "enabled": "on"}
    assert admin_client.post(reverse("admin:inference_alertchannel_add"), told).status_code == 302
    channel = AlertChannel.objects.get()
    page = reverse("admin:inference_alertchannel_change", args=[channel.pk])
    html = (
        admin_client.get(page).content.decode()
        + admin_client.get(reverse("admin:inference_alertchannel_changelist")).content.decode()
    )
    assert "hooks.example.com" in html
    assert TOKEN not in html
    answer = admin_client.post(page, {"kind": "webhook", "enabled": "on"})
    assert answer.status_code == 302, answer.context["adminform"].form.errors
    assert AlertChannel.objects.get().host == "hooks.example.com"


def test_the_test_button_tells_what_came_of_it(admin_client: Client) -> None:
    channel = a_channel(kind="email", recipients=["ops@example.com"])
    answer = admin_client.post(reverse("admin:alerts_test"), {"pk": channel.pk}, follow=True)
    assert "GATEWAY_EMAIL_HOST" in answer.content.decode()


def test_an_incident_shows_its_history(admin_client: Client) -> None:
    incident = an_incident(acted="p/m was taken out of service")
    AlertDelivery.objects.create(
        incident=incident,
        channel=a_channel(),
        kind="fired",
        title="t",
        text="x",
        attempts=2,
        error="answered with HTTP 500.",
    )
    html = admin_client.get(reverse("admin:inference_alertincident_change", args=[incident.pk])).content.decode()
    for said in ("12s", "15s", "taken out of service", "answered with HTTP 500.", "I look after it"):
        assert said in html


def test_whoever_looks_after_an_incident_is_named(admin_client: Client) -> None:
    incident = an_incident()
    answer = admin_client.post(reverse("admin:alerts_acknowledge"), {"pk": incident.pk}, follow=True)
    assert "by admin" in answer.content.decode()


def test_who_sees_their_teams_only_sees_no_incidents(client: Client) -> None:
    user = User.objects.create_user("bob", password="a-long-password", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_alertincident"))
    an_incident()
    client.force_login(user)
    assert "openai" not in client.get(reverse("admin:inference_alertincident_changelist")).content.decode()
    assert client.post(reverse("admin:alerts_acknowledge"), {"pk": 1}).status_code == 403
