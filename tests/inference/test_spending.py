from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count

import pytest

from inference import usage_rows
from inference.recording import row_of
from routing import spending
from routing.spending import Spending
from tests.inference.test_recording import entry

pytestmark = pytest.mark.django_db

START = datetime(2026, 11, 1, tzinfo=UTC)
END = START + timedelta(days=30)
_numbers = count(1)


def spent(cost, *, at=START + timedelta(days=1), **facts):
    usual = {"client_key_id": None, "team_id": None, "provider_id": "p", "model_id": "a/b", "tags": ""}
    amount = None if cost is None else Decimal(cost)
    row = row_of(entry(next(_numbers)))._replace(at=at, cost=amount, **usual | facts)
    usage_rows.write([row])


def asked(subject, name=None, start=START, end=END):
    return dict(spending.of(Spending(subject, start, end, name)))


@pytest.mark.parametrize("minutes", [0, 30])
def test_each_subject_has_its_own_sum(minutes):
    """In hours that are summed up, and in the halves of hours that a zone's periods begin and end with."""
    start = START + timedelta(minutes=minutes)
    spent("1.25", at=START + timedelta(minutes=45), client_key_id=1, team_id=7, tags=",blue,")
    spent("0.50", client_key_id=2, team_id=7, tags=",blue,green,")
    spent("0.25", at=END + timedelta(minutes=minutes - 1), client_key_id=2, provider_id="q")
    spent("9", at=END + timedelta(minutes=minutes), client_key_id=2, tags=",blue,")

    def of(subject, name=None):
        return asked(subject, name, start, END + timedelta(minutes=minutes))

    assert of("all") == {"": Decimal("2.00")}
    assert of("key") == {1: Decimal("1.25"), 2: Decimal("0.75")}
    assert of("key", 2) == {2: Decimal("0.75")}
    assert of("team") == {7: Decimal("1.75")}
    assert of("provider", "q") == {"q": Decimal("0.25")}
    assert of("model", "p/a/b") == {"p/a/b": Decimal("1.75")}
    assert of("tag", "blue") == {"blue": Decimal("1.75")}
    assert of("tag", "blu") == {}


def test_what_nobody_can_price_and_what_the_other_side_served_costs_nothing_here():
    spent(None, client_key_id=1)
    spent("1", client_key_id=1, side="legacy")
    spent("1", client_key_id=1, currency="EUR")
    assert asked("key") == {}


def test_a_span_within_an_hour_is_summed_from_the_ledger():
    for minute in (5, 15, 25):
        spent("1", at=START + timedelta(minutes=minute), client_key_id=1)
    assert asked("key", 1, START + timedelta(minutes=10), START + timedelta(minutes=20)) == {1: Decimal(1)}
