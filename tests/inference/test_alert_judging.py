"""Rules over roll-ups: what begins, goes on and ends, and who is told."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connections
from django.utils import timezone

from inference import alert_events, alert_judging, usage_rows
from inference.alert_models import SENT, AlertChannel, AlertDelivery, AlertIncident, AlertRule
from inference.alert_signals import AUTO_DISABLE, SIGNALS
from inference.models import AlertEvent
from providers.models import ProbeResult, Provider, ProviderModel
from routing import health, health_actions, issuing
from routing.models import Budget
from tests.inference import registry
from tests.inference.test_rollups import row

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 21, 10, 4, 30, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def rule(signal: str = "error_rate", **changed: Any) -> AlertRule:
    made = AlertRule(name=f"rule {signal}", signal=signal, threshold=SIGNALS[signal].threshold, least_requests=2)
    for name, value in changed.items():
        setattr(made, name, value)
    made.full_clean()
    made.save()
    return made


def channel(name: str = "pager", **changed: Any) -> AlertChannel:
    made = AlertChannel(name=name, kind="email", recipients=["ops@example.com"], **changed)
    made.full_clean()
    made.save()
    return made


def serve(count: int, *, first: int = 0, at: datetime = NOW, **changed: Any) -> None:
    usage_rows.write([row(number, at, **changed) for number in range(first, first + count)])


def kinds() -> list[str]:
    return list(AlertDelivery.objects.order_by("pk").values_list("kind", flat=True))


def it_is_time_to_remind(told_at: datetime) -> None:
    AlertIncident.objects.update(told_at=told_at)
    AlertDelivery.objects.update(state=SENT)


def test_an_error_rate_fires_once_reminds_and_recovers() -> None:
    channel()
    rule(remind_minutes=30, recover_minutes=2)
    serve(18)
    serve(2, first=100, status=502, error_code="upstream_error")
    assert alert_judging.judge_all(NOW) == 1
    assert alert_judging.judge_all(NOW + MINUTE) == 0
    incident = AlertIncident.objects.get()
    assert (incident.value, incident.subject_name, incident.condition) == (10, "the gateway", "error_rate > 5%")
    it_is_time_to_remind(NOW - 30 * MINUTE)
    alert_judging.judge_all(NOW + MINUTE)
    assert kinds() == ["fired", "reminder"]
    for minutes in (10, 11, 12):
        alert_judging.judge_all(NOW + minutes * MINUTE)
    incident.refresh_from_db()
    assert incident.ended_at == NOW + 12 * MINUTE
    assert kinds() == ["fired", "reminder", "recovered"]
    assert "well again after 12 minutes" in AlertDelivery.objects.get(kind="recovered").text


def test_what_fails_again_before_the_end_is_the_same_incident() -> None:
    rule(recover_minutes=3)
    serve(4, status=502, error_code="upstream_error")
    alert_judging.judge_all(NOW)
    alert_judging.judge_all(NOW + 10 * MINUTE)
    serve(4, first=50, at=NOW + 11 * MINUTE, status=502, error_code="upstream_error")
    alert_judging.judge_all(NOW + 11 * MINUTE)
    assert AlertIncident.objects.get().well_since is None


def test_clients_that_left_are_no_errors() -> None:
    rule()
    serve(10, status=499, error_code="client_disconnected")
    serve(3, first=100)
    assert alert_judging.judge_all(NOW) == 0


def test_a_provider_is_judged_by_its_tries_also_where_another_one_answered() -> None:
    rule(told_for="provider")
    failed = {"provider_id": "bad", "model_id": "m", "status": 503, "code": "upstream_error"}
    log = json.dumps([failed, {"provider_id": "fake", "model_id": "m", "status": 200, "code": ""}])
    serve(10, attempts=2, attempts_log=log)
    alert_judging.judge_all(NOW)
    incident = AlertIncident.objects.get()
    assert (incident.subject, incident.value, incident.detail) == ("bad", 100, "10 of 10 tries failed")


def test_latency_is_told_for_each_model() -> None:
    rule("average_latency", told_for="model")
    serve(3, duration_ms=12_000.0)
    serve(3, first=10, duration_ms=9_000.0, model_id="quick")
    alert_judging.judge_all(NOW)
    assert [one.subject for one in AlertIncident.objects.all()] == ["fake/m"]


def test_cost_counts_the_last_hour_and_not_more() -> None:
    rule("hourly_cost")
    serve(1, cost=Decimal(30), at=NOW - 70 * MINUTE)
    serve(1, first=1, cost=Decimal(30), at=NOW - 50 * MINUTE)
    assert alert_judging.judge_all(NOW) == 0
    serve(1, first=2, cost=Decimal("20.01"))
    assert alert_judging.judge_all(NOW) == 1
    assert AlertIncident.objects.get().value == Decimal("50.01")


def test_a_model_without_a_price_is_named() -> None:
    rule("unpriced_requests", told_for="model")
    serve(1, cost=None)
    alert_judging.judge_all(NOW)
    assert AlertIncident.objects.get().subject == "fake/m"


def model_row(provider_id: str, model_id: str) -> ProviderModel:
    provider = Provider.objects.create(provider_id=provider_id, provider_type="fake")
    return ProviderModel.objects.create(provider=provider, model_id=model_id)


def test_the_sixth_failure_in_a_row_takes_the_model_out_of_service(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_row("p", "m")
    rule("consecutive_failures", action=AUTO_DISABLE)
    seen = health.current()
    monkeypatch.setattr(alert_judging.alert_readings.health, "look", lambda: seen)
    monkeypatch.setattr(alert_judging.alert_readings.health, "current", lambda: None)
    target = registry.model(registry.provider("p"), "m")
    for _ in range(5):
        seen.failed(target, "upstream_error")
    assert alert_judging.judge_all(NOW) == 0
    seen.failed(target, "upstream_error")
    assert alert_judging.judge_all(NOW) == 1
    model.refresh_from_db()
    assert model.auto_disabled_at is not None
    assert "6 failures in a row" in model.auto_disabled_reason
    assert AlertIncident.objects.get().acted == "p/m was taken out of service"
    health_actions.enable_again([model])
    model.refresh_from_db()
    assert model.auto_disabled_at is None


def test_without_redis_nothing_begins_or_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    made = rule("consecutive_failures")
    AlertIncident.objects.create(
        rule=made, rule_name="r", subject="p/m", subject_name="p/m", value=6, worst=6, told_at=NOW
    )
    monkeypatch.setattr(alert_judging.alert_readings.health, "look", health.current)
    alert_judging.judge_all(NOW)
    assert AlertIncident.objects.get().well_since is None


def test_probes_that_failed_in_a_row() -> None:
    provider = model_row("p", "m").provider
    rule("probe_failing")
    for healthy in (False, True, False):
        ProbeResult.objects.create(provider=provider, healthy=healthy, duration_ms=1, message="no answer")
    assert alert_judging.judge_all(NOW) == 0
    ProbeResult.objects.create(provider=provider, healthy=False, duration_ms=1, message="no answer")
    assert alert_judging.judge_all(NOW) == 1


def test_keys_that_expire_soon_are_named_by_their_prefix() -> None:
    now = timezone.now()
    soon, _ = issuing.issue("nightly", ["generate"], expires_at=now + timedelta(days=6))
    issuing.issue("later", ["generate"], expires_at=now + timedelta(days=8))
    rule("key_expiring")
    alert_judging.judge_all(now)
    assert AlertIncident.objects.get().subject == soon.prefix


def test_a_budget_that_is_nearly_used() -> None:
    budget = Budget.objects.create(subject="all", period="month", amount=Decimal(10), name="everything")
    rule("budget_used")
    serve(1, cost=Decimal("8.5"))
    alert_judging.judge_all(NOW)
    incident = AlertIncident.objects.get()
    assert (incident.subject, incident.value) == (str(budget.pk), 85)


def test_events_count_by_the_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alert_events.timezone, "now", lambda: NOW)
    rule("records_dropped")
    events = alert_events.Events()
    lost = [3]
    events.watch("records_dropped", lambda: {"": lost[0]})
    assert events.write() == 0
    lost[0] = 7
    assert events.write() == 1
    events.note("records_dropped")
    events.write()
    assert AlertEvent.objects.get().count == 5
    alert_judging.judge_all(NOW)
    assert AlertIncident.objects.get().value == 5


def test_what_is_so_is_noted_each_time_it_is_looked_at() -> None:
    rule("budget_store_away")
    events = alert_events.Events()
    away = [True]
    events.watch_state("budget_store_away", lambda: away[0])
    events.write()
    away[0] = False
    events.write()
    assert AlertEvent.objects.get().count == 1


def test_a_budget_that_only_warns_is_named() -> None:
    budget = Budget.objects.create(subject="all", period="month", amount=Decimal(10), name="everything", hard=False)
    rule("budget_exceeded")
    events = alert_events.Events()
    events.note("budget_exceeded", str(budget.pk), 3)
    events.write()
    alert_judging.judge_all(timezone.now())
    assert AlertIncident.objects.get().subject_name == "everything"


def test_only_the_named_channels_are_told() -> None:
    channel("pager")
    channel("other")
    channel("off", enabled=False)
    rule(channels=["pager", "off", "nobody yet"])
    serve(4, status=502, error_code="upstream_error")
    alert_judging.judge_all(NOW)
    assert [one.channel.name for one in AlertDelivery.objects.all()] == ["pager"]


def test_quiet_hours_put_the_message_off_and_leave_reminders_out() -> None:
    channel(quiet_from=time(9), quiet_until=time(11), time_zone="UTC")
    rule(remind_minutes=5)
    serve(4, status=502, error_code="upstream_error")
    alert_judging.judge_all(NOW)
    AlertIncident.objects.update(told_at=NOW - 5 * MINUTE)
    alert_judging.judge_all(NOW)
    told = AlertDelivery.objects.get()
    assert (told.kind, told.due_at) == ("fired", NOW.replace(hour=11, minute=0, second=0))


def test_an_acknowledged_incident_reminds_nobody() -> None:
    channel()
    rule(remind_minutes=5)
    serve(4, status=502, error_code="upstream_error")
    alert_judging.judge_all(NOW)
    AlertIncident.objects.update(told_at=NOW - 5 * MINUTE, acknowledged_at=NOW)
    alert_judging.judge_all(NOW)
    assert kinds() == ["fired"]


def test_a_rule_that_is_switched_off_ends_its_incidents_silently() -> None:
    channel()
    made = rule()
    serve(4, status=502, error_code="upstream_error")
    alert_judging.judge_all(NOW)
    made.enabled = False
    made.save()
    alert_judging.judge_all(NOW)
    assert AlertIncident.objects.get().is_over
    assert kinds() == ["fired"]


def test_a_rule_that_cannot_be_judged_stops_no_other(caplog: pytest.LogCaptureFixture) -> None:
    AlertRule.objects.bulk_create([AlertRule(name="a broken one", signal="gone", threshold=1)])
    rule()
    serve(4, status=502, error_code="upstream_error")
    assert alert_judging.judge_all(NOW) == 1
    assert "a broken one could not be judged" in caplog.text


@pytest.mark.django_db(transaction=True)
def test_of_several_workers_one_begins_reminds_and_ends() -> None:
    channel()
    made = rule(remind_minutes=5, recover_minutes=0)
    serve(4, status=502, error_code="upstream_error")

    def everybody(now: datetime) -> None:
        start = threading.Barrier(4)

        def judge() -> None:
            try:
                start.wait()
                alert_judging.judge_all(now)
            finally:
                connections.close_all()

        workers = [threading.Thread(target=judge) for _ in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    everybody(NOW)
    assert kinds() == ["fired"]
    it_is_time_to_remind(NOW - 5 * MINUTE)
    everybody(NOW)
    assert kinds() == ["fired", "reminder"]
    everybody(NOW + 20 * MINUTE)
    assert kinds() == ["fired", "reminder", "recovered"]
    assert AlertIncident.objects.filter(rule=made).count() == 1
