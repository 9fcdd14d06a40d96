from __future__ import annotations

import pytest

from inference.request_ids import new_request_id
from inference.trace_ids import arriving, child, current, origin_of, parent_of, span_id, trace_of, w3c_trace_id

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


@pytest.mark.parametrize(
    "sent",
    [
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        PARENT.upper(),
        PARENT + "x",
    ],
)
def test_what_the_standard_forbids_counts_as_not_sent(sent: str) -> None:
    assert parent_of(sent) is None


def test_what_a_later_version_of_the_standard_adds_does_no_harm() -> None:
    assert parent_of("01" + PARENT[2:] + "-more") == ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "01")


def test_our_span_is_a_child_in_the_callers_trace() -> None:
    parent = parent_of(PARENT)
    assert parent is not None
    request_id = new_request_id()
    assert child(parent, request_id) == f"00-{parent.trace_id}-{request_id[-16:]}-01"


@pytest.mark.parametrize(
    "name",
    [new_request_id(), "job_" + "ab" * 16, "0af7651916cd43dd8448eb211c80319c"],
    ids=["of a request", "of a job", "of a trace"],
)
def test_ids_of_32_digits_are_trace_ids_as_they_are(name: str) -> None:
    assert w3c_trace_id(name) == name.rpartition("_")[2]


def test_any_other_name_stands_for_one_trace() -> None:
    assert w3c_trace_id("order-7") == w3c_trace_id("order-7") != w3c_trace_id("order-8")
    assert parent_of(f"00-{w3c_trace_id('order-7')}-{span_id('order-7')}-01") is not None


def test_code_that_asks_within_a_request_comes_from_where_that_comes_from() -> None:
    origin = origin_of({"traceparent": PARENT}, "192.0.2.7")
    with arriving(origin):
        assert current() == ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "192.0.2.7")
    assert current() == ("", "", "")
