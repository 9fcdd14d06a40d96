"""The bench's own instruments: figures are worth nothing when the upstream or the load generator lies."""

from __future__ import annotations

import json
import shutil
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from benchmarks import upstream
from benchmarks.load import Findings, Target, hold, run
from benchmarks.upstream import Upstream, body

pytestmark = pytest.mark.skipif(not (shutil.which("cc") or shutil.which("gcc")), reason="needs a C compiler")


@pytest.fixture(scope="module")
def mock(tmp_path_factory) -> Iterator[Upstream]:
    mock = Upstream(core=None, directory=tmp_path_factory.mktemp("mock"))
    yield mock
    mock.stop()


def test_a_closed_loop_counts_exactly_the_requests_that_the_upstream_answered(mock):
    before = mock.stats()["requests"]
    seen = run(Target(mock.port), body(upstream.WHOLE), connections=1, requests=300, seconds=60, warmup=0)
    assert (seen.finished, seen.failed, seen.cut, seen.complaint) == (300, 0, 0, "")
    # The connection had begun one more when the count was full.
    assert mock.stats()["requests"] - before in (300, 301)
    assert seen.latency.count == 300
    assert 0 < seen.latency.p50 <= seen.latency.p99 <= seen.latency.max


def test_in_an_open_loop_requests_are_due_by_the_clock_however_fast_they_are_answered(mock):
    seen = run(Target(mock.port), body(upstream.WHOLE), connections=4, rate=200, seconds=1, warmup=0)
    assert 200 <= seen.finished + seen.open + seen.unsent <= 202


def test_whole_streams_are_counted_with_their_chunks(mock):
    request = body("mock-c25-i0", stream=True)
    seen = run(Target(mock.port), request, connections=1, requests=10, seconds=60, warmup=0, stream=True)
    assert (seen.streams, seen.cut, seen.failed) == (10, 0, 0)
    # A following stream may have begun.
    assert 250 <= seen.chunks < 275
    assert seen.first_token.count >= 10


def test_a_paced_stream_takes_its_time_and_its_chunks_carry_their_departure(mock):
    request = body("mock-c10-i20000", stream=True)
    seen = run(Target(mock.port), request, connections=1, requests=1, seconds=60, warmup=0, stream=True)
    assert seen.latency.p50 >= 10 * 20_000
    assert 10 <= seen.relay.count <= 11
    assert 0 < seen.relay.p50 < seen.latency.p50


def test_the_usage_of_a_stream_is_summed_when_it_was_asked_for(mock):
    request = json.loads(body("mock-c7-i0", stream=True)) | {"stream_options": {"include_usage": True}}
    target = Target(mock.port)
    seen = run(target, json.dumps(request).encode(), connections=1, requests=3, seconds=60, warmup=0, stream=True)
    assert seen.tokens == 21


def test_held_streams_stay_open_until_released_and_then_end_at_the_upstream(mock):
    with hold(Target(mock.port), body(upstream.ONE_A_SECOND, stream=True), streams=20) as held:
        assert mock.stats()["open_streams"] == 20
        seen = held.release()
    assert (seen.open, seen.cut, seen.failed) == (20, 0, 0)
    until = time.monotonic() + 60
    while mock.stats()["open_streams"] and time.monotonic() < until:
        time.sleep(0.01)
    assert mock.stats()["open_streams"] == 0


def _asked(reply: bytes, *, stream: bool) -> Findings:
    """One request to a server that reads it, answers with `reply` and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        answering = threading.Thread(target=_answer_once, args=(server, reply))
        answering.start()
        target = Target(server.getsockname()[1])
        request = body(upstream.WHOLE, stream=stream)
        seen = run(target, request, connections=1, requests=1, seconds=60, warmup=0, stream=stream)
        answering.join()
    return seen


def _answer_once(server: socket.socket, reply: bytes) -> None:
    client, _ = server.accept()
    with client, client.makefile("rb") as lines:
        length = 0
        while (line := lines.readline()) not in (b"\r\n", b""):
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        lines.read(length)
        client.sendall(reply)


def _stream(*events: str, end: bool = True) -> bytes:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    frames = b"".join(b"%x\r\n%s\r\n" % (len(event), event.encode()) for event in events)
    return head + frames + (b"0\r\n\r\n" if end else b"")


TOKEN = 'data: {"choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n'
DONE = "data: [DONE]\n\n"


@pytest.mark.parametrize(
    ("reply", "cut"),
    [
        (_stream(TOKEN, DONE), 0),
        (_stream(TOKEN), 1),
        (_stream(TOKEN, DONE, end=False), 1),
        (_stream(TOKEN, end=False), 1),
        (_stream(TOKEN, 'data: {"error": {"message": "gone"}}\n\n', DONE), 1),
        (_stream(TOKEN, 'event: error\ndata: {"message": "gone"}\n\n', DONE), 1),
        (_stream(TOKEN, 'data: {"error":{"message":"gone"}}\n\n'), 1),
        (_stream(TOKEN[:20], TOKEN[20:], DONE[:3], DONE[3:]), 0),
    ],
    ids=["whole", "no done", "no last chunk", "neither", "error, then done", "error event", "error", "split lines"],
)
def test_a_stream_is_whole_only_with_done_and_a_last_chunk(reply, cut):
    seen = _asked(reply, stream=True)
    assert seen.cut == cut
    assert seen.chunks == 1


def test_a_refusal_is_a_failure_and_is_quoted():
    refusal = b'{"error":"no such model"}'
    reply = b"HTTP/1.1 404 Not Found\r\ncontent-length: %d\r\n\r\n%s" % (len(refusal), refusal)
    seen = _asked(reply, stream=False)
    assert seen.failed == 1
    assert "404" in seen.complaint
    assert "no such model" in seen.complaint


def test_an_answer_that_ends_early_is_a_failure():
    seen = _asked(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{}", stream=False)
    assert seen.failed == 1


def test_the_cpu_time_of_a_watched_process_is_that_of_the_window(mock):
    target = Target(mock.port)
    seen = run(target, body(upstream.WHOLE), connections=8, seconds=0.5, warmup=0.1, watch=[mock.pid])
    assert 0 < seen.cpu_seconds <= 0.7
