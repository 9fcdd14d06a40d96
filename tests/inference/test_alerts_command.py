from __future__ import annotations

import io
import json
from decimal import Decimal

import pytest
from django.core.management import CommandError, call_command

from inference.alert_models import AlertChannel, AlertIncident, AlertRule
from tests.inference.test_alert_judging import NOW, rule, serve

pytestmark = pytest.mark.django_db


def run(*words: str) -> str:
    said = io.StringIO()
    call_command("alerts", *words, stdout=said, stderr=io.StringIO())
    return said.getvalue()


def test_it_lists_what_is_wrong_and_what_is_watched() -> None:
    assert "Nothing has happened yet" in run()
    rule(channels=["pager"])
    AlertIncident.objects.create(
        rule_name="slow", subject="", subject_name="openai", unit="s", value=Decimal(12), worst=Decimal(15), told_at=NOW
    )
    assert "under way" in run()
    assert json.loads(run("--json"))[0]["worst"] == "15s"
    assert "error_rate > 5%" in run("--rules")


def test_it_judges_now(monkeypatch: pytest.MonkeyPatch) -> None:
    rule()
    serve(4, status=502, error_code="upstream_error")
    monkeypatch.setattr("inference.management.commands.alerts.timezone.now", lambda: NOW)
    assert "the gateway" in run("--judge")
    number = AlertIncident.objects.get().pk
    assert "looked after" in run("--acknowledge", str(number))


def test_a_channel_is_tested_or_said_not_to_be_there() -> None:
    with pytest.raises(CommandError, match="none yet"):
        run("--test", "pager")
    AlertChannel.objects.create(name="pager", kind="email", recipients=["ops@example.com"])
    with pytest.raises(CommandError, match="GATEWAY_EMAIL_HOST"):
        run("--test", "pager")
    assert not AlertRule.objects.exists()
