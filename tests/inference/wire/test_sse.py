from __future__ import annotations

import pytest

from inference.wire import sse


@pytest.mark.parametrize("tail", [b"data: [DONE]\n\n", b"x\n\ndata:[DONE]\r\n\r\n", b"...null}]}\n\ndata: [DONE]"])
def test_the_end_marker_is_found_at_a_line_s_start(tail) -> None:
    assert sse.is_done(tail)


def test_a_model_that_writes_the_end_marker_does_not_end_its_stream() -> None:
    assert not sse.is_done(b'data: {"choices":[{"delta":{"content":"say data: [DONE] now"}}]}\n\n')


def test_a_stream_with_a_finish_reason_is_complete() -> None:
    assert sse.is_complete(b'data: {"choices":[{"finish_reason": "stop"}]}\n\n')
    assert not sse.is_complete(b'data: {"choices":[{"finish_reason": null}]}\n\n')


@pytest.mark.parametrize(
    ("sent", "boundary"),
    [(b"", True), (b"data: 1\n\n", True), (b"data: 1\r\n\r\n", True), (b"data: 1\n", False), (b"data", False)],
)
def test_comments_go_between_events_only(sent, boundary) -> None:
    assert sse.at_event_boundary(sent) is boundary


@pytest.mark.parametrize("first", [b"data: {}\n\n", b": hi\n\n", b"\xef\xbb\xbfdata:{}\n\n", b"\r\nevent: x\r\n\r\n"])
def test_an_event_stream_is_known_by_its_first_line(first) -> None:
    assert sse.begins_as_stream(first)


@pytest.mark.parametrize("first", [b"hello\n\n", b"<!doctype html>", b'{"choices":[]}'])
def test_text_is_no_event_stream(first) -> None:
    assert not sse.begins_as_stream(first)


def test_comments_before_the_first_event_are_told_from_it() -> None:
    assert sse.after_comments(b": busy\n\n:\r\n\r\n") == b""
    assert sse.after_comments(b": busy\n\ndata: {}\n\n: later\n\n") == b"data: {}\n\n: later\n\n"


def test_an_error_in_the_first_event_is_seen() -> None:
    assert sse.begins_with_error(b'data: {"error": {"message": "x"}}\n\n')
    assert not sse.begins_with_error(b'data: {"choices":[],"error":null}\n\n')


def test_an_error_among_the_last_events_is_seen() -> None:
    assert sse.holds_error(b'data: {"choices":[]}\n\ndata: {"error":{"message":"died"}}\n\n')
    assert not sse.holds_error(b'data: {"choices":[{"delta":{"content":"data: {\\"error\\":{"}}]}\n\n')
