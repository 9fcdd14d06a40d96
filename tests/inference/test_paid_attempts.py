"""Tries that failed and cost money all the same: each is a row of the ledger, and the trace tells their sum."""

from __future__ import annotations

from decimal import Decimal

import orjson
import pytest

from inference import usage_rows
from inference.attempts import Paid
from inference.backends.base import Usage
from inference.models import Trace, UsageRecord
from inference.recording import row_of
from tests.fakes.upstream import Answer, FakeUpstream
from tests.inference import registry
from tests.inference.door import Door
from tests.inference.test_recording import entry

USAGE = {"prompt_tokens": 1_000_000, "completion_tokens": 10, "total_tokens": 1_000_010}
ERROR = {"error": {"message": "out of memory", "code": "oom"}, "usage": USAGE}

CUT = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n"
    + orjson.dumps({"usage": USAGE})[:-1]
)


@pytest.mark.parametrize(
    ("stream", "failed"),
    [
        (False, Answer(status=500, json=ERROR)),
        (False, Answer(json=ERROR)),
        (
            False,
            Answer(
                body=b'{"usage":{"prompt_tokens":1000000,"completion_tokens":10},"choices":[{"mess',
                content_type="application/json",
            ),
        ),
        (False, Answer(raw=CUT)),
        (True, Answer(events=[ERROR])),
        (True, Answer(json={"choices": [], "usage": USAGE})),
    ],
)
async def test_a_failed_try_whose_tokens_were_told_is_paid_for(serve, stream, failed) -> None:
    async with Door() as door:
        with FakeUpstream(models=["m"]) as first, FakeUpstream(models=["m"]) as second:
            first.reply_with(failed, times=None)
            serve(
                registry.model(registry.remote(first.base_url, "first", priority=1), "m"),
                registry.model(registry.remote(second.base_url, "second", priority=2), "m"),
            )
            answer = await door.chat(model="m", stream=stream)
    assert (answer.status, answer.headers["x-gateway-route"]) == (200, "second/m")
    (row,) = door.rows
    assert row.provider_id == "second"
    assert {(one.provider_id, one.input_tokens, one.output_tokens) for one in row.paid} == {("first", 1_000_000, 10)}
    assert [one.attempt for one in row.paid] == list(range(1, len(row.paid) + 1))


@pytest.mark.django_db
def test_the_ledger_has_a_row_for_each_paid_try_and_the_trace_their_sum() -> None:
    model = registry.model(registry.provider("first"), "m")
    usage_rows.insert([row_of(entry(1, paid=(Paid(model, Usage(1_000_000, 0, 500_000), 502),)))])
    assert list(UsageRecord.objects.order_by("attempt").values_list("attempt", "status", "cost")) == [
        (0, 200, Decimal(2)),
        (1, 502, Decimal(1)),
    ]
    trace = Trace.objects.get()
    assert (trace.cost, trace.input_tokens, trace.output_tokens, trace.cached_tokens) == (
        3,
        2_000_000,
        500_000,
        500_000,
    )
