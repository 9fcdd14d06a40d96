"""`manage.py cutover`: what it shows, and what it moves."""

from __future__ import annotations

from decimal import Decimal
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from providers.models import AuditEntry
from routing.models import Rollout
from tests.inference.ledger import record

pytestmark = pytest.mark.django_db

LEGACY = "http://10.1.2.3:8080"


def cutover(*arguments: str) -> str:
    out = StringIO()
    call_command("cutover", *arguments, stdout=out)
    return out.getvalue()


def test_without_a_legacy_side_it_says_so_and_writes_nothing():
    assert "the gateway serves everything" in cutover()
    assert not Rollout.objects.exists()


def test_a_share_is_moved_with_its_reason():
    said = cutover("--legacy-url", LEGACY, "--percentage", "12.5", "--reason", "first clients")
    assert "12.5 % of clients are served here" in said
    assert LEGACY in said
    assert Rollout.load().percentage == Decimal("12.5")
    entry = AuditEntry.objects.first()
    assert entry.reason == "first clients"
    assert entry.actor.startswith("command:cutover")


def test_the_kill_switch_and_back():
    cutover("--legacy-url", LEGACY, "--percentage", "25%")
    assert "Everything goes to the legacy side: the kill switch." in cutover("--stop")
    assert not Rollout.load().gateway_enabled
    assert "25 % of clients" in cutover("--resume")
    assert Rollout.load().gateway_enabled


def test_the_environment_s_switch_is_named(settings):
    cutover("--legacy-url", LEGACY)
    settings.GATEWAY_V2_ENABLED = False
    assert "GATEWAY_V2_ENABLED=false" in cutover("status")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--percentage", "half"], "0 to 100"),
        (["--percentage", "nan"], "percentage"),
        (["--percentage", "101"], "percentage"),
        (["--percentage", "10.001"], "percentage"),
        (["--legacy-url", "gopher://x"], "legacy_base_url"),
        (["--stop"], "Without a legacy side"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_changes(arguments, sentence):
    with pytest.raises(CommandError, match=sentence):
        cutover(*arguments)
    assert not Rollout.objects.exists()


def test_the_last_hour_of_both_sides_is_shown():
    cutover("--legacy-url", LEGACY, "--percentage", "50")
    for number, side in enumerate(["gateway", "legacy", "legacy"]):
        record(status=500 if number == 2 else 200, side=side, duration_ms=1234.0, cost=Decimal("0.5"))
    lines = {line.split("  ")[0]: line.split() for line in cutover().splitlines()}
    assert lines["requests"] == ["requests", "1", "2"]
    assert lines["errors"] == ["errors", "0", "1", "(50", "%)"]
    assert lines["p95"][1:3] == ["1,234", "ms"]
    assert lines["cost"] == ["cost", "0.5000", "USD", "~1.0000", "USD"]


@pytest.mark.parametrize("hours", ["nan", "inf", "0", "-1", "1e9"])
def test_a_span_that_is_none_is_refused_before_anything_is_moved(hours):
    with pytest.raises(CommandError, match="--hours"):
        cutover("--legacy-url", LEGACY, "--hours", hours)
    assert not Rollout.objects.exists()
