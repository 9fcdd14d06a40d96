"""Requests for the legacy side, over real sockets: what arrives there and what comes back, byte for byte."""

from __future__ import annotations

import contextlib
import gzip
import json
import logging
import socket
import ssl
import threading
import time
from dataclasses import replace
from decimal import Decimal

import pytest

from inference.forwarding import credential_of, goes_to_legacy, known_by
from inference.limits import Limits
from providers.secrets import Secret
from routing import snapshot
from routing.rollout import BUCKETS, GATEWAY, LEGACY, side
from routing.types import RolloutView
from tests.contract.gateway import Gateway
from tests.inference import registry
from tests.inference.legacy_server import LegacyServer, answer

CHAT = b'{"model": "fake-chat",  "messages": [{"role":"user","content":"\\u00fc hi"}], "odd": 1e400}'
USAGE = b'{"id":"x","usage":{"prompt_tokens":1000000,"completion_tokens":500000}}'


def rollout(url: str, **changes) -> RolloutView:
    return replace(
        RolloutView(legacy_base_url=url, gateway_enabled=True, share=0, salt=b"salt", digest_key=b"d" * 32), **changes
    )


class PartedGateway(Gateway):
    """Through the same door as production's: the roll-out is asked before the data plane."""

    async def _asgi(self, scope, receive, send) -> None:
        view = snapshot.rollout()
        if scope["type"] == "http" and view is not None and view.parts and goes_to_legacy(view, scope):
            await self.app.forward(view, scope, receive, send)
        else:
            await super()._asgi(scope, receive, send)

    def part(self, url: str, **changes) -> None:
        built = registry.snapshot(registry.model(registry.provider()))
        snapshot.replace(replace(built, rollout=rollout(url, **changes)))


@pytest.fixture
def legacy():
    with LegacyServer() as server:
        yield server


@pytest.fixture
def gateway(legacy):
    with PartedGateway(Limits(body_bytes=1024 * 1024)).serving() as serving:
        serving.part(legacy.url)
        yield serving
    snapshot.replace(None)


@contextlib.contextmanager
def connected(gateway):
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=60) as connection:
        yield connection


def ask(
    gateway, method: bytes = b"GET", target: bytes = b"/v1/models", body: bytes = b"", *headers: bytes
) -> tuple[bytes, bytes]:
    """Head and body of the reply, as they came over the wire."""
    lines = [method + b" " + target + b" HTTP/1.1", b"Host: gateway.test", b"Connection: close", *headers]
    lines += [b"Content-Length: %d" % len(body)] if body else []
    with connected(gateway) as connection:
        connection.sendall(b"\r\n".join(lines) + b"\r\n\r\n" + body)
        received = b""
        while data := connection.recv(65536):
            received += data
    head, _, rest = received.partition(b"\r\n\r\n")
    return head, rest


def chat(gateway, body: bytes = CHAT, *headers: bytes) -> tuple[bytes, bytes]:
    return ask(gateway, b"POST", b"/v1/chat/completions", body, *headers)


def status_of(head: bytes) -> int:
    return int(head.split(b" ")[1])


def values(head: bytes, name: bytes) -> list[bytes]:
    lines = [line.partition(b": ") for line in head.split(b"\r\n")[1:]]
    return [value for each, _, value in lines if each.lower() == name]


