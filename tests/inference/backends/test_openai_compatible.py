import asyncio
import json
import time
from dataclasses import replace

import msgspec
import pytest

from inference.backends import sse_relay
from inference.backends.base import UpstreamCall, Usage
from inference.backends.openai_compatible import OpenAICompatible
from inference.backends.sse_relay import RelayedStream
from inference.errors import (
    ConfigurationError,
    GatewayError,
    UpstreamBroken,
    UpstreamFailed,
    UpstreamRateLimited,
    UpstreamRefusedOurKey,
    UpstreamRejected,
    UpstreamTimeout,
)
from inference.wire.native import MESSAGES as MESSAGES_API
from inference.wire.native import Native
from providers.secrets import Secret
from routing.types import ModelView, Prices, ProviderView, UpstreamKey
from tests.fakes.upstream import Answer, FakeUpstream, failure, html, in_band_error, no_answer, redirect

KEY = UpstreamKey(1, Secret("sk-upstream-0123456789"))
MESSAGES = [{"role": "user", "content": "hi there"}]
CHUNK = {
    "id": "c",
    "object": "chat.completion.chunk",
    "choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": None}],
}
LAST = {"id": "c", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
USAGE = {
    "id": "c",
    "object": "chat.completion.chunk",
    "choices": [],
    "usage": {"prompt_tokens": 3, "completion_tokens": 4},
}


@pytest.fixture
def upstream():
    with FakeUpstream(api_key=KEY.secret.reveal()) as server:
        yield server


@pytest.fixture
async def make(upstream):
    made = []

    def make(connection=None, settings=None, **more):
        view = provider({"base_url": upstream.base_url, **(connection or {})}, settings or {}, **more)
        made.append(OpenAICompatible(view))
        return made[-1]

    yield make
    for backend in made:
        await backend.aclose()


def provider(connection, settings=None, keys=(KEY,)):
    return ProviderView(
        provider_id="up",
        provider_type="openai_compatible",
        backend="inference.backends.openai_compatible.OpenAICompatible",
        runs_in="web",
        priority=1,
        connection=connection,
        settings=settings or {},
        keys=keys,
        fingerprint="f",
    )


def call(fields=None, operation="chat", model="gpt-test", key=KEY, **more):
    body = {"model": "client-name", **({"messages": MESSAGES} if operation == "chat" else {}), **(fields or {})}
    raw = msgspec.json.decode(json.dumps(body).encode(), type=dict[str, msgspec.Raw])
    view = ModelView(
        provider=provider({}),
        model_id=model,
        display_name=model,
        model_type="chat",
        context_window=None,
        max_tokens=None,
        dimension=None,
        capabilities=frozenset(),
        tasks=frozenset(),
        parameters={},
        prices=Prices(),
        created=0,
    )
    stream = bool(body.get("stream"))
    return UpstreamCall(operation=operation, model=view, fields=raw, stream=stream, request_id="req-1", key=key, **more)


def streaming(**fields):
    return call({"stream": True, **fields})


async def events_of(reply):
    return b"".join([piece async for piece in reply.chunks])


def data_of(stream):
    return [event.removeprefix(b"data: ") for event in stream.split(b"\n\n") if event]


# Requests


async def test_only_the_models_name_is_exchanged(make, upstream):
    raw = b'{"model":"client-name","messages":[ {"role" : "user","content":"\\u00e9"} ],"x_unknown":{"a":1.0e0},"seed":12345678901234567890}'
    asked = call()
    asked.fields = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    await make().send(asked)
    assert upstream.requests[0].body == raw.replace(b"client-name", b"gpt-test")


@pytest.mark.parametrize(
    ("asked", "sent"),
    [(99_999, 16_000), (10**30, 16_000), (16_000, 16_000), (10, 10), (None, None), (-1, -1)],
)
async def test_no_answer_is_longer_than_the_registry_lets_the_models_be(make, upstream, asked, sent):
    for name in ("max_tokens", "max_completion_tokens"):
        request = call({name: asked})
        request.model = replace(request.model, max_tokens=16_000)
        await make().send(request)
        assert upstream.requests[-1].json[name] == sent


async def test_a_request_shows_key_headers_and_request_id(make, upstream):
    backend = make(
        {"headers": {"X-Title": "gateway", "X-Secret": Secret("hidden")}, "organization": "org", "project": "proj"}
    )
    await backend.send(call())
    headers = upstream.requests[0].headers
    assert headers["authorization"] == f"Bearer {KEY.secret.reveal()}"
    assert headers["x-request-id"] == "req-1"
    assert (headers["x-title"], headers["x-secret"]) == ("gateway", "hidden")
    assert (headers["openai-organization"], headers["openai-project"]) == ("org", "proj")
    assert headers["accept-encoding"] == "identity"


async def test_each_key_is_shown_in_its_own_requests(make, upstream):
    backend = make()
    other = UpstreamKey(2, Secret("sk-other-0123456789"))
    await backend.send(call())
    with pytest.raises(UpstreamRefusedOurKey):
        await backend.send(call(key=other))
    assert upstream.requests[1].headers["authorization"] == "Bearer sk-other-0123456789"


async def test_without_a_key_none_is_shown(make, upstream):
    upstream.api_key = None
    await make(keys=()).send(call(key=None))
    assert "authorization" not in upstream.requests[0].headers


@pytest.mark.parametrize("name", ["base_url", "api_base"])
@pytest.mark.parametrize("end", ["", "/"])
async def test_the_base_url_has_two_names_and_two_spellings(upstream, name, end):
    backend = OpenAICompatible(provider({name: upstream.base_url + end}))
    await backend.send(call())
    assert upstream.requests[0].target == "/v1/chat/completions"
    await backend.aclose()


async def test_azure_puts_the_deployment_into_the_path(make, upstream):
    azure = {"base_url": upstream.origin, "url_style": "azure", "auth_header": "api-key", "api_version": "2024-10-21"}
    backend = make(azure)
    await backend.send(call(model="my deployment"))
    await backend.list_models()
    assert upstream.requests[0].target == "/openai/deployments/my%20deployment/chat/completions?api-version=2024-10-21"
    assert upstream.requests[0].headers["api-key"] == KEY.secret.reveal()
    assert "authorization" not in upstream.requests[0].headers
    assert upstream.requests[1].target == "/openai/models?api-version=2024-10-21"


def test_a_provider_without_base_url_is_misconfigured():
    with pytest.raises(ConfigurationError) as error:
        OpenAICompatible(provider({}))
    assert error.value.param == "base_url"


async def test_a_header_with_a_line_end_is_misconfigured(make):
    with pytest.raises(ConfigurationError):
        await make({"headers": {"x-a": "1\r\nx-b: 2"}}).send(call())


# Whole replies


async def test_a_whole_reply_is_relayed_byte_for_byte(make, upstream):
    body = b'{"id":"1","choices":[ {"message":{"content":"\\u2028","x":1.50}} ],"unknown":null}'
    upstream.reply_with(body=body)
    reply = await make().send(call())
    assert (reply.status, reply.body) == (200, body)


@pytest.mark.parametrize(
    ("operation", "fields"), [("completions", {"prompt": "a b"}), ("embeddings", {"input": ["a"]})]
)
async def test_the_other_operations_reach_their_paths(make, upstream, operation, fields):
    reply = await make().send(call(fields, operation))
    assert json.loads(reply.body)["usage"]["prompt_tokens"] >= 1
    assert upstream.requests[0].target == f"/v1/{operation}"


async def test_only_allowed_headers_are_relayed(make, upstream):
    upstream.headers = {
        "openai-processing-ms": "12",
        "x-ratelimit-remaining-requests": "9",
        "set-cookie": "a=b",
        "x-internal": "1",
        "server": "nginx",
    }
    reply = await make().send(call())
    assert dict(reply.headers) == {b"openai-processing-ms": b"12", b"x-ratelimit-remaining-requests": b"9"}


@pytest.mark.parametrize(
    "answer",
    [
        html(),
        Answer(body=b""),
        Answer(body=b"[1]"),
        Answer(body=b'{"id": "cut off'),
        Answer(body=b"\xff\xfe{}"),
        Answer(body=b"[" * 100_000),
        Answer(events=["[DONE]"]),
    ],
    ids=["html", "empty", "list", "half", "not text", "deep", "stream"],
)
async def test_a_whole_reply_that_is_no_object_is_broken(make, upstream, answer):
    upstream.script(answer)
    with pytest.raises(UpstreamBroken):
        await make().send(call())


async def test_an_error_under_status_200_is_a_failure(make, upstream):
    upstream.reply_with(json={"error": {"message": "overloaded", "code": 502}})
    with pytest.raises(UpstreamFailed, match="overloaded"):
        await make().send(call())


async def test_a_gzip_reply_is_inflated(make, upstream):
    upstream.reply_with(json={"choices": []}, encoding="gzip")
    assert json.loads((await make().send(call())).body) == {"choices": []}


async def test_models_are_listed(make):
    assert [model["id"] for model in await make().list_models()] == ["gpt-test", "gpt-test-mini", "embed-test"]


@pytest.mark.parametrize("told", [["a"], [{"id": "a"}], {"models": [{"name": "a"}]}, {"data": [{"model": "a"}]}])
async def test_models_are_listed_in_other_shapes_too(make, upstream, told):
    upstream.reply_with(json=told)
    assert [model["id"] for model in await make().list_models()] == ["a"]


# Refusals


@pytest.mark.parametrize(
    ("status", "error", "ours"),
    [
        (400, UpstreamRejected, 400),
        (404, UpstreamRejected, 404),
        (409, UpstreamRejected, 409),
        (422, UpstreamRejected, 422),
        (401, UpstreamRefusedOurKey, 502),
        (403, UpstreamRejected, 403),
        (408, UpstreamTimeout, 504),
        (429, UpstreamRateLimited, 429),
        (500, UpstreamFailed, 502),
        (502, UpstreamFailed, 502),
        (503, UpstreamFailed, 503),
        (529, UpstreamFailed, 503),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_status_has_its_meaning(make, upstream, status, error, ours, stream):
    upstream.script(failure(status, "because", "some_code"))
    with pytest.raises(error) as raised:
        await make().send(call({"stream": stream}))
    assert type(raised.value) is error
    assert raised.value.status == ours


async def test_a_rejection_is_relayed_untouched(make, upstream):
    body = b'{"error": {"message":"too long", "type":"invalid_request_error","param":"messages","code":"context_length_exceeded"} }'
    upstream.reply_with(status=400, body=body)
    with pytest.raises(UpstreamRejected) as raised:
        await make().send(call())
    assert raised.value.body == body
    assert (raised.value.code, raised.value.param, raised.value.retryable) == (
        "context_length_exceeded",
        "messages",
        False,
    )


async def test_a_rejection_in_another_shape_is_wrapped(make, upstream):
    upstream.reply_with(status=422, body="the field is wrong", content_type="text/plain")
    with pytest.raises(UpstreamRejected) as raised:
        await make().send(call())
    assert json.loads(raised.value.body)["error"] == {
        "message": "the field is wrong",
        "type": "invalid_request_error",
        "param": None,
        "code": None,
    }


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (
            {"object": "error", "message": "too long", "type": "BadRequestError", "param": "messages", "code": 400},
            {"message": "too long", "type": "BadRequestError", "param": "messages", "code": 400},
        ),
        (
            {"object": "error", "message": {"detail": ["x"]}, "type": "invalid_request_error", "code": "1500"},
            {"message": '{"detail":["x"]}', "type": "invalid_request_error", "param": None, "code": "1500"},
        ),
        (
            {"detail": "no such route"},
            {"message": "no such route", "type": "invalid_request_error", "param": None, "code": None},
        ),
        ({"error": "no model"}, {"message": "no model", "type": "invalid_request_error", "param": None, "code": None}),
    ],
    ids=["vllm", "mistral", "fastapi", "ollama"],
)
async def test_a_rejection_in_a_vendor_s_shape_keeps_what_it_says(make, upstream, said, error):
    upstream.reply_with(status=400, json=said)
    with pytest.raises(UpstreamRejected) as raised:
        await make().send(call())
    assert json.loads(raised.value.body) == {"error": error}
    assert raised.value.code == (str(error["code"]) if error["code"] else "upstream_error")


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "2"}, 2),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
        ({}, None),
    ],
)
async def test_the_time_to_wait_is_read(make, upstream, headers, seconds):
    upstream.script(Answer(status=429, headers=headers, json={"error": {"message": "slow down"}}))
    with pytest.raises(UpstreamRateLimited) as raised:
        await make().send(call())
    assert raised.value.retry_after == seconds


