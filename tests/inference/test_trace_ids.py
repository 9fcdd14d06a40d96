from __future__ import annotations

import pytest

from inference.trace_ids import trace_of

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    ("headers", "trace"),
    [
        ({}, "own"),
        ({"x-trace-id": "t"}, "t"),
        ({"trace-id": "t"}, "t"),
        ({"x-request-id": "t"}, "t"),
        ({"request-id": "t"}, "t"),
        ({"x-request-id": "r", "x-trace-id": "t"}, "t"),
        ({"x-trace-id": "t", "traceparent": PARENT}, "0af7651916cd43dd8448eb211c80319c"),
        ({"x-trace-id": "two words", "trace-id": "t"}, "t"),
        ({"x-trace-id": "x" * 200}, "own"),
        ({"traceparent": "nonsense"}, "own"),
    ],
)
def test_a_trace_is_named_in_any_of_the_headers_that_clients_use(headers: dict[str, str], trace: str) -> None:
    assert trace_of(headers, "own") == trace
