"""The server's own bounds, on a real socket: what a client may send before the application sees anything."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading

import pytest
import uvicorn
from uvicorn.server import ServerState

from gateway_project.server import BoundedHttp, OneWrite
from routing import snapshot
from tests.contract.gateway import Gateway
from tests.inference import registry

BODY = b'{"model":"fake-chat","messages":[{"role":"user","content":"hi"}]}'


class Strict(BoundedHttp):
    """Patient, unless a test waits for the end of its patience: another's requests may be late on a busy machine."""

    max_header_bytes = 2000


@pytest.fixture
def gateway(request):
    snapshot.replace(registry.snapshot(registry.model(registry.provider())))
    with Gateway(http=Strict, keep_alive_seconds=getattr(request, "param", 75)).serving() as serving:
        yield serving
    snapshot.replace(None)


@pytest.fixture
def short_of_time(monkeypatch):
    monkeypatch.setattr(Strict, "header_seconds", 0.2)


@pytest.fixture
def wire(gateway):
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=60) as connection:
        yield connection


def head(*more: bytes, length: int = len(BODY)) -> bytes:
    lines = [
        b"POST /v1/chat/completions HTTP/1.1",
        b"host: gateway",
        b"authorization: Bearer " + registry.CLIENT_KEY.encode(),
        b"content-length: %d" % length,
        *more,
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def read_all(connection: socket.socket) -> bytes:
    """Up to the end, which is a reset where what we sent came too late."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while data := connection.recv(65536):
            received += data
    return received


def more(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    assert data, "the connection ended before the reply"
    return data


def read_reply(connection: socket.socket) -> bytes:
    received = b""
    while b"\r\n\r\n" not in received:
        received += more(connection)
    start, _, rest = received.partition(b"\r\n\r\n")
    length = next(int(line[15:]) for line in start.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    while len(rest) < length:
        rest += more(connection)
    return start + b"\r\n\r\n" + rest


def test_several_requests_share_a_connection(wire) -> None:
    for _ in range(3):
        wire.sendall(head() + BODY)
        assert read_reply(wire).startswith(b"HTTP/1.1 200 OK\r\n")


def test_pipelined_requests_are_answered_in_order(wire) -> None:
    wire.sendall((head() + BODY) * 2 + head(b"connection: close") + BODY)
    assert read_all(wire).count(b"HTTP/1.1 200 OK\r\n") == 3


@pytest.mark.usefixtures("short_of_time")
def test_a_connection_that_says_nothing_is_closed(wire) -> None:
    assert read_all(wire).startswith(b"HTTP/1.1 408 ")


@pytest.mark.usefixtures("short_of_time")
def test_a_head_that_never_ends_is_refused(wire) -> None:
    wire.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n")
    assert read_all(wire).startswith(b"HTTP/1.1 408 ")


@pytest.mark.usefixtures("short_of_time")
def test_a_head_that_drips_does_not_get_more_time(wire) -> None:
    stop = threading.Event()
    wire.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nx-drip: ")

    def drip() -> None:
        try:
            while not stop.wait(0.05):
                wire.sendall(b"x")
        except OSError:
            return

    dripping = threading.Thread(target=drip)
    dripping.start()
    try:
        assert b"408" in wire.recv(4096)
    finally:
        stop.set()
        dripping.join()


def test_the_second_request_of_a_connection_has_the_same_bounds(wire, request) -> None:
    wire.sendall(head() + BODY)
    read_reply(wire)
    request.getfixturevalue("short_of_time")
    wire.sendall(b"POST /v1/chat/comp")
    assert read_all(wire).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("gateway", [1], indirect=True, ids=["after a second"])
def test_an_idle_connection_is_closed_in_the_end(gateway, wire) -> None:
    wire.sendall(head() + BODY)
    assert read_reply(wire).startswith(b"HTTP/1.1 200 OK\r\n")
    assert wire.recv(1) == b""


def test_a_body_that_never_comes_is_refused(wire, monkeypatch) -> None:
    monkeypatch.setattr(Strict, "body_seconds", 0.3)
    wire.sendall(head() + BODY[:10])
    assert read_all(wire).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("at_once", [True, False], ids=["in one piece", "in pieces"])
def test_a_head_that_is_too_large_is_refused(gateway, wire, at_once) -> None:
    request = head(b"x-filler: " + b"f" * 3000) + BODY
    size = len(request) if at_once else 200
    answer = b""
    with contextlib.suppress(ConnectionError):  # it may close while we are still sending
        for at in range(0, 2600, size):
            wire.sendall(request[at : at + size])
        answer = read_all(wire)
    assert not answer or answer.startswith(b"HTTP/1.1 431 ")
    assert gateway.metrics.requests == {}


def test_a_large_body_is_no_large_head(wire) -> None:
    body = BODY.replace(b'"hi"', b'"' + b"h" * 100_000 + b'"')
    wire.sendall(head(length=len(body)) + body)
    assert read_reply(wire).startswith(b"HTTP/1.1 200 OK\r\n")


def test_what_is_not_http_is_refused(wire) -> None:
    wire.sendall(b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n")
    assert read_all(wire).startswith(b"HTTP/1.1 400 ")


def test_http_1_0_gets_its_reply_and_the_end(wire) -> None:
    wire.sendall(head().replace(b"HTTP/1.1", b"HTTP/1.0") + BODY)
    answer = read_all(wire)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"connection: close" in answer


def test_http_1_0_gets_a_stream_without_chunks(wire) -> None:
    body = BODY.replace(b"{", b'{"stream":true,', 1)
    wire.sendall(head(length=len(body)).replace(b"HTTP/1.1", b"HTTP/1.0") + body)
    start, _, events = read_all(wire).partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in start
    assert events.startswith(b"data: {")
    assert events.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("offered", [b"h2c", b"websocket"])
def test_an_offer_of_another_protocol_is_passed_over(wire, offered) -> None:
    wire.sendall(
        head(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: " + offered, b"HTTP2-Settings: AAMAAABk") + BODY
    )
    assert read_reply(wire).startswith(b"HTTP/1.1 200 OK\r\n")
    wire.sendall(head() + BODY)
    assert read_reply(wire).startswith(b"HTTP/1.1 200 OK\r\n")


def test_expect_100_continue_is_answered(wire) -> None:
    wire.sendall(head(b"expect: 100-continue"))
    assert wire.recv(4096).startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
    wire.sendall(BODY)
    assert read_reply(wire).startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_chunked_request_body_is_read(wire) -> None:
    framed = head(b"transfer-encoding: chunked").replace(b"content-length: %d\r\n" % len(BODY), b"")
    wire.sendall(framed + b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY))
    assert read_reply(wire).startswith(b"HTTP/1.1 200 OK\r\n")


def test_head_requests_get_no_body(wire) -> None:
    wire.sendall(
        b"HEAD /v1/models HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer "
        + registry.CLIENT_KEY.encode()
        + b"\r\n\r\n"
    )
    start, _, body = read_all(wire).partition(b"\r\n\r\n")
    assert start.startswith(b"HTTP/1.1 200 OK")
    assert body == b""


@contextlib.asynccontextmanager
async def served(app, http):
    """A connection to a server of `app`, on this loop."""
    config = uvicorn.Config(app, http=http, ws="none", lifespan="off", log_config=None)
    config.load()
    state = ServerState()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: http(config=config, server_state=state, app_state={}), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    try:
        async with asyncio.timeout(60):
            yield reader, writer
    finally:
        writer.transport.abort()
        server.close()


STREAM = {"type": "http.response.start", "status": 200, "headers": []}
A_GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


async def test_a_reply_that_others_wait_behind_hears_that_its_client_left() -> None:
    heard = asyncio.get_running_loop().create_future()

    async def app(scope, receive, send):
        await receive()
        await send(STREAM)
        heard.set_result(await receive())

    async with served(app, Strict) as (reader, writer):
        writer.write(A_GET * 2)
        await reader.readline()
        writer.transport.abort()
        assert await heard == {"type": "http.disconnect"}


@pytest.mark.parametrize("apart", [True, False])
async def test_a_body_is_not_late_behind_a_reply_under_way(apart) -> None:
    late, gate = asyncio.Event(), asyncio.Event()

    class Short(Strict):
        body_seconds = 0.01

        def _body_is_late(self) -> None:
            super()._body_is_late()
            late.set()

    async def app(scope, receive, send):
        await receive()
        await send(STREAM)
        await gate.wait()
        await send({"type": "http.response.body", "body": b"to the end"})

    async with served(app, Short) as (reader, writer):
        half = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nhalf"
        writer.write(A_GET if apart else A_GET + half)
        await reader.readuntil(b"\r\n\r\n")
        if apart:
            writer.write(half)
        await late.wait()
        gate.set()
        assert await reader.readuntil(b"0\r\n\r\n") == b"a\r\nto the end\r\n0\r\n\r\n"


class Kept:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def close(self) -> None:
        self.written.append(b"<closed>")


class Open:
    write_paused = False

    def resume_reading(self) -> None:
        pass


def cycle(transport: Kept) -> OneWrite:
    scope = {"method": "GET", "http_version": "1.1"}
    log = logging.getLogger("test")
    return OneWrite(scope, transport, Open(), log, log, False, [], asyncio.Event(), False, True, lambda: None)


async def test_a_whole_reply_leaves_in_one_write() -> None:
    transport = Kept()
    reply = cycle(transport)
    await reply.send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await reply.send({"type": "http.response.body", "body": b"ok"})
    assert transport.written == [b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"]


async def test_a_stream_s_head_leaves_at_once_and_each_piece_in_one_write() -> None:
    transport = Kept()
    reply = cycle(transport)
    await reply.send({"type": "http.response.start", "status": 200, "headers": []})
    assert len(transport.written) == 1
    await reply.send({"type": "http.response.body", "body": b"abc", "more_body": True})
    await reply.send({"type": "http.response.body", "body": b""})
    assert transport.written[1:] == [b"3\r\nabc\r\n", b"0\r\n\r\n"]


async def test_a_length_in_capitals_is_the_reply_s_length() -> None:
    transport = Kept()
    reply = cycle(transport)
    await reply.send({"type": "http.response.start", "status": 200, "headers": [(b"Content-Length", b"2")]})
    await reply.send({"type": "http.response.body", "body": b"ok"})
    assert transport.written == [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"]


@pytest.mark.parametrize("already_asked", [True, False])
async def test_after_the_body_only_the_client_s_leaving_is_told(already_asked) -> None:
    """Clients such as `requests` send head and body apart: the application asks before the body is here."""
    reply = cycle(Kept())
    asked = asyncio.create_task(reply.receive())
    if already_asked:
        await asyncio.sleep(0)
    reply.body += b"ok"
    reply.more_body = False
    reply.message_event.set()
    assert await asked == {"type": "http.request", "body": b"ok", "more_body": False}
    after = asyncio.create_task(reply.receive())
    for _ in range(3):
        await asyncio.sleep(0)
    assert not after.done()
    reply.disconnected = True
    reply.message_event.set()
    assert await after == {"type": "http.disconnect"}


@pytest.mark.parametrize("value", [b"a\r\nset-cookie: x=y", b"a\nb", b"a\rb", b"a\0b"])
async def test_a_header_cannot_smuggle_another(value) -> None:
    reply = cycle(Kept())
    with pytest.raises(RuntimeError, match="line end"):
        await reply.send({"type": "http.response.start", "status": 200, "headers": [(b"x-a", value)]})


@pytest.mark.parametrize("body", [b"too long", b"s"])
async def test_a_body_is_as_long_as_announced(body) -> None:
    reply = cycle(Kept())
    await reply.send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"3")]})
    with pytest.raises(RuntimeError, match="content-length"):
        await reply.send({"type": "http.response.body", "body": body})