async def test_a_date_to_wait_for_is_counted_from_now(make, upstream):
    at = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 60))
    upstream.script(Answer(status=503, headers={"retry-after": at}))
    with pytest.raises(UpstreamFailed) as raised:
        await make().send(call())
    assert 30 < raised.value.retry_after <= 60


async def test_a_redirect_is_broken_and_not_followed(make, upstream):
    with FakeUpstream() as elsewhere:
        upstream.script(redirect(elsewhere.base_url), redirect(elsewhere.base_url))
        for stream in (False, True):
            with pytest.raises(UpstreamBroken):
                await make().send(call({"stream": stream}))
        assert elsewhere.requests == []


@pytest.mark.parametrize("status", [400, 401, 429, 500])
async def test_our_secrets_are_not_said_back(make, upstream, status):
    tricky = 'quo"te-secret'
    upstream.script(failure(status, f"key {KEY.secret.reveal()} and {tricky} are wrong"))
    with pytest.raises(GatewayError) as raised:
        await make({"headers": {"x-more": Secret(tricky)}}).send(call())
    error = raised.value
    said = error.message + error.detail + getattr(error, "body", b"").decode()
    assert KEY.secret.reveal() not in said
    assert "te-secret" not in said


async def test_messages_name_no_address(make, upstream):
    upstream.stop()
    with pytest.raises(GatewayError) as raised:
        await make().send(call())
    assert str(upstream.port) not in raised.value.message + raised.value.detail


