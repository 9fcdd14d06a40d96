"""The client that passes requests on: what the forwarding's own tests do not see from outside."""

from __future__ import annotations

import asyncio
import socket
import threading
import time

import pytest

from inference.backends.exchange import Limits
from inference.backends.passthrough import PassedOrigin, PassingClient
from inference.errors import UpstreamBroken, UpstreamTimeout
from tests.inference.legacy_server import LegacyServer, answer


@pytest.fixture
def legacy():
    with LegacyServer() as server:
        yield server


def origin(legacy, **more) -> PassedOrigin:
    return PassedOrigin("http", "127.0.0.1", legacy.port, **more)


def _hold_the_loop_until_both_replies_are_there() -> None:
    time.sleep(0.1)


async def read(reply) -> bytes:
    return b"".join([piece async for piece in reply])


async def test_a_connection_that_is_used_again_at_once_takes_nothing_from_the_reply_before(legacy):
    together = threading.Barrier(3)

    def echo(request):
        number = request.values(b"x-number")[0]
        if number in (b"0", b"10"):
            together.wait(60)
        return answer(number, b"X-Only-%b: 1" % number)

    legacy.otherwise = echo
    client = PassingClient(origin(legacy), Limits())

    async def ask_in_turn(first: int) -> None:
        """The next request takes the connection that was let go of last: the other's, whose reply nobody has read yet."""
        for number in (b"%d" % (first + n) for n in range(3)):
            reply = await client.send("GET", b"/", [(b"x-number", number)], b"")
            assert (reply.headers[0], await read(reply)) == ((b"X-Only-" + number, b"1"), number)

    asking = asyncio.gather(ask_in_turn(0), ask_in_turn(10))
    await asyncio.to_thread(together.wait, 60)
    _hold_the_loop_until_both_replies_are_there()
    await asking
    client.close()


async def test_an_interim_reply_leaves_no_header_behind(legacy):
    legacy.replies.append(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + answer(b"x"))
    client = PassingClient(origin(legacy), Limits())
    reply = await client.send("GET", b"/", [], b"")
    assert (reply.status, reply.headers) == (200, [(b"Content-Length", b"1")])
    assert await read(reply) == b"x"
    client.close()


async def test_trailers_are_left_out(legacy):
    legacy.replies.append(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-Trailer: 1\r\n\r\n")
    client = PassingClient(origin(legacy), Limits())
    reply = await client.send("GET", b"/", [], b"")
    assert await read(reply) == b"x"
    assert reply.headers == [(b"Transfer-Encoding", b"chunked")]
    client.close()


async def test_a_connection_whose_upload_has_not_ended_is_not_used_again(legacy):
    def refuse(connection: socket.socket) -> None:
        connection.sendall(answer(b"too much", status=b"413 Content Too Large"))

    client = PassingClient(origin(legacy), Limits())
    legacy.replies += [refuse]
    upload = await client.begin("POST", b"/", [(b"content-length", b"10")], chunked=False)
    await upload.write(b"half ", last=False)
    # All that was announced is there, so the server answers; the upload does not know yet that it is at its end.
    await upload.write(b"rest.", last=False)
    reply = await upload.head()
    assert (reply.status, await read(reply)) == (413, b"too much")
    await upload.write(b"more", last=True)
    assert (await client.send("GET", b"/", [], b"")).status == 200
    assert legacy.requests[-1].line == b"GET / HTTP/1.1"
    client.close()


async def test_an_upload_waits_for_a_slow_reader():
    listening = socket.create_server(("127.0.0.1", 0))
    client = PassingClient(PassedOrigin("http", "127.0.0.1", listening.getsockname()[1]), Limits())
    accepting = asyncio.get_running_loop().run_in_executor(None, listening.accept)
    upload = await client.begin("POST", b"/", [], chunked=True)
    connection, _ = await accepting
    written = 0
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            while written < 256 * 1024 * 1024:
                await upload.write(b"x" * 65536, last=False)
                written += 65536
    assert written < 64 * 1024 * 1024
    upload.abort()
    connection.close()
    listening.close()
    client.close()


async def test_a_writer_that_waits_is_woken_when_the_connection_is_lost():
    listening = socket.create_server(("127.0.0.1", 0))
    client = PassingClient(PassedOrigin("http", "127.0.0.1", listening.getsockname()[1]), Limits())
    accepting = asyncio.get_running_loop().run_in_executor(None, listening.accept)
    upload = await client.begin("POST", b"/", [], chunked=True)
    connection, _ = await accepting

    async def pour() -> None:
        for _ in range(4096):
            await upload.write(b"x" * 65536, last=False)

    pouring = asyncio.create_task(pour())
    await asyncio.sleep(0.2)
    connection.close()
    await asyncio.wait_for(pouring, 60)
    with pytest.raises(UpstreamBroken):
        await upload.head()
    listening.close()
    client.close()


async def test_a_legacy_side_that_says_nothing_is_given_up(legacy):
    legacy.replies.append(lambda connection: connection.recv(1))
    client = PassingClient(origin(legacy), Limits(first_byte=0.1))
    with pytest.raises(UpstreamTimeout):
        await client.send("GET", b"/", [], b"")
    client.close()


async def test_an_upload_takes_no_used_connection_even_when_all_are_busy(legacy):
    """It could not be sent again if the connection turned out to be dead."""
    answered = threading.Event()

    def answer_late(connection: socket.socket) -> None:
        answered.wait(60)
        connection.sendall(answer())

    legacy.replies.append(answer_late)
    client = PassingClient(origin(legacy, max_connections=1), Limits())
    first = asyncio.create_task(client.send("GET", b"/", [], b""))
    beginning = asyncio.create_task(client.begin("POST", b"/", [], chunked=True))
    await asyncio.sleep(0)
    answered.set()
    await read(await first)
    upload = await beginning
    await upload.write(b"x", last=True)
    assert await read(await upload.head()) == b"{}"
    assert len(legacy._open) == 2
    client.close()


async def test_a_client_that_was_closed_meanwhile_still_gives_up_in_time(legacy):
    client = PassingClient(origin(legacy), Limits())
    await read(await client.send("GET", b"/", [], b""))
    client.close()
    client.limits = Limits(first_byte=0.2)
    legacy.replies.append(lambda connection: connection.recv(1))
    with pytest.raises(UpstreamTimeout):
        await asyncio.wait_for(client.send("GET", b"/", [], b""), 60)
