from datetime import UTC, datetime
from decimal import Decimal

import pytest

from inference import ledger_sums
from routing import metering_store, snapshot
from routing.allowances import MONEY, MONTH, AllowanceIndex
from routing.purses import span_ms
from tests.inference import registry
from tests.inference.test_spending import spent
from tests.routing.test_metering import allowance

pytestmark = pytest.mark.django_db


@pytest.fixture
def now():
    return datetime.now(UTC)


def budget(subject, whom):
    return allowance(
        MONEY, MONTH, 10**12, "budget", subject, whom=whom, when_away="closed", key=f"budget:1:{subject}:{whom}"
    )


def in_force(monkeypatch, *budgets):
    built = registry.snapshot(allowances=AllowanceIndex(every=budgets))
    monkeypatch.setattr(snapshot, "refresh", lambda: built)


def ms(at):
    return round(at.timestamp() * 1000)


def counted(redis_url, *budgets):
    return [metering_store.read(redis_url, budgets).get(one.key, (0,))[0] for one in budgets]


def test_each_subject_is_asked_for_by_name_and_rounded_up(now):
    spent("0.0000000015", at=now, client_key_id=7, team_id=3, tags=",blue,")
    spent("2", at=now, client_key_id=8, team_id=3)
    asked = [
        budget(*one)
        for one in (
            ("key", 7),
            ("key", 9),
            ("team", 3),
            ("tag", "blue"),
            ("provider", "p"),
            ("model", "p/a/b"),
            ("all", ""),
        )
    ]
    found = ledger_sums.of([(one, *span_ms(one, ms(now))) for one in asked])
    all_of_it = 2 * 10**9 + 2
    assert found == [2, 0, all_of_it, 2, all_of_it, all_of_it, all_of_it]


def test_counters_that_are_behind_are_raised_and_no_others(redis_url, monkeypatch, now):
    behind, ahead = budget("key", 7), budget("key", 8)
    in_force(monkeypatch, behind, ahead)
    spent("0.5", at=now, client_key_id=7)
    spent("0.5", at=now, client_key_id=8)
    metering_store.raise_to(redis_url, [(ahead, *span_ms(ahead, ms(now)), 9 * 10**8)])
    assert ledger_sums.reconcile() == 1
    assert counted(redis_url, behind, ahead) == [5 * 10**8, 9 * 10**8]
    assert ledger_sums.reconcile() == 0


def test_what_nobody_told_is_told_again_when_everybody_must_have_spoken(redis_url, monkeypatch, now):
    one = budget("key", 7)
    in_force(monkeypatch, one)
    spent("0.5", at=now, client_key_id=7)
    waited = []
    ledger_sums.reconcile(wait=waited.append)
    assert waited == [pytest.approx(2.5)]
    assert metering_store.counters(redis_url, [one])[one.key].told == 5 * 10**8
    ledger_sums.reconcile(wait=waited.append)
    assert len(waited) == 1


def test_what_was_spent_before_a_budget_was_made_counts(redis_url, monkeypatch, now):
    one = budget("key", 7)
    spent(Decimal("1.25"), at=now, client_key_id=7)
    in_force(monkeypatch, one)
    ledger_sums.reconcile()
    assert counted(redis_url, one) == [1_250_000_000]