# Streams


async def test_a_stream_is_relayed_byte_for_byte(make, upstream):
    events = [
        b": hello\n\n",
        b'data: {"choices":[{"delta":{"content":"\\u2028 \xe2\x80\xa8 [DONE]"}}]}\r\n\r\n',
        LAST,
        "[DONE]",
    ]
    upstream.reply_with(events=events)
    stream = await events_of(await make().send(streaming()))
    assert stream == events[0] + events[1] + f"data: {json.dumps(LAST)}\n\ndata: [DONE]\n\n".encode()


async def test_usage_is_asked_for_and_kept_from_a_client_that_did_not_ask(make, upstream):
    reply = await make().send(streaming())
    events = data_of(await events_of(reply))
    assert upstream.requests[0].json["stream_options"] == {"include_usage": True}
    assert reply.usage == Usage(input_tokens=2, output_tokens=3)
    assert reply.chunks.finished
    assert events[-1] == b"[DONE]"
    assert all(json.loads(event)["choices"] for event in events[:-1])


async def test_usage_reaches_a_client_that_asked(make, upstream):
    reply = await make().send(streaming(stream_options={"include_usage": True, "include_obfuscation": False}))
    events = data_of(await events_of(reply))
    assert upstream.requests[0].json["stream_options"] == {"include_usage": True, "include_obfuscation": False}
    assert json.loads(events[-2])["choices"] == []
    assert reply.usage == Usage(input_tokens=2, output_tokens=3)


