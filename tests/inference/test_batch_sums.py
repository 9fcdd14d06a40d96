from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from django.db.models import Sum
from django.utils import timezone

from inference import usage_rows
from inference.attempts import RUN, Paid
from inference.backends.base import Usage
from inference.batch_models import Batch
from inference.models import UsageRecord
from inference.recording import Row, row_of
from tests.inference import registry
from tests.inference.test_recording import entry

pytestmark = pytest.mark.django_db

USED = Usage(1000, 500, 100, 20)


@pytest.fixture
def batch() -> Batch:
    return Batch.objects.create(
        owner="gw-1", endpoint="/v1/chat/completions", input_file_id="f", expires_at=timezone.now()
    )


def line_of(batch: Batch, number: int, **facts: Any) -> Row:
    return row_of(entry(request_id=f"{batch.pk}_{number}", usage=USED, **facts))


def test_a_batch_has_used_and_cost_what_the_ledger_says_of_its_lines(batch: Batch) -> None:
    lost = line_of(batch, 2, status=499, error_code="job_given_back")._replace(attempt=RUN + 1)
    failed = Paid(registry.model(registry.provider("other"), "m"), USED, 500)
    other = row_of(entry(1, usage=USED))
    usage_rows.write([line_of(batch, 1), line_of(batch, 2, paid=(failed,)), lost, other])
    usage_rows.write([lost, line_of(batch, 3)])
    batch.refresh_from_db()
    ledger = UsageRecord.objects.filter(request_id__startswith=batch.pk)
    sums = ledger.aggregate(*(Sum(name) for name in ("cost", "input_tokens", "output_tokens")))
    assert ledger.count() == 5
    assert batch.cost == sums["cost__sum"] > 0
    assert (batch.input_tokens, batch.output_tokens) == (sums["input_tokens__sum"], sums["output_tokens__sum"])
    assert (batch.cached_tokens, batch.reasoning_tokens) == (500, 100)


def test_other_currencies_and_unknown_prices_are_no_dollars(batch: Batch) -> None:
    usage_rows.write([line_of(batch, 1)._replace(currency="EUR"), line_of(batch, 2)._replace(cost=None)])
    batch.refresh_from_db()
    assert (batch.cost, batch.input_tokens) == (Decimal(0), 2000)
