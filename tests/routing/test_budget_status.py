from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.conf import settings
from django.utils import timezone

from routing import allowance_rows, budget_periods, budget_status, issuing, metering_store, spending
from routing.allowances import NANO
from routing.models import Team
from tests.routing.allowance_makers import budget, raised

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 16, tzinfo=UTC)


@pytest.fixture
def ledger(monkeypatch):
    """What the ledger answers: (subject, start of the span) to amounts by name."""
    told = {}
    monkeypatch.setattr(spending, "_read", lambda asked: told.get((asked.subject, asked.start), {}))
    return told


def key(name="app", role=""):
    row, _ = issuing.issue(name, ["generate"])
    row.role = role
    row.save()
    return row


def count(row, name, usd, now=None):
    """As the processes' common counter would stand."""
    one = allowance_rows.budget_rule(row).of(name)
    span = budget_periods.span(row.period, now or timezone.now(), row.time_zone)
    told = (one, int(span.start.timestamp() * 1000), int(span.end.timestamp() * 1000), int(Decimal(usd) * NANO))
    metering_store.raise_to(settings.REDIS_URL, [told])


def month(year=2026, number=11):
    return datetime(year, number, 1, tzinfo=UTC)


def test_the_counters_say_what_is_used(ledger):
    row = budget(100, "all")
    count(row, "", "25.5")
    [one] = budget_status.of(row).standings
    assert (one.used, one.left, one.percent, one.counted) == (Decimal("25.5"), Decimal("74.5"), 25.5, True)
    assert (one.code, one.state) == ("BUDGET_OK", "ok")


def test_what_nobody_counted_yet_is_the_ledgers_word(ledger):
    row = budget(100, "all", warn_percent=60)
    ledger["all", month()] = {"": Decimal(60)}
    [one] = budget_status.of(row, NOW).standings
    assert (one.used, one.counted, one.state) == (Decimal(60), False, "warning")
    assert (one.span.start, one.span.end) == (month(), month(number=12))
    assert one.forecast.at_end == Decimal(120)
    assert one.forecast.empty_at == datetime(2026, 11, 26, tzinfo=UTC)


def test_without_redis_the_ledger_answers(ledger, settings):
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    row = budget(100, "all")
    ledger["all", month()] = {"": Decimal(3)}
    assert budget_status.of(row, NOW).worst.used == Decimal(3)


@pytest.mark.parametrize(
    ("period", "code"),
    [("hour", "HOURLY_BUDGET_EXCEEDED"), ("day", "DAILY_BUDGET_EXCEEDED"), ("month", "MONTHLY_BUDGET_EXCEEDED")],
)
def test_a_spent_budget_says_the_code_of_its_period(ledger, period, code):
    row = budget(2, "all", period=period)
    ledger["all", budget_periods.span(period, NOW).start] = {"": Decimal(2)}
    worst = budget_status.of(row, NOW).worst
    assert (worst.code, worst.state, worst.left) == (code, "spent", Decimal(0))


def test_a_budget_for_each_key_stands_as_its_spenders_do(ledger):
    row = budget(10, by_role=True)
    low, high, pro, own = key("low"), key("high"), key("pro", "pro"), key("own")
    key("idle")
    budget(1, "key", client_key=own)
    ledger["key", month()] = {
        low.pk: Decimal(1),
        high.pk: Decimal(9),
        pro.pk: Decimal(5),
        own.pk: Decimal(1),
        999: Decimal(5),
    }
    status = budget_status.of(row, NOW)
    assert [(one.who, one.percent, one.amount) for one in status.standings] == [
        ("high", 90.0, 10),
        ("pro", 25.0, 20),
        ("low", 10.0, 10),
    ]
    assert status.others == 1


def test_who_began_at_this_moment_is_seen_by_the_counters(ledger):
    row, fresh = budget(10), key("fresh")
    count(row, fresh.pk, 4)
    assert [(one.who, one.used) for one in budget_status.of(row).standings] == [("fresh", Decimal(4))]


def test_a_raise_is_part_of_the_amount_and_named(ledger):
    row = budget(10, "all")
    raised(row, 5)
    worst = budget_status.of(row).worst
    assert (worst.amount, worst.raised) == (Decimal(15), Decimal(5))


def test_a_budget_of_single_requests_has_no_period(ledger):
    worst = budget_status.of(budget(5, "all", period="request")).worst
    assert (worst.span, worst.code, worst.amount) == (None, "BUDGET_OK", Decimal(5))
    status = budget_status.of(budget(5, period="request"))
    assert (status.worst, status.others) == (None, 0)


def test_past_periods_are_told_newest_first(ledger):
    row = budget(10, "all")
    ledger["all", month(number=10)] = {"": Decimal(12)}
    ledger["all", month(number=8)] = {"": Decimal(3)}
    past = budget_status.past(row, NOW)
    assert [one.used for one in past][:3] == [Decimal(12), Decimal(0), Decimal(3)]
    assert len(past) == 12
    assert past[0].span.end == month()


def test_past_periods_of_each_team_name_who_spent_the_most(ledger):
    team, other = Team.objects.create(name="research"), Team.objects.create(name="sales")
    ledger["team", month(number=10)] = {team.pk: Decimal(7), other.pk: Decimal(2)}
    row = budget(10, "each_team")
    newest = budget_status.past(row, NOW)[0]
    assert (newest.who, newest.used, newest.spenders) == ("research", Decimal(7), 2)
    assert budget_status.past(row, NOW)[1].who == ""
    assert budget_status.past(row, NOW, other.pk)[0].used == Decimal(2)


def test_many_budgets_ask_the_ledger_once_for_each_span(ledger, monkeypatch):
    asked = []
    monkeypatch.setattr(spending, "_read", lambda one: asked.append(one) or {})
    keys = [key(str(number)) for number in range(3)]
    rows = [budget(10, "key", client_key=one) for one in keys]
    assert len(budget_status.of_many(rows, NOW + timedelta(hours=1))) == 3
    assert len(asked) == 1


def test_the_nearest_to_their_end_come_first(ledger):
    low, high, off = budget(100, "all"), budget(10, period="day"), budget(1, "all", period="hour", enabled=False)
    budget(1, "all", period="request")
    app, other = key("app"), key("other")
    ledger["all", month()] = {"": Decimal(20)}
    ledger["all", budget_periods.span("hour", NOW).start] = {"": Decimal(20)}
    ledger["key", budget_periods.span("day", NOW).start] = {app.pk: Decimal(9), other.pk: Decimal(1)}
    found = budget_status.nearest([low, high, off], 2, NOW)
    assert [(row, one.who) for row, one in found] == [(high, "app"), (low, "everything together")]


def test_what_is_long_over_is_asked_for_once(monkeypatch):
    asked = []
    monkeypatch.setattr(spending, "_read", lambda one: asked.append(one) or {"": Decimal(3)})
    row = budget(10, "all", period="hour")
    first = budget_status.past(row, NOW)
    assert budget_status.past(row, NOW) == first
    # The hour that was over a moment ago may still grow.
    assert [one.start for one in asked[24:]] == [first[0].span.start]