async def test_other_stream_options_are_kept(make, upstream):
    await events_of(await make().send(streaming(stream_options={"include_usage": False, "x": [1]})))
    assert upstream.requests[0].json["stream_options"] == {"include_usage": True, "x": [1]}


async def test_a_provider_may_leave_stream_options_alone(make, upstream):
    reply = await make(settings={"stream_usage": "leave"}).send(streaming())
    await events_of(reply)
    assert "stream_options" not in upstream.requests[0].json
    assert reply.usage is None


async def test_usage_beside_choices_is_read_and_relayed(make, upstream):
    last = {**LAST, "usage": USAGE["usage"]}
    upstream.reply_with(events=[CHUNK, last, "[DONE]"])
    reply = await make().send(streaming())
    assert json.loads(data_of(await events_of(reply))[1]) == last
    assert reply.usage == Usage(input_tokens=3, output_tokens=4)


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")], ids=["compact", "spaced"])
async def test_nobody_hears_of_usage_that_was_not_asked_for(make, upstream, separators):
    said = {**CHUNK, "choices": [{"index": 0, "delta": {"content": ',"usage":null'}, "finish_reason": None}]}
    events = [json.dumps({**event, "usage": None}, separators=separators) for event in (said, LAST)]
    upstream.reply_with(events=[*events, json.dumps(USAGE, separators=separators), "[DONE]"])
    reply = await make().send(streaming())
    assert [json.loads(data) for data in data_of(await events_of(reply))[:-1]] == [said, LAST]


async def test_a_stream_without_done_is_whole_when_it_gave_a_reason(make, upstream):
    upstream.reply_with(events=[CHUNK, LAST])
    reply = await make().send(streaming())
    await events_of(reply)
    assert reply.chunks.finished


@pytest.mark.parametrize(
    "answer", [Answer(events=[CHUNK, CHUNK]), Answer(cut_after=2), Answer(events=[])], ids=["ended", "cut", "empty"]
)
async def test_a_stream_that_ends_too_early_is_broken(make, upstream, answer):
    upstream.script(answer)
    reply = await make().send(streaming())
    with pytest.raises(UpstreamBroken):
        await events_of(reply)
    assert not reply.chunks.finished


