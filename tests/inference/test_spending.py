from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from inference.models import UsageRecord
from routing import spending
from routing.spending import Spending

pytestmark = pytest.mark.django_db

START = datetime(2026, 11, 1, tzinfo=UTC)
END = START + timedelta(days=30)


def spent(cost, *, at=START + timedelta(days=1), **facts):
    usual = {"operation": "chat", "requested_model": "m", "status": 200, "provider_id": "p", "model_id": "a/b"}
    number = UsageRecord.objects.count()
    amount = None if cost is None else Decimal(cost)
    return UsageRecord.objects.create(request_id=f"r{number}", at=at, cost=amount, **usual | facts)


def asked(subject, name=None):
    return dict(spending.of(Spending(subject, START, END, name)))


def test_each_subject_has_its_own_sum():
    spent("1.25", client_key_id=1, team_id=7, tags=",blue,")
    spent("0.50", client_key_id=2, team_id=7, tags=",blue,green,")
    spent("0.25", client_key_id=2, provider_id="q")
    assert asked("all") == {"": Decimal("2.00")}
    assert asked("key") == {1: Decimal("1.25"), 2: Decimal("0.75")}
    assert asked("key", 2) == {2: Decimal("0.75")}
    assert asked("team") == {7: Decimal("1.75")}
    assert asked("provider", "q") == {"q": Decimal("0.25")}
    assert asked("model", "p/a/b") == {"p/a/b": Decimal("1.75")}
    assert asked("tag", "green") == {"green": Decimal("0.50")}
    assert asked("tag", "gree") == {}


def test_what_nobody_can_price_and_what_the_other_side_served_costs_nothing_here():
    spent(None, client_key_id=1)
    spent("1", client_key_id=1, side="legacy")
    spent("1", client_key_id=1, currency="EUR")
    assert asked("key") == {}


def test_the_end_is_the_next_spans():
    spent("1", client_key_id=1, at=START)
    spent("2", client_key_id=1, at=END)
    assert asked("key", 1) == {1: Decimal(1)}
