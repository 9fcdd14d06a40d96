"""What the page of a client key is told of its traffic."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.utils import timezone

from inference import key_traffic
from inference.models import UsageRecord
from routing.key_traffic import DAYS
from tests.inference.ledger import correct, record

pytestmark = pytest.mark.django_db


def test_a_key_is_told_its_day_by_currency_and_its_weeks_by_the_day(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = datetime.now(UTC)
    monkeypatch.setattr(timezone, "now", lambda: now)
    record(2, client_key_id=1, cost=Decimal("0.5"), input_tokens=10, output_tokens=3, at=now)
    record(client_key_id=1, cost=Decimal(2), currency="EUR", status=502, at=now)
    record(client_key_id=1, cost=Decimal(4), at=now - timedelta(days=DAYS - 1))
    record(client_key_id=2, cost=Decimal(9))
    record(client_key_id=1, cost=Decimal(9), side="legacy")

    told = key_traffic.figures(1)

    assert (told.requests, told.failed, told.input_tokens, told.output_tokens) == (3, 1, 20, 6)
    assert told.costs == {"USD": Decimal(1), "EUR": Decimal(2)}
    assert len(told.days) == DAYS
    assert [(day.requests, day.failed, day.cost) for day in (told.days[0], told.days[-1])] == [
        (1, 0, Decimal(4)),
        (3, 1, Decimal(1)),
    ]


def test_a_correction_of_prices_changes_what_a_key_cost() -> None:
    record(client_key_id=1, cost=Decimal(1))
    correct(UsageRecord.objects.get(), Decimal("-0.25"))
    assert key_traffic.figures(1).costs == {"USD": Decimal("0.75")}


def test_the_latest_calls_of_a_key_are_its_own_and_what_its_clients_asked() -> None:
    now = datetime.now(UTC)
    record(client_key_id=1, requested_model="old", at=now - timedelta(minutes=5))
    record(client_key_id=1, requested_model="new", at=now)
    record(client_key_id=1, requested_model="copied", side="shadow", at=now)
    record(client_key_id=2, requested_model="another's", at=now)
    assert [call.asked for call in key_traffic.calls(1)] == ["new", "old"]