async def test_an_error_in_the_stream_is_relayed_and_noted(make, upstream):
    upstream.script(in_band_error(2, f"died of {KEY.secret.reveal()}"))
    reply = await make().send(streaming())
    stream = await events_of(reply)
    assert reply.chunks.failed
    assert not reply.chunks.finished
    assert json.loads(data_of(stream)[-1])["error"]["message"] == "died of ••••"


async def test_a_fault_after_done_is_none(make, upstream):
    upstream.reply_with(events=[LAST, "[DONE]"], cut_after=2)
    reply = await make().send(streaming())
    assert (await events_of(reply)).endswith(b"data: [DONE]\n\n")


async def test_a_connection_held_open_after_done_ends_the_stream(make, upstream, monkeypatch):
    monkeypatch.setattr(sse_relay, "AFTER_DONE_SECONDS", 0.05)
    upstream.reply_with(events=[LAST, "[DONE]"], stall_after=2)
    reply = await make().send(streaming())
    assert (await events_of(reply)).endswith(b"data: [DONE]\n\n")
    assert await upstream.requests[0].until_left()


async def test_a_json_error_for_a_stream_is_a_failure(make, upstream):
    upstream.reply_with(json={"error": {"message": "no capacity"}})
    with pytest.raises(UpstreamFailed, match="no capacity"):
        await make().send(streaming())


@pytest.mark.parametrize(
    "answer", [html(), Answer(json={"choices": [{"message": {"content": "x"}}]})], ids=["html", "whole"]
)
async def test_another_answer_than_a_stream_is_broken(make, upstream, answer):
    upstream.script(answer)
    with pytest.raises(UpstreamBroken):
        await make().send(streaming())


async def test_a_compressed_stream_is_inflated(make, upstream):
    upstream.reply_with(events=[CHUNK, LAST, "[DONE]"], encoding="gzip")
    assert len(data_of(await events_of(await make().send(streaming())))) == 3


async def test_a_stream_in_an_encoding_that_nobody_knows_ends_the_upstreams_work(make, upstream):
    upstream.reply_with(events=[CHUNK, CHUNK], headers={"content-encoding": "br"}, stall_after=1)
    reply = await make().send(streaming())
    with pytest.raises(UpstreamBroken):
        await anext(reply.chunks)
    await reply.aclose()
    assert await upstream.requests[0].until_left()


async def test_a_client_that_leaves_ends_the_upstreams_work(make, upstream):
    upstream.reply_with(events=[CHUNK, CHUNK], stall_after=1)
    reply = await make().send(streaming())
    await anext(reply.chunks)
    await reply.aclose()
    assert await upstream.requests[0].until_left()


async def test_the_settings_times_hold(make, upstream):
    upstream.script(no_answer())
    with pytest.raises(UpstreamTimeout):
        await make(settings={"first_byte_timeout_seconds": "0.1"}).send(call())


async def test_a_stalled_stream_times_out(make, upstream):
    upstream.reply_with(events=[CHUNK, CHUNK], stall_after=1)
    reply = await make(settings={"idle_timeout_seconds": 0.1}).send(streaming())
    with pytest.raises(UpstreamTimeout):
        await events_of(reply)


def test_a_senseless_time_is_misconfigured():
    with pytest.raises(ConfigurationError) as error:
        OpenAICompatible(provider({"base_url": "http://127.0.0.1:1/v1"}, {"timeout_seconds": "soon"}))
    assert error.value.param == "timeout_seconds"


# Events that reads cut anywhere


class Reads:
    """A reply that comes in given pieces."""

    def __init__(self, pieces):
        self.pieces = iter(pieces)

    async def __anext__(self):
        for piece in self.pieces:
            return piece
        raise StopAsyncIteration

    async def aclose(self):
        return None


def event(payload, end=b"\n\n", separators=(", ", ": ")):
    return (
        b"data: "
        + (payload if isinstance(payload, bytes) else json.dumps(payload, separators=separators).encode())
        + end
    )


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r"], ids=["lf", "crlf", "cr"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 50, 10_000])
async def test_the_usage_event_is_found_wherever_reads_are_cut(end, size):
    wanted = event(CHUNK, end) + b": comment" + end + event(LAST, end) + event(b"[DONE]", end)
    sent = event(CHUNK, end) + b": comment" + end + event(LAST, end) + event(USAGE, end) + event(b"[DONE]", end)
    reads = Reads([sent[at : at + size] for at in range(0, len(sent), size)])
    stream = RelayedStream(reads, strip_usage=True, redact=lambda data: data)
    relayed = b"".join([piece async for piece in stream])
    assert relayed.replace(b"\n", b"").replace(b"\r", b"") == wanted.replace(b"\n", b"").replace(b"\r", b"")
    assert relayed == wanted
    assert stream.usage == Usage(input_tokens=3, output_tokens=4)
    assert stream.finished