class TestTheRequest:
    def test_the_body_arrives_byte_for_byte(self, gateway, legacy):
        chat(gateway)
        assert legacy.requests[0].body == CHAT

    @pytest.mark.parametrize(
        "target",
        [
            b"/v1/models/a%2Fb%20c",
            b"/v1/models/caf%C3%A9?x=%2B+&y=&x=2",
            b"/v1/models/a;b=c,d",
            b"/v1//models/",
            b"/generate?stream",
        ],
    )
    def test_path_and_query_arrive_as_they_were_sent(self, gateway, legacy, target):
        ask(gateway, b"GET", target)
        assert legacy.requests[0].line == b"GET " + target + b" HTTP/1.1"

    def test_the_base_url_s_path_stands_before_the_request_s(self, gateway, legacy):
        gateway.part(legacy.url + "/old/llm")
        ask(gateway, b"GET", b"/v1/models?a=b")
        assert legacy.requests[0].line == b"GET /old/llm/v1/models?a=b HTTP/1.1"

    @pytest.mark.parametrize("method", [b"PUT", b"PATCH", b"DELETE", b"OPTIONS"])
    def test_every_method_is_passed_on(self, gateway, legacy, method):
        ask(gateway, method, b"/v1/files/x", b"body")
        assert (legacy.requests[0].line.split()[0], legacy.requests[0].body) == (method, b"body")

    def test_headers_arrive_in_order_with_their_duplicates(self, gateway, legacy):
        ask(
            gateway,
            b"GET",
            b"/v1/models",
            b"",
            b"X-Odd: 1",
            b"AUTHORIZATION: Bearer legacy-token",
            b"x-odd:  2 ",
            b"x-oDD: ",
        )
        sent = [(name.lower(), value) for name, value in legacy.requests[0].headers]
        assert [header for header in sent if header[0] in (b"x-odd", b"authorization")] == [
            (b"x-odd", b"1"),
            (b"authorization", b"Bearer legacy-token"),
            (b"x-odd", b"2"),
            (b"x-odd", b""),
        ]

    def test_headers_of_the_connection_stay_behind(self, gateway, legacy):
        ask(gateway, b"GET", b"/v1/models", b"", b"TE: trailers", b"Proxy-Authorization: Basic x", b"Keep-Alive: 5")
        assert not {b"te", b"proxy-authorization", b"keep-alive", b"connection"} & {
            name.lower() for name, _ in legacy.requests[0].headers
        }

    def test_it_is_said_where_the_request_came_from(self, gateway, legacy):
        ask(gateway, b"GET", b"/v1/models", b"", b"X-Forwarded-For: 203.0.113.7")
        arrived = legacy.requests[0]
        assert arrived.values(b"host") == [legacy.url.removeprefix("http://").encode()]
        assert arrived.values(b"x-forwarded-for") == [b"203.0.113.7, 127.0.0.1"]
        assert arrived.values(b"x-forwarded-host") == [b"gateway.test"]
        assert arrived.values(b"x-forwarded-proto") == [b"http"]
        assert arrived.values(b"x-request-id")[0].startswith(b"req_")

    def test_the_client_s_own_request_id_is_kept(self, gateway, legacy):
        ask(gateway, b"GET", b"/v1/models", b"", b"X-Request-Id: mine")
        assert legacy.requests[0].values(b"x-request-id") == [b"mine"]

    def test_extra_headers_stand_in_place_of_the_client_s(self, gateway, legacy):
        gateway.part(legacy.url, headers=(("X-Tenant", Secret("old")),))
        ask(gateway, b"GET", b"/v1/models", b"", b"X-Tenant: forged")
        assert legacy.requests[0].values(b"x-tenant") == [b"old"]

    def test_an_upload_in_chunks_arrives_whole(self, gateway, legacy):
        pieces = [bytes([65 + number]) * 30_000 for number in range(5)]
        with connected(gateway) as connection:
            connection.sendall(
                b"POST /v1/files HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
            )
            for piece in pieces:
                connection.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
            connection.sendall(b"0\r\n\r\n")
            assert connection.recv(20).startswith(b"HTTP/1.1 200")
        assert legacy.requests[0].body == b"".join(pieces)

    def test_an_upload_begins_to_arrive_before_it_was_sent(self, gateway, legacy):
        with connected(gateway) as connection:
            connection.sendall(
                b"POST /v1/files HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 200000\r\n\r\n"
            )
            connection.sendall(b"a" * 100_000)
            assert _eventually(lambda: legacy._open)
            connection.sendall(b"b" * 100_000)
            assert connection.recv(20).startswith(b"HTTP/1.1 200")
        assert legacy.requests[0].body == b"a" * 100_000 + b"b" * 100_000

    def test_a_body_over_the_limit_is_refused_before_the_legacy_side_hears_of_it(self, gateway, legacy):
        head, body = ask(gateway, b"POST", b"/v1/chat/completions", b"", b"Content-Length: 1048577")
        assert (status_of(head), json.loads(body)["error"]["code"]) == (413, "request_too_large")
        assert legacy.requests == []

    def test_a_body_in_chunks_is_refused_when_it_passes_the_limit(self, gateway, legacy):
        with connected(gateway) as connection:
            connection.sendall(b"POST /v1/files HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
            with contextlib.suppress(ConnectionError):
                for _ in range(20):
                    connection.sendall(b"%x\r\n%b\r\n" % (100_000, b"a" * 100_000))
            assert connection.recv(20).startswith(b"HTTP/1.1 413")

    @pytest.mark.parametrize("target", [b"/v1/../admin/", b"/v1/%2e%2e/admin/", b"/v1/models/..%2fx", b"/v1/.."])
    def test_a_path_that_climbs_is_not_passed_on(self, gateway, legacy, target):
        head, _ = ask(gateway, b"GET", target)
        assert status_of(head) == 400
        assert legacy.requests == []

    @pytest.mark.parametrize("pieces", [1, 2])
    def test_a_length_that_the_client_would_have_left_out_is_told_all_the_same(self, gateway, legacy, pieces):
        """Or the body would be taken for the next request, of another client, to a path that is not shared."""
        body = b"GET /admin/secrets HTTP/1.1\r\nHost: x\r\n\r\n" + b" " * 100_000 * (pieces - 1)
        with connected(gateway) as connection:
            connection.sendall(
                b"POST /v1/files HTTP/1.1\r\nHost: x\r\nConnection: close, Content-Length\r\n"
                b"Content-Length: %d\r\n\r\n%b" % (len(body), body[:100])
            )
            connection.sendall(body[100:])
            assert connection.recv(20).startswith(b"HTTP/1.1 200")
        assert [request.values(b"content-length") for request in legacy.requests] == [[b"%d" % len(body)]]
        assert legacy.requests[0].body == body

    @pytest.mark.parametrize("method", [b"TRACE", b"CONNECT"])
    def test_neither_a_tunnel_nor_an_echo_of_the_added_headers_is_asked_for(self, gateway, legacy, method):
        head, _ = ask(gateway, method, b"/v1/models")
        assert status_of(head) == 405
        assert legacy.requests == []

    def test_a_transfer_coding_that_would_get_lost_is_refused(self, gateway, legacy):
        with connected(gateway) as connection:
            connection.sendall(
                b"POST /v1/files HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"
            )
            assert connection.recv(20).startswith(b"HTTP/1.1 501")
        assert legacy.requests == []

    def test_the_operator_s_session_stays_here_both_ways(self, gateway, legacy):
        gateway.part(legacy.url, own_cookies=frozenset({b"gateway_session"}))
        legacy.replies.append(answer(b"{}", b"Set-Cookie: gateway_session=forged", b"Set-Cookie: sessionid=theirs"))
        head, _ = ask(gateway, b"GET", b"/v1/models", b"", b"Cookie: gateway_session=ours; sessionid=theirs")
        assert legacy.requests[0].values(b"cookie") == [b"sessionid=theirs"]
        assert values(head, b"set-cookie") == [b"sessionid=theirs"]

    def test_a_path_in_absolute_form_goes_to_the_legacy_side_all_the_same(self, gateway, legacy):
        ask(gateway, b"GET", b"http://169.254.169.254/v1/models?a=b", b"", b"Host: 169.254.169.254")
        assert legacy.requests[0].line == b"GET /v1/models?a=b HTTP/1.1"
        assert legacy.requests[0].values(b"host") == [legacy.url.removeprefix("http://").encode()]


class TestTheReply:
    def test_status_headers_and_body_come_back_unchanged(self, gateway, legacy):
        odd = (b"X-ODD-Case: One", b"x-odd-case: Two", b"Set-Cookie: a=1; Path=/", b"Set-Cookie: b=2")
        legacy.replies.append(answer(b"\x00\xff raw", *odd, b"Keep-Alive: 5", status=b"418 I'm a teapot"))
        head, body = chat(gateway)
        assert (status_of(head), body) == (418, b"\x00\xff raw")
        assert [line for line in head.split(b"\r\n") if line.lower().startswith((b"x-odd", b"set-cookie"))] == list(odd)
        assert values(head, b"x-gateway-side") == [b"legacy"]
        assert values(head, b"keep-alive") == []

    def test_a_reply_has_one_date(self, gateway, legacy):
        legacy.replies.append(answer(b"{}", b"Date: Mon, 01 Jan 2001 00:00:00 GMT"))
        head, _ = chat(gateway)
        assert len(values(head, b"date")) == 1

    def test_a_redirect_is_passed_on_and_not_followed(self, gateway, legacy):
        legacy.replies.append(answer(b"", b"Location: http://elsewhere.test/", status=b"307 Temporary Redirect"))
        head, _ = chat(gateway)
        assert (status_of(head), values(head, b"location")) == (307, [b"http://elsewhere.test/"])
        assert len(legacy.requests) == 1

    def test_a_redirect_to_the_legacy_side_s_own_address_comes_back_here(self, gateway, legacy):
        gateway.part(legacy.url + "/old")
        location = b"Location: " + legacy.url.encode() + b"/old/v1/models/?a=b"
        legacy.replies.append(answer(b"", location, status=b"307 Temporary Redirect"))
        head, _ = chat(gateway)
        assert values(head, b"location") == [b"/v1/models/?a=b"]

    def test_a_status_that_is_none_is_a_broken_answer(self, gateway, legacy):
        legacy.replies.append(answer(status=b"677 Odd"))
        head, body = chat(gateway)
        assert (status_of(head), json.loads(body)["error"]["code"]) == (502, "upstream_broken")

    def test_the_answer_to_head_has_its_length_and_no_body(self, gateway, legacy):
        legacy.replies.append(b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n")
        head, body = ask(gateway, b"HEAD", b"/v1/models")
        assert (status_of(head), values(head, b"content-length"), body) == (200, [b"1234"], b"")

    @pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
    def test_a_reply_without_a_body_is_over_with_its_head(self, gateway, legacy, status):
        legacy.replies.append(b"HTTP/1.1 " + status + b'\r\nEtag: "x"\r\nContent-Length: 12\r\n\r\n')
        head, body = ask(gateway)
        assert (status_of(head), values(head, b"etag"), body) == (int(status[:3]), [b'"x"'], b"")
        assert gateway.wait_for_rows(1)[0].error_code == ""

    def test_a_connection_is_used_again_after_a_head_request(self, gateway, legacy):
        legacy.replies.append(b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n")
        ask(gateway, b"HEAD", b"/v1/models")
        assert ask(gateway)[1] == b"{}"

    def test_a_compressed_reply_stays_compressed_and_is_understood(self, gateway, legacy):
        packed = gzip.compress(USAGE)
        legacy.replies.append(answer(packed, b"Content-Encoding: gzip"))
        _, body = chat(gateway)
        assert body == packed
        assert gateway.wait_for_rows(1)[0].input_tokens == 1_000_000

    def test_a_stream_comes_event_by_event(self, gateway, legacy):
        go_on = threading.Event()

        def stream(connection):
            connection.sendall(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
            )
            connection.sendall(b"b\r\ndata: one\n\n\r\n")
            go_on.wait(60)
            connection.sendall(b"b\r\ndata: two\n\n\r\n0\r\n\r\n")

        legacy.replies.append(stream)
        with connected(gateway) as connection:
            connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            received = b""
            while b"one\n\n" not in received:
                received += connection.recv(65536)
            assert b"two" not in received
            go_on.set()
            while data := connection.recv(65536):
                received += data
        assert received.partition(b"\r\n\r\n")[2] == b"b\r\ndata: one\n\n\r\nb\r\ndata: two\n\n\r\n0\r\n\r\n"

    def test_a_large_reply_waits_for_a_slow_client(self, gateway, legacy):
        sent = []
        whole = 64 * 1024 * 1024

        def pour(connection):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % whole)
            block = b"x" * 65536
            for _ in range(whole // len(block)):
                connection.sendall(block)
                sent.append(len(block))

        legacy.replies.append(pour)
        with connected(gateway) as connection:
            connection.sendall(b"GET /v1/files/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert _eventually(lambda: len(sent) > 10 and _rests(sent))
            assert sum(sent) < whole / 2
            received = 0
            while data := connection.recv(1 << 20):
                received += len(data)
        assert received > whole

    def test_a_stale_connection_is_replaced(self, gateway, legacy):
        def then_close(connection):
            connection.sendall(answer(b"first"))
            connection.shutdown(socket.SHUT_RDWR)

        legacy.replies.append(then_close)
        assert chat(gateway)[1] == b"first"
        assert chat(gateway)[1] == b"{}"


class TestFailures:
    def test_a_legacy_side_that_is_away_is_a_502_in_openai_s_envelope(self, gateway, legacy):
        legacy.stop()
        head, body = chat(gateway)
        assert (status_of(head), json.loads(body)["error"]["code"]) == (502, "upstream_unreachable")
        assert "legacy" in json.loads(body)["error"]["message"]
        assert values(head, b"x-gateway-side") == [b"legacy"]

    def test_an_address_that_leads_back_here_is_found_out(self, gateway):
        gateway.part(gateway.url)
        head, body = chat(gateway)
        assert (status_of(head), json.loads(body)["error"]["code"]) == (508, "loop_detected")

    def test_on_the_old_paths_it_is_a_problem_document(self, gateway, legacy):
        legacy.stop()
        head, body = ask(gateway, b"POST", b"/generate", b"{}")
        assert (status_of(head), values(head, b"content-type")) == (502, [b"application/problem+json"])
        assert json.loads(body)["error_details"]["code"] == "UPSTREAM_UNREACHABLE"
        assert values(head, b"x-should-retry") != []

    def test_a_client_s_own_mistake_has_the_source_systems_code(self, gateway):
        _, body = ask(gateway, b"POST", b"/generate", b"", b"Content-Length: 1048577")
        assert json.loads(body)["error_details"]["code"] == "CLIENT_PROCESSING_ERROR"

    def test_a_legacy_side_that_does_not_answer_is_a_504(self, gateway, legacy):
        gateway.part(legacy.url, reply_seconds=0.1)
        legacy.replies.append(lambda connection: connection.recv(1))
        head, body = chat(gateway)
        assert (status_of(head), json.loads(body)["error"]["code"]) == (504, "upstream_timeout")

    def test_an_address_that_may_not_be_dialled_is_never_dialled(self, gateway, legacy):
        gateway.part(legacy.url, allow_private=False)
        head, body = chat(gateway)
        assert (status_of(head), json.loads(body)["error"]["code"]) == (502, "upstream_unreachable")
        assert legacy.requests == []

    def test_a_stream_that_is_cut_ends_with_an_error_event(self, gateway, legacy):
        def cut(connection):
            connection.sendall(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
                b"b\r\ndata: one\n\n\r\n"
            )
            connection.shutdown(socket.SHUT_RDWR)

        legacy.replies.append(cut)
        _, body = chat(gateway)
        assert b'data: {"error":' in body
        assert b'"upstream_broken"' in body
        assert gateway.wait_for_rows(1)[0].error_code == "upstream_broken"

    def test_a_body_that_is_cut_is_cut_for_the_client_too(self, gateway, legacy):
        def cut(connection):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
            connection.shutdown(socket.SHUT_RDWR)

        legacy.replies.append(cut)
        head, body = chat(gateway)
        assert (values(head, b"content-length"), body) == ([b"100"], b"half")

    @pytest.mark.parametrize("begun", [False, True])
    def test_a_client_that_leaves_ends_the_legacy_side_s_work(self, gateway, legacy, begun):
        def stall(connection):
            if begun:
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: one\n\n")
            while connection.recv(65536):
                pass

        legacy.replies.append(stall)
        with connected(gateway) as connection:
            connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n\r\n")
            assert _eventually(lambda: legacy.requests)
            if begun:
                connection.recv(1)
        assert legacy.left.wait(60)
        row = gateway.wait_for_rows(1)[0]
        assert (row.status, row.error_code) == (499, "client_disconnected")

    def test_a_client_that_leaves_in_its_upload_ends_it(self, gateway, legacy):
        with connected(gateway) as connection:
            connection.sendall(b"POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Length: 500000\r\n\r\n" + b"a" * 100_000)
            assert _eventually(lambda: legacy._open)
        assert legacy.left.wait(60)


class TestTls:
    @pytest.fixture
    def legacy(self, certificate):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        with LegacyServer(tls=context) as server:
            yield server

    def test_a_certificate_that_nobody_vouches_for_is_refused(self, gateway, legacy):
        head, body = chat(gateway, CHAT, b"Authorization: Bearer legacy-token")
        assert (status_of(head), json.loads(body)["error"]["code"]) == (502, "upstream_unreachable")
        assert legacy.requests == []

    def test_it_is_taken_when_the_operator_says_so(self, gateway, legacy):
        gateway.part(legacy.url, verify_tls=False)
        assert [chat(gateway)[1] for _ in range(2)] == [b"{}", b"{}"]
        assert [request.body for request in legacy.requests] == [CHAT, CHAT]

    def test_switching_verification_on_again_uses_no_connection_from_before(self, gateway, legacy):
        gateway.part(legacy.url, verify_tls=False)
        assert status_of(chat(gateway)[0]) == 200
        gateway.part(legacy.url, verify_tls=True)
        assert status_of(chat(gateway)[0]) == 502


class TestTheRow:
    def test_a_request_that_was_passed_on_leaves_a_row_of_its_side(self, gateway, legacy):
        legacy.replies.append(answer(USAGE))
        chat(gateway, CHAT, b"Authorization: Bearer " + registry.CLIENT_KEY.encode())
        row = gateway.wait_for_rows(1)[0]
        assert (row.side, row.status, row.operation, row.requested_model) == (LEGACY, 200, "chat", "fake-chat")
        assert (row.client_key_id, row.client_key_prefix) == (7, "gw-0123456789ab")
        assert (row.provider_id, row.model_id) == ("", "")
        assert row.duration_ms > 0

    def test_it_is_priced_as_the_same_model_would_be_here(self, gateway, legacy):
        legacy.replies.append(answer(USAGE))
        chat(gateway)
        row = gateway.wait_for_rows(1)[0]
        assert (row.input_tokens, row.output_tokens) == (1_000_000, 500_000)
        assert (row.cost, row.estimated) == (Decimal(2), True)

    def test_an_unknown_model_has_tokens_and_no_price(self, gateway, legacy):
        legacy.replies.append(answer(USAGE))
        chat(gateway, b'{"model":"never-heard-of"}')
        row = gateway.wait_for_rows(1)[0]
        assert (row.requested_model, row.input_tokens, row.cost) == ("never-heard-of", 1_000_000, None)

    def test_the_source_systems_own_way_of_counting_is_understood(self, gateway, legacy):
        legacy.replies.append(answer(b'{"content":"a \\"usage\\" of {","prompt_tokens":3,"completion_tokens":4}'))
        ask(gateway, b"POST", b"/api/llm/gateway/generate", b'{"prompt":"x","model":"fake-chat"}')
        row = gateway.wait_for_rows(1)[0]
        assert (row.operation, row.input_tokens, row.output_tokens) == ("generate", 3, 4)

    def test_a_stream_tells_its_tokens_at_its_end(self, gateway, legacy):
        events = b"".join(b'data: {"choices":[{"delta":{"content":"%d"}}]}\n\n' % n for n in range(2000))
        events += b'data: {"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2000}}\n\ndata: [DONE]\n\n'
        legacy.replies.append(answer(events, b"Content-Type: text/event-stream"))
        chat(gateway)
        row = gateway.wait_for_rows(1)[0]
        assert (row.stream, row.input_tokens, row.output_tokens) == (True, 5, 2000)
        assert row.first_byte_ms is not None

    def test_a_refusal_s_own_code_is_kept(self, gateway, legacy):
        legacy.replies.append(answer(b'{"error":{"message":"no","code":"rate_limited"}}', status=b"429 Too Many"))
        chat(gateway)
        assert gateway.wait_for_rows(1)[0].error_code == "rate_limited"

    def test_a_refusal_without_a_code_is_named_by_its_status(self, gateway, legacy):
        legacy.replies.append(answer(b'{"error":{"code":"two words"}}', status=b"500 Oh"))
        chat(gateway)
        assert gateway.wait_for_rows(1)[0].error_code == "http_500"

    def test_strangers_are_told_apart_and_what_they_showed_is_not_kept(self, gateway, legacy):
        for token in (b"legacy-token-one", b"legacy-token-two", b"legacy-token-one"):
            chat(gateway, CHAT, b"Authorization: Bearer " + token)
        rows = gateway.wait_for_rows(3)
        names = [row.client_key_prefix for row in rows]
        assert names[0] == names[2] != names[1]
        assert all(name.startswith("legacy-") for name in names)
        assert "token-one" not in repr(rows)

    def test_a_stranger_whom_the_legacy_side_refuses_too_fills_no_table(self, gateway, legacy):
        legacy.replies += [answer(status=b"401 Unauthorized"), answer()]
        chat(gateway, CHAT, b"Authorization: Bearer nobody")
        chat(gateway, CHAT, b"Authorization: Bearer somebody")
        assert [row.status for row in gateway.wait_for_rows(1)] == [200]
        assert gateway.metrics.forwarded == {"refused": 1, "ok": 1}

    def test_both_sides_are_counted_in_the_metrics(self, gateway, legacy):
        chat(gateway)
        gateway.part(legacy.url, share=BUCKETS)
        head, _ = chat(gateway, CHAT, b"Authorization: Bearer " + registry.CLIENT_KEY.encode())
        assert values(head, b"x-gateway-side") == []
        text = gateway.metrics.render().decode()
        assert 'gateway_rollout_requests_total{outcome="ok",side="legacy"} 1.0' in text
        assert 'side="gateway"} 1.0' in text


class TestPrivacy:
    SECRETS = (
        "token-of-a-client",
        "cookie-of-a-client",
        "words-of-a-prompt",
        "words-of-a-reply",
        "secret-of-ours",
        "in-query",
    )

    @pytest.mark.parametrize("fails", ["", "refused", "broken", "late", "climbs"])
    def test_nothing_that_anybody_said_or_showed_is_logged_counted_or_kept(self, gateway, legacy, caplog, fails):
        caplog.set_level(logging.DEBUG)
        gateway.part(legacy.url, reply_seconds=0.1, headers=(("X-Ours", Secret("secret-of-ours")),))
        said = b'{"error":{"message":"words-of-a-reply","code":"words-of-a-reply: no"}}'
        legacy.replies.append(
            {
                "refused": answer(said, b"X-Said: words-of-a-reply", status=b"500 words-of-a-reply"),
                "broken": b"words-of-a-reply\r\n\r\n",
                "late": lambda connection: connection.recv(1),
            }.get(fails, answer(said))
        )
        target = b"/v1/" + (b"../" if fails == "climbs" else b"") + b"chat/completions?key=in-query"
        body = CHAT.replace(b"hi", b"words-of-a-prompt")
        ask(gateway, b"POST", target, body, b"Authorization: Bearer token-of-a-client", b"Cookie: a=cookie-of-a-client")
        told = repr(gateway.wait_for_rows(1)) + gateway.metrics.render().decode() + caplog.text
        assert [secret for secret in self.SECRETS if secret in told] == []


class TestTheDoor:
    def scope(self, path="/v1/chat/completions", **headers):
        sent = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        return {"path": path, "headers": sent, "client": ("198.51.100.7", 5000)}

    @pytest.mark.parametrize(
        "headers",
        [{"authorization": "Bearer k-1"}, {"authorization": "bearer  k-1 "}, {"x_api_key": "k-1"}, {"api_key": "k-1"}],
    )
    def test_a_key_is_the_same_client_in_whichever_header_it_comes(self, headers):
        assert known_by(self.scope(**headers)) == b"key:k-1"

    def test_a_credential_of_another_scheme_is_taken_whole(self):
        assert credential_of([(b"authorization", b"Token abc")]) == b"Token abc"

    def test_without_a_credential_the_address_tells_clients_apart(self):
        assert known_by(self.scope()) == b"address:198.51.100.7"

    def test_the_share_parts_clients_by_their_key(self):
        view = rollout("http://legacy.test", share=5000)
        for number in range(50):
            goes = goes_to_legacy(view, self.scope(authorization=f"Bearer k-{number}"))
            assert goes == (side(view, f"key:k-{number}".encode()) == LEGACY)

    @pytest.mark.parametrize("path", ["/admin/", "/api/v1/rollout", "/metrics", "/readyz", "/api/v1/generate"])
    def test_the_operator_s_paths_stay_here_whatever_the_switch_says(self, path):
        assert not goes_to_legacy(rollout("http://legacy.test", gateway_enabled=False), self.scope(path))

    def test_the_old_registry_follows_the_kill_switch_and_not_the_share(self):
        assert not goes_to_legacy(rollout("http://legacy.test"), self.scope("/api/providers/openai"))
        assert goes_to_legacy(rollout("http://legacy.test", gateway_enabled=False), self.scope("/api/providers/openai"))


@pytest.mark.parametrize("spoilt", [{"enabled": False, "revoked": True}, {"team_enabled": False}, {"enabled": False}])
def test_a_key_that_was_shut_out_here_is_not_served_by_the_legacy_side_either(gateway, legacy, spoilt):
    built = registry.snapshot(registry.model(registry.provider()), keys=[registry.key_view(**spoilt)])
    snapshot.replace(replace(built, rollout=rollout(legacy.url)))
    head, body = chat(gateway, CHAT, b"Authorization: Bearer " + registry.CLIENT_KEY.encode())
    assert (status_of(head), legacy.requests) == (401, [])
    assert b"invalid_api_key" in body
    chat(gateway, CHAT, b"Authorization: Bearer some-key-of-the-legacy-side")
    assert len(legacy.requests) == 1


def test_a_row_of_this_side_says_so(gateway):
    gateway.part("http://legacy.test", share=BUCKETS)
    chat(gateway, CHAT.replace(b"1e400", b"1"), b"Authorization: Bearer " + registry.CLIENT_KEY.encode())
    assert gateway.wait_for_rows(1)[0].side == GATEWAY


def _eventually(condition, seconds: float = 60.0) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def _rests(counts: list[int], seconds: float = 0.3) -> bool:
    before = len(counts)
    time.sleep(seconds)
    return len(counts) == before
