from datetime import UTC, datetime, timedelta

import pytest

from inference import route_times
from tests.inference.ledger import record

pytestmark = pytest.mark.django_db


def test_the_p95_of_a_day_stands_beside_each_candidate():
    for ms in (100.0, 100.0, 900.0):
        record(provider_id="p", model_id="m", duration_ms=ms)
    record(provider_id="p", model_id="m", duration_ms=60_000.0, at=datetime.now(UTC) - timedelta(days=3))
    for _ in range(20):
        record(provider_id="p", model_id="m", duration_ms=1.0, side="probe")  # nobody waited for it
    told = {"candidates": [{"provider_id": "p", "model_id": "m"}, {"provider_id": "p", "model_id": "other"}]}
    route_times.tell(told)
    first, other = (one["p95_ms"] for one in told["candidates"])
    assert 600 < first <= 1000
    assert other is None