@pytest.mark.parametrize("separators", [(", ", ": "), (",", ":")], ids=["spaced", "compact"])
async def test_both_ways_to_write_json_are_read(separators):
    events = [event(each, separators=separators) for each in (CHUNK, LAST, USAGE)]
    stream = RelayedStream(Reads(events), strip_usage=True, redact=bytes)
    assert [piece async for piece in stream] == events[:2]
    assert stream.usage == Usage(input_tokens=3, output_tokens=4)
    assert stream.finished


async def test_a_stream_in_a_single_read_is_read_as_well():
    everything = event(CHUNK) + event(LAST) + event(USAGE) + event(b"[DONE]")
    stream = RelayedStream(Reads([everything]), strip_usage=True, redact=bytes)
    assert [piece async for piece in stream] == [event(CHUNK) + event(LAST) + event(b"[DONE]")]
    assert stream.usage == Usage(input_tokens=3, output_tokens=4)


async def test_events_are_handed_on_whole():
    sent = event(CHUNK, b"\n\n")
    stream = RelayedStream(
        Reads([sent[:10], sent[10:] + sent[:5], sent[5:], event(b"[DONE]", b"\n\n")]), strip_usage=True, redact=bytes
    )
    assert [piece async for piece in stream] == [sent, sent, event(b"[DONE]", b"\n\n")]


async def test_a_last_event_without_a_blank_line_is_relayed():
    stream = RelayedStream(Reads([b"data: [DONE]"]), strip_usage=True, redact=bytes)
    assert [piece async for piece in stream] == [b"data: [DONE]"]
    assert stream.finished


async def test_done_in_a_text_does_not_end_the_stream():
    text = {**CHUNK, "choices": [{"delta": {"content": '\ndata: [DONE]\n "finish_reason":"stop"'}}]}
    stream = RelayedStream(Reads([event(text, b"\n\n")]), strip_usage=True, redact=bytes)
    with pytest.raises(UpstreamBroken):
        [piece async for piece in stream]


async def test_an_event_without_end_is_broken(monkeypatch):
    monkeypatch.setattr(sse_relay, "MAX_EVENT_BYTES", 1000)
    stream = RelayedStream(Reads([b"x" * 600, b"x" * 600]), strip_usage=True, redact=bytes)
    with pytest.raises(UpstreamBroken):
        await anext(stream)


async def test_many_streams_at_once_do_not_mix(make, upstream):
    backend = make()

    async def one(number):
        asked = streaming(messages=[{"role": "user", "content": f"number {number}"}])
        events = data_of(await events_of(await backend.send(asked)))
        return "".join((json.loads(e)["choices"][0]["delta"].get("content") or "") for e in events[:-1])

    assert await asyncio.gather(*map(one, range(50))) == [f"echo: number {n}" for n in range(50)]


@pytest.mark.parametrize(("kind", "told"), [("deepseek", "Hm."), ("openai", None)])
async def test_thoughts_of_other_protocols_go_back_to_vendors_that_want_them(upstream, kind, told):
    made = {"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    said = [*MESSAGES, {"role": "assistant", "content": None, "tool_calls": [made]}]
    backend = OpenAICompatible(replace(provider({"base_url": upstream.base_url}), provider_type=kind))
    await backend.send(call({"messages": said}, native=Native(MESSAGES_API, {}, thoughts=("Hm.",))))
    await backend.aclose()
    assert upstream.requests[-1].json["messages"][-1].get("reasoning_content") == told


async def test_a_model_of_mistrals_is_told_no_user_behind_a_tool(upstream):
    made = {"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    answered = [{"role": "tool", "tool_call_id": "c", "content": "blue"}, {"role": "user", "content": "So?"}]
    said = [*MESSAGES, {"role": "assistant", "content": None, "tool_calls": [made]}, *answered]
    backend = OpenAICompatible(provider({"base_url": upstream.base_url}))
    for model in ("devstral-2512", "gpt-test"):
        await backend.send(call({"messages": said}, model=model, native=Native(MESSAGES_API, {})))
    await backend.aclose()
    assert [len(one.json["messages"]) for one in upstream.requests] == [3, 4]
