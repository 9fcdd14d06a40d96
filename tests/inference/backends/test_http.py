"""Both upstream clients against a real server with every fault, on both event loops."""

import asyncio
import contextlib
import gzip
import random
import socket
import ssl
import threading

import pytest

from inference.backends import pool as pools
from inference.backends.exchange import MAX_HEAD_BYTES, Limits, Origin, header
from inference.backends.http import client_for, origin_of, plain_stream, whole_body
from inference.backends.http1 import Http1Client
from inference.backends.proxied import ProxiedClient
from inference.errors import (
    ConfigurationError,
    GatewayOverloaded,
    UpstreamBroken,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from providers.secrets import Secret
from tests.fakes.upstream import Answer, FakeUpstream, garbage, gzip_bomb, no_answer, redirect

QUICK = Limits(first_byte=0.2)
IMPATIENT = Limits(idle=0.2)
HELLO = b'{"hello": "world"}'
CHUNKED_HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.fixture
def upstream():
    with FakeUpstream() as server:
        yield server


@pytest.fixture(params=[Http1Client, ProxiedClient], ids=["lean", "aiohttp"])
def kind(request):
    return request.param


class Caller:
    """A client with its one prepared request."""

    def __init__(self, kind, url, headers=(), **options):
        self.origin, _ = origin_of(url, options)
        self.client = kind(self.origin)
        self.prepared = self.client.prepare("POST", "/v1/x", [(b"content-type", b"application/json"), *headers])

    async def ask(self, body=b"{}", **options):
        return await self.client.send(self.prepared, body, **options)

    async def stream(self, **options):
        return await self.ask(whole=False, **options)


@pytest.fixture
async def caller(kind, upstream):
    caller = Caller(kind, upstream.origin)
    yield caller
    await caller.client.aclose()


@contextlib.asynccontextmanager
async def calling(kind, url, **options):
    caller = Caller(kind, url, **options)
    try:
        yield caller
    finally:
        await caller.client.aclose()


async def collect(reply):
    return b"".join([piece async for piece in reply])


# Well-behaved servers


async def test_a_request_arrives_as_it_was_given(caller, upstream):
    upstream.reply_with(body=HELLO)
    await caller.ask(b'{"a": 1}', request_id="req-1")
    seen = upstream.requests[0]
    assert (seen.method, seen.target, seen.body) == ("POST", "/v1/x", b'{"a": 1}')
    assert seen.headers["host"] == f"127.0.0.1:{upstream.port}"
    assert seen.headers["content-type"] == "application/json"
    assert seen.headers["x-request-id"] == "req-1"
    assert "cookie" not in seen.headers


async def test_a_request_without_a_body_is_sent(kind, upstream):
    async with calling(kind, upstream.origin) as caller:
        prepared = caller.client.prepare("GET", "/v1/models?limit=1", [])
        reply = await caller.client.send(prepared)
        assert b"gpt-test" in await reply.read()
        assert upstream.requests[0].target == "/v1/models?limit=1"


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
async def test_a_whole_reply_comes_in_every_framing(caller, upstream, framing):
    upstream.reply_with(body=HELLO, framing=framing, headers={"X-Thing": "1"})
    reply = await caller.ask()
    assert reply.status == 200
    assert await reply.read() == HELLO
    assert header(reply, b"x-thing") == b"1"


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
async def test_a_stream_comes_in_every_framing(caller, upstream, framing):
    upstream.reply_with(events=[b"one ", b"two ", b"three"], framing=framing, event_delay_seconds=0.01)
    assert await collect(await caller.stream()) == b"one two three"


async def test_pieces_of_a_stream_are_handed_over_as_they_come(caller, upstream):
    upstream.reply_with(events=[b"first"], stall_after=1)
    reply = await caller.stream()
    assert await anext(reply) == b"first"
    await reply.aclose()


async def test_an_empty_reply_is_empty(caller, upstream):
    upstream.reply_with(status=204, raw=None, body=b"", framing="length")
    reply = await caller.ask()
    assert (reply.status, await reply.read()) == (204, b"")


async def test_an_error_status_of_a_stream_can_be_read_whole(caller, upstream):
    upstream.reply_with(status=500, body=b"broken")
    reply = await caller.stream()
    assert (reply.status, await reply.read()) == (500, b"broken")


async def test_connections_are_used_again(caller, upstream):
    for framing in ("length", "chunked", "length"):
        upstream.reply_with(body=HELLO, framing=framing)
        await caller.ask()
    upstream.reply_with(events=[b"x"])
    await collect(await caller.stream())
    await caller.ask()
    assert upstream.connections == 1


async def test_a_connection_announced_as_closing_is_not_used_again(caller, upstream):
    upstream.reply_with(body=HELLO, close=True)
    await caller.ask()
    await caller.ask()
    assert upstream.connections == 2


async def test_a_server_that_shuts_its_side_down_after_the_reply_has_answered(caller, upstream):
    upstream.reply_with(body=HELLO, half_close=True)
    reply = await caller.ask()
    assert await reply.read() == HELLO
    assert (await caller.ask()).status == 404
    assert upstream.connections == 2


async def test_a_half_closed_body_without_length_is_whole(caller, upstream):
    upstream.reply_with(body=HELLO, framing="close", half_close=True)
    assert await (await caller.ask()).read() == HELLO


@pytest.mark.parametrize("code", [b"100 Continue", b"103 Early Hints"])
async def test_interim_replies_are_skipped(caller, upstream, code):
    upstream.reply_with(body=HELLO, interim=[b"HTTP/1.1 " + code + b"\r\nlink: </x>\r\n\r\n"])
    reply = await caller.ask()
    assert (reply.status, await reply.read()) == (200, HELLO)
    assert header(reply, b"link") == b""


async def test_a_large_reply_arrives_whole(caller, upstream):
    large = b"0123456789" * 500_000
    upstream.reply_with(body=large)
    assert await (await caller.ask()).read() == large


async def test_a_large_request_is_sent_whole(caller, upstream):
    large = b"0123456789" * 300_000
    await caller.ask(large)
    assert upstream.requests[0].body == large


async def test_many_requests_run_at_the_same_time(caller, upstream):
    upstream.reply_with(body=HELLO, delay_seconds=0.1, times=None)
    replies = await asyncio.gather(*(caller.ask() for _ in range(100)))
    assert [await reply.read() for reply in replies] == [HELLO] * 100
    assert upstream.most_open_connections == 100


async def test_a_slow_reader_slows_the_server_down(caller, upstream):
    block = b"x" * 65536
    upstream.reply_with(events=[block] * 1000)
    reply = await caller.stream()
    await anext(reply)
    await asyncio.sleep(0.3)
    assert upstream.requests[0].events_sent < 1000
    assert len(await collect(reply)) > 900 * len(block)


async def test_a_slow_reader_is_not_a_stalled_server(caller, upstream):
    block = b"x" * 65536
    upstream.reply_with(events=[block] * 500)
    reply = await caller.stream(limits=Limits(idle=1.0))  # the server itself may take a while between two blocks
    size = len(await anext(reply))
    await asyncio.sleep(1.3)
    assert size + len(await collect(reply)) == 500 * len(block)


async def test_after_a_slow_read_the_connection_is_used_again(caller, upstream):
    upstream.reply_with(events=[b"x" * 65536] * 20)
    reply = await caller.stream()
    await anext(reply)
    await asyncio.sleep(0.05)
    await collect(reply)
    await caller.ask()
    assert upstream.connections == 1


async def test_cookies_are_not_kept(caller, upstream):
    upstream.reply_with(body=HELLO, headers={"set-cookie": "tenant=1"})
    await caller.ask()
    await caller.ask()
    assert "cookie" not in upstream.requests[1].headers


async def test_redirects_are_not_followed(caller, upstream):
    with FakeUpstream() as elsewhere:
        upstream.script(redirect(f"{elsewhere.base_url}/models"))
        assert (await caller.ask()).status == 307
        assert elsewhere.requests == []


# Compression


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_a_compressed_reply_is_inflated(caller, upstream, encoding):
    upstream.reply_with(body=HELLO, encoding=encoding)
    assert await whole_body(await caller.ask()) == HELLO


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_a_compressed_stream_is_inflated_as_it_comes(caller, upstream, encoding):
    upstream.reply_with(events=[b"one", b"two"], encoding=encoding, stall_after=2)
    stream = plain_stream(await caller.stream())
    received = b""
    while received != b"onetwo":
        received += await anext(stream)
    await stream.aclose()
    assert await upstream.requests[0].until_left()


async def test_a_gzip_bomb_is_defused(caller, upstream):
    upstream.script(gzip_bomb(100 * 1024 * 1024))
    with pytest.raises(UpstreamBroken, match="too large"):
        await whole_body(await caller.ask())


async def test_a_gzip_bomb_in_a_stream_comes_in_small_pieces(caller, upstream):
    upstream.script(gzip_bomb(20 * 1024 * 1024))
    sizes = [len(piece) async for piece in plain_stream(await caller.stream())]
    assert sum(sizes) == 20 * 1024 * 1024
    assert max(sizes) <= 256 * 1024


async def test_a_cut_compressed_body_is_broken(caller, upstream):
    squeezed = gzip.compress(b"0123456789" * 100)
    upstream.reply_with(body=squeezed[:-12], headers={"content-encoding": "gzip"})
    with pytest.raises(UpstreamBroken):
        await whole_body(await caller.ask())


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
async def test_a_wrong_content_encoding_is_broken(caller, upstream, encoding):
    upstream.reply_with(body=b"\xff\xff\xff\xffnot compressed", headers={"content-encoding": encoding})
    with pytest.raises(UpstreamBroken):
        await whole_body(await caller.ask())


# Faults


async def test_a_stale_connection_is_replaced_without_an_error(caller, upstream):
    upstream.reply_with(body=HELLO)
    await caller.ask()
    upstream.reply_with(raw=b"")  # closes the kept connection instead of answering
    upstream.reply_with(body=HELLO)
    assert await (await caller.ask()).read() == HELLO
    assert upstream.connections == 2
    assert len(upstream.requests) == 3


async def test_a_connection_closed_while_idle_is_replaced(caller, upstream):
    await caller.ask()
    upstream.drop_connections()
    await asyncio.sleep(0.05)
    assert (await caller.ask()).status == 404


async def test_a_fresh_connection_that_is_closed_is_not_tried_again(caller, upstream):
    upstream.reply_with(raw=b"")
    with pytest.raises(UpstreamBroken):
        await caller.ask()
    assert len(upstream.requests) == 1


async def test_a_reply_that_began_is_not_asked_for_again(caller, upstream):
    await caller.ask()
    upstream.reply_with(raw=b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe")
    with pytest.raises(UpstreamBroken):
        await caller.ask()
    assert len(upstream.requests) == 2


async def test_a_head_that_began_is_not_asked_for_again(upstream):
    async with calling(Http1Client, upstream.origin) as caller:  # aiohttp does not tell a cut head from none
        await caller.ask()
        upstream.reply_with(raw=b"HTTP/1.1 200 O")
        with pytest.raises(UpstreamBroken):
            await caller.ask()
        assert len(upstream.requests) == 2


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a_cut_body_is_broken(caller, upstream, framing):
    upstream.reply_with(body=HELLO, framing=framing, cut_after=5)
    with pytest.raises(UpstreamBroken):
        await (await caller.ask()).read()


async def test_a_chunked_body_without_its_end_is_broken(caller, upstream):
    upstream.reply_with(raw=CHUNKED_HEAD + b"5\r\nhello\r\n")
    with pytest.raises(UpstreamBroken):
        await caller.ask()


async def test_a_cut_stream_hands_over_what_came_and_then_fails(caller, upstream):
    upstream.reply_with(events=[b"one", b"two", b"three"], cut_after=2, event_delay_seconds=0.01)
    reply = await caller.stream()
    received = []
    with pytest.raises(UpstreamBroken):
        async for piece in reply:
            received.append(piece)
    assert b"".join(received) == b"onetwo"


@pytest.mark.parametrize(
    "raw",
    [
        garbage().raw,
        b"\n\n\n\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
        b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n",
        CHUNKED_HEAD + b"zz\r\nhello\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n\x00\x00",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\nhello",
    ],
)
async def test_garbage_is_broken(caller, upstream, raw):
    upstream.reply_with(raw=raw)
    with pytest.raises(UpstreamBroken):
        await (await caller.ask()).read()


async def test_an_endless_head_is_broken(caller, upstream):
    upstream.reply_with(raw=b"HTTP/1.1 200 OK\r\n" + b"x-filler: 0123456789012345678901234567890123456789\r\n" * 20_000)
    with pytest.raises(UpstreamBroken):
        await caller.ask()


async def test_a_header_over_the_limit_is_broken(caller, upstream):
    upstream.reply_with(body=HELLO, headers={"x-huge": "x" * (MAX_HEAD_BYTES + 1)})
    with pytest.raises(UpstreamBroken):
        await caller.ask()


async def test_a_reset_before_the_reply_is_broken(caller, upstream):
    upstream.reply_with(body=HELLO, reset_after=0)
    with pytest.raises(UpstreamBroken):
        await caller.ask()


async def test_a_reset_within_the_reply_is_broken(caller, upstream):
    upstream.reply_with(events=[b"one", b"two"], reset_after=1)
    with pytest.raises(UpstreamBroken):
        await collect(await caller.stream())


async def test_bytes_after_the_reply_spoil_the_connection_only(caller, upstream):
    upstream.reply_with(
        body=HELLO + b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx", headers={"content-length": str(len(HELLO))}
    )
    assert await (await caller.ask()).read() == HELLO
    upstream.reply_with(body=b"second")
    await asyncio.sleep(0.02)
    assert await (await caller.ask()).read() == b"second"


async def test_bytes_that_come_when_nobody_asked_end_the_connection(caller, upstream):
    surplus = [b"data: one\n\n", b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx"]
    upstream.reply_with(
        events=surplus, framing="length", headers={"content-length": str(len(surplus[0]))}, event_delay_seconds=0.05
    )
    assert await collect(await caller.stream()) == surplus[0]
    await upstream.until_requests(1)
    await asyncio.to_thread(upstream.requests[0].wait_until_over)
    await asyncio.to_thread(upstream.wait_for_open_connections, 0)
    upstream.reply_with(body=b"second")
    assert await (await caller.ask()).read() == b"second"


async def test_a_whole_reply_over_the_limit_is_broken(caller, upstream):
    upstream.reply_with(body=b"x" * 300_000)
    with pytest.raises(UpstreamBroken, match="too large"):
        await caller.ask(limits=Limits(max_body=100_000))
    assert await asyncio.to_thread(upstream.wait_for_open_connections, 0)


async def test_a_reply_read_late_is_limited_too(caller, upstream):
    upstream.reply_with(status=500, body=b"x" * 300_000)
    reply = await caller.stream(limits=Limits(max_body=100_000))
    with pytest.raises(UpstreamBroken, match="too large"):
        await reply.read()


async def test_refused_connections_are_unreachable(kind):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        async with calling(kind, f"http://127.0.0.1:{unused.getsockname()[1]}") as caller:
            with pytest.raises(UpstreamUnreachable) as failure:
                await caller.ask()
    assert "127.0.0.1" not in failure.value.message + failure.value.detail


async def test_a_name_that_does_not_resolve_is_unreachable(kind):
    async with calling(kind, "http://no-such-host.invalid") as caller:
        with pytest.raises(UpstreamUnreachable) as failure:
            await caller.ask()
    assert "invalid" not in failure.value.message + failure.value.detail


async def test_a_name_is_judged_by_what_it_resolves_to(kind, upstream):
    client = kind(Origin("http", "localhost", upstream.port, allow_private=False))
    with pytest.raises(ConfigurationError):
        await client.send(client.prepare("POST", "/", []), b"")
    await client.aclose()
    assert upstream.connections == 0


async def test_a_name_is_dialled_where_it_resolves(kind, upstream):
    async with calling(kind, f"http://localhost:{upstream.port}") as caller:
        assert (await caller.ask()).status == 404
        assert upstream.requests[0].headers["host"] == f"localhost:{upstream.port}"


# Times


async def test_a_silent_server_times_out(caller, upstream):
    upstream.script(no_answer())
    with pytest.raises(UpstreamTimeout) as failure:
        await caller.ask(limits=QUICK)
    assert "first byte" in failure.value.detail
    assert await upstream.until_requests(1)
    assert await upstream.requests[0].until_left()


async def test_slow_headers_time_out(caller, upstream):
    upstream.reply_with(body=HELLO, header_byte_delay_seconds=0.02)
    with pytest.raises(UpstreamTimeout):
        await caller.ask(limits=QUICK)
    assert await upstream.until_requests(1)
    assert await upstream.requests[0].until_left()


async def test_slow_headers_within_the_time_are_waited_for(caller, upstream):
    upstream.reply_with(body=HELLO, header_byte_delay_seconds=0.001)
    assert await (await caller.ask()).read() == HELLO


async def test_headers_without_a_first_byte_of_body_time_out(caller, upstream):
    upstream.reply_with(events=[b"x"], stall_after=0)
    with pytest.raises(UpstreamTimeout) as failure:
        await anext(await caller.stream(limits=QUICK))
    assert "first byte" in failure.value.detail


@pytest.mark.parametrize("whole", [True, False])
async def test_a_stalled_body_times_out(caller, upstream, whole):
    upstream.reply_with(events=[b"one", b"two"], stall_after=1)
    with pytest.raises(UpstreamTimeout) as failure:
        await collect(await caller.ask(whole=whole, limits=IMPATIENT))
    assert "nothing came" in failure.value.detail
    assert await upstream.requests[0].until_left()


async def test_a_body_that_keeps_coming_is_limited_by_the_total_time(caller, upstream):
    upstream.reply_with(events=[b"x"] * 1000, event_delay_seconds=0.02)
    with pytest.raises(UpstreamTimeout) as failure:
        await collect(await caller.stream(limits=Limits(total=0.3)))
    assert "limit" in failure.value.detail


async def test_the_requests_own_deadline_counts(caller, upstream):
    upstream.script(no_answer())
    with pytest.raises(UpstreamTimeout):
        await caller.ask(deadline=asyncio.get_running_loop().time() + 0.1)


async def test_a_server_that_does_not_accept_times_out(kind):
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        taken = [socket.socket() for _ in range(4)]
        for each in taken:
            each.setblocking(False)
            each.connect_ex(full.getsockname())
        async with calling(kind, f"http://127.0.0.1:{full.getsockname()[1]}") as caller:
            with pytest.raises(UpstreamTimeout) as failure:
                await caller.ask(limits=Limits(connect=0.2))
        for each in taken:
            each.close()
    assert "no connection" in failure.value.detail


# Leaving


async def test_closing_a_reply_in_the_middle_closes_the_connection(caller, upstream):
    upstream.reply_with(events=[b"one"], stall_after=1)
    reply = await caller.stream()
    await anext(reply)
    await reply.aclose()
    assert await upstream.requests[0].until_left()


@pytest.mark.parametrize("answer", [no_answer(), Answer(events=[b"x"], stall_after=1)], ids=["before", "within"])
async def test_cancelling_closes_the_connection(caller, upstream, answer):
    upstream.script(answer)

    async def ask():
        await collect(await caller.stream())

    task = asyncio.create_task(ask())
    await upstream.until_requests(1)
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await upstream.requests[0].until_left()


async def test_closing_a_finished_reply_keeps_the_connection(caller, upstream):
    reply = await caller.stream()
    await collect(reply)
    await reply.aclose()
    await caller.ask()
    assert upstream.connections == 1


async def test_closing_the_client_closes_its_connections(kind, upstream):
    async with calling(kind, upstream.origin) as caller:
        await caller.ask()
        assert upstream.open_connections == 1
    assert await asyncio.to_thread(upstream.wait_for_open_connections, 0)


# TLS


@pytest.fixture
def tls_upstream(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with FakeUpstream(ssl_context=context) as server:
        yield server


async def test_a_certificate_signed_by_the_given_authority_is_trusted(kind, tls_upstream, certificate):
    async with calling(kind, tls_upstream.origin, ca_file=certificate) as caller:
        tls_upstream.reply_with(events=[b"one", b"two"])
        assert await collect(await caller.stream()) == b"onetwo"
        await caller.ask()
        assert tls_upstream.connections == 1


async def test_a_self_signed_certificate_is_refused(kind, tls_upstream):
    async with calling(kind, tls_upstream.origin) as caller:
        with pytest.raises(UpstreamUnreachable) as failure:
            await caller.ask()
    assert "self-signed" in failure.value.detail
    assert "127.0.0.1" not in failure.value.detail
    assert tls_upstream.requests == []


async def test_a_certificate_for_another_name_is_refused(kind, tls_upstream, certificate):
    async with calling(kind, f"https://127.0.0.2:{tls_upstream.port}", ca_file=certificate) as caller:
        with pytest.raises(UpstreamUnreachable):
            await caller.ask()
    assert tls_upstream.requests == []


async def test_verification_can_be_switched_off_for_one_provider(kind, tls_upstream):
    async with calling(kind, tls_upstream.origin, verify_tls="false") as caller:
        assert (await caller.ask()).status == 404


async def test_a_cut_body_over_tls_is_broken(kind, tls_upstream):
    tls_upstream.reply_with(body=HELLO, cut_after=5)
    async with calling(kind, tls_upstream.origin, verify_tls=False) as caller:
        with pytest.raises(UpstreamBroken):
            await caller.ask()


async def test_cancelling_over_tls_closes_the_connection(kind, tls_upstream):
    tls_upstream.reply_with(events=[b"one"], stall_after=1)
    async with calling(kind, tls_upstream.origin, verify_tls=False) as caller:
        reply = await caller.stream()
        await anext(reply)
        await reply.aclose()
        assert await tls_upstream.requests[0].until_left()


async def test_plain_http_to_a_tls_port_fails_as_ours(kind, tls_upstream):
    async with calling(kind, f"http://127.0.0.1:{tls_upstream.port}") as caller:
        with pytest.raises(UpstreamBroken):
            await caller.ask()


async def test_tls_to_a_plain_port_is_unreachable(kind, upstream):
    async with calling(kind, f"https://127.0.0.1:{upstream.port}") as caller:
        with pytest.raises((UpstreamUnreachable, UpstreamTimeout)):
            await caller.ask(limits=Limits(connect=0.5))


async def test_a_missing_authority_file_is_a_configuration_error(kind, tls_upstream):
    async with calling(kind, tls_upstream.origin, ca_file="/no/such/file.pem") as caller:
        with pytest.raises(ConfigurationError):
            await caller.ask()


async def test_a_client_certificate_is_shown(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.load_verify_locations(certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    with FakeUpstream(ssl_context=context) as server:
        origin, _ = origin_of(server.origin, {"ca_file": certificate, "client_certificate": certificate})
        client = client_for(origin)
        assert isinstance(client, ProxiedClient)
        reply = await client.send(client.prepare("GET", "/v1/models", []))
        assert reply.status == 200
        await client.aclose()


# The pool of the lean client


async def test_requests_wait_for_a_free_connection(upstream):
    async with calling(Http1Client, upstream.origin, max_connections=2) as caller:
        upstream.reply_with(body=HELLO, delay_seconds=0.02, times=None)
        await asyncio.gather(*(caller.ask() for _ in range(10)))
        assert upstream.most_open_connections == 2
        assert len(upstream.requests) == 10


async def test_waiting_for_a_free_connection_ends(upstream):
    async with calling(Http1Client, upstream.origin, max_connections=1) as caller:
        upstream.reply_with(events=[b"x"], stall_after=1)
        held = await caller.stream()
        with pytest.raises(GatewayOverloaded):
            await caller.ask(limits=Limits(connect=0.1))
        await held.aclose()
        assert (await caller.ask()).status == 404


async def test_a_failed_connection_frees_its_place():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        async with calling(Http1Client, f"http://127.0.0.1:{unused.getsockname()[1]}", max_connections=1) as caller:
            for _ in range(3):
                with pytest.raises(UpstreamUnreachable):
                    await caller.ask()


async def test_a_cancelled_waiter_takes_no_connection_with_it(upstream):
    async with calling(Http1Client, upstream.origin, max_connections=1) as caller:
        upstream.reply_with(body=HELLO, delay_seconds=0.1)
        first, second = (asyncio.create_task(caller.ask()) for _ in range(2))
        await asyncio.sleep(0)
        assert caller.client._pool._waiting
        second.cancel()
        await first
        with pytest.raises(asyncio.CancelledError):
            await second
        assert (await caller.ask()).status == 404
        assert upstream.connections == 1


async def test_no_mixture_of_faults_loses_a_place_in_the_pool(upstream):
    chance = random.Random(7)
    faults = [
        Answer(body=HELLO),
        Answer(body=HELLO, close=True),
        Answer(body=HELLO, close_silently=True),
        Answer(body=HELLO, cut_after=5),
        Answer(body=HELLO, delay_seconds=0.03),
        Answer(body=HELLO, reset_after=0),
        Answer(events=[b"x"] * 5, event_delay_seconds=0.005),
        Answer(events=[b"x" * 70_000] * 20),
        Answer(events=[b"x", b"x"], stall_after=1),
        Answer(raw=b""),
        garbage(),
        no_answer(),
    ]
    upstream.script(*chance.choices(faults, k=600))
    limits = Limits(first_byte=0.1, idle=0.1, connect=60)

    async def one(caller, patience):
        with contextlib.suppress(UpstreamBroken, UpstreamTimeout, TimeoutError):
            async with asyncio.timeout(patience):
                await collect(await caller.ask(whole=chance.random() < 0.5, limits=limits))

    async with calling(Http1Client, upstream.origin, max_connections=4) as caller:
        for _ in range(10):
            await asyncio.gather(*(one(caller, chance.choice([0.01, 0.05, 5])) for _ in range(30)))
        upstream.clear()
        assert [(await caller.ask()).status for _ in range(20)] == [404] * 20
        await asyncio.sleep(0.05)
        pool = caller.client._pool
        assert not pool.busy
        assert pool._open == len(pool.idle)


async def test_two_clients_of_one_origin_share_connections(upstream):
    async with calling(Http1Client, upstream.origin) as first, calling(Http1Client, upstream.origin) as second:
        await first.ask()
        await second.ask()
        await first.client.aclose()
        await second.ask()
        assert upstream.connections == 1
    assert second.origin not in pools._pools.get(asyncio.get_running_loop(), {})


async def test_a_connection_idle_for_too_long_is_not_used_again(upstream, monkeypatch):
    monkeypatch.setattr(pools, "IDLE_SECONDS", 0.05)
    async with calling(Http1Client, upstream.origin) as caller:
        await caller.ask()
        await asyncio.sleep(0.1)
        await caller.ask()
        assert upstream.connections == 2


# Choosing and preparing


def test_the_client_suits_the_provider():
    plain, _ = origin_of("http://127.0.0.1:1/v1", {})
    proxied, _ = origin_of("http://127.0.0.1:1/v1", {"proxy": Secret("http://user:password@127.0.0.1:3128")})
    assert isinstance(client_for(plain), Http1Client)
    assert isinstance(client_for(proxied), ProxiedClient)
    assert "password" not in repr(proxied)


def test_a_forbidden_base_url_is_a_configuration_error():
    with pytest.raises(ConfigurationError) as failure:
        origin_of("http://169.254.169.254/v1", {})
    assert failure.value.param == "base_url"


@pytest.mark.parametrize("told", ["many", "0", -1, "1.5"])
def test_a_number_of_connections_that_is_none_is_a_configuration_error(told):
    with pytest.raises(ConfigurationError) as failure:
        origin_of("http://127.0.0.1:1/v1", {"max_connections": told})
    assert failure.value.param == "max_connections"


def test_a_line_end_in_a_header_is_refused(kind):
    client = kind(Origin("http", "127.0.0.1", 1))
    with pytest.raises(ValueError, match="line end"):
        client.prepare("POST", "/", [(b"x-a", b"1\r\nx-b: 2")])


# A proxy (aiohttp only)


class ForwardProxy:
    """A plain forwarding HTTP proxy that notes the heads it saw."""

    def __init__(self):
        self.heads = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                accepted, _ = self._listening.accept()
                threading.Thread(target=self._serve, args=(accepted,), daemon=True).start()

    def _serve(self, accepted):
        with accepted:
            data = b""
            while b"\r\n\r\n" not in data:
                data += accepted.recv(65536)
            head = data.partition(b"\r\n\r\n")[0].decode()
            self.heads.append(head)
            target = head.split(" ")[1]
            host, _, port = target.removeprefix("http://").partition("/")[0].partition(":")
            with socket.create_connection((host, int(port))) as onward:
                if head.startswith("CONNECT"):
                    accepted.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
                else:
                    path = "/" + target.removeprefix("http://").partition("/")[2]
                    onward.sendall(data.replace(target.encode(), path.encode(), 1))
                back = threading.Thread(target=self._pump, args=(onward, accepted), daemon=True)
                back.start()
                self._pump(accepted, onward)
                back.join(5)

    @staticmethod
    def _pump(source, sink):
        with contextlib.suppress(OSError):
            while piece := source.recv(65536):
                sink.sendall(piece)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)

    def close(self):
        self._listening.close()


@pytest.fixture
def proxy():
    proxy = ForwardProxy()
    yield proxy
    proxy.close()


async def test_a_proxy_is_asked_with_its_credentials(upstream, proxy):
    secret = Secret(f"http://user:pass%40word@127.0.0.1:{proxy.port}")
    async with calling(ProxiedClient, upstream.origin, proxy=secret) as caller:
        upstream.reply_with(events=[b"one", b"two"])
        assert await collect(await caller.stream()) == b"onetwo"
    assert proxy.heads[0].startswith(f"POST http://127.0.0.1:{upstream.port}/v1/x")
    assert "proxy-authorization: Basic dXNlcjpwYXNzQHdvcmQ=" in proxy.heads[0].replace(
        "Proxy-Authorization", "proxy-authorization"
    )


async def test_tls_goes_through_a_proxy_by_connect(tls_upstream, proxy, certificate):
    async with calling(
        ProxiedClient, tls_upstream.origin, proxy=f"http://127.0.0.1:{proxy.port}", ca_file=certificate
    ) as caller:
        assert (await caller.ask()).status == 404
    assert proxy.heads[0].startswith(f"CONNECT 127.0.0.1:{tls_upstream.port}")


async def test_a_proxy_that_is_away_is_unreachable(upstream):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        async with calling(
            ProxiedClient, upstream.origin, proxy=f"http://127.0.0.1:{unused.getsockname()[1]}"
        ) as caller:
            with pytest.raises(UpstreamUnreachable) as failure:
                await caller.ask()
    assert "proxy" in failure.value.message


async def test_a_proxy_at_a_metadata_address_is_refused(upstream):
    with pytest.raises(ConfigurationError):
        Caller(ProxiedClient, upstream.origin, proxy="http://169.254.169.254:80")
