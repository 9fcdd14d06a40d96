"""The official client against the gateway on a real socket, with a scripted upstream behind it."""

from __future__ import annotations

import asyncio
import base64
import struct
import threading

import openai
import pytest

from inference.limits import Limits
from routing import snapshot
from tests.contract.gateway import Gateway
from tests.fakes.upstream import Answer, FakeUpstream, failure, garbage, html, in_band_error, rate_limited, redirect
from tests.inference import registry

ECHO = "echo: one two three four"
CHAT = [{"role": "user", "content": "one two three four"}]


@pytest.fixture
def upstream():
    with FakeUpstream(api_key=registry.UPSTREAM_KEY) as fake:
        yield fake


@pytest.fixture
def put(upstream):
    """The registry: one remote provider at the upstream, with whatever settings a test asks for."""

    def put(**more):
        remote = registry.remote(upstream.base_url, **more)
        snapshot.replace(
            registry.snapshot(
                registry.model(remote, "gpt-test", capabilities=frozenset({"chat", "vision"})),
                registry.model(remote, "org/embed-test", parameters={"upstream_model_id": "embed-test"}),
                keys=[
                    registry.key_view(),
                    registry.key_view("gw-00000000dead-" + "e" * 43, expires_at=1.0, key_id=8),
                    registry.key_view("gw-0000000read0-" + "e" * 43, scopes=["registry:read"], key_id=9),
                ],
            )
        )

    put()
    yield put
    snapshot.replace(None)


@pytest.fixture
def gateway(put):
    limits = Limits(keep_alive_seconds=0.1, watch_after_seconds=0.02)
    with Gateway(limits).serving() as serving:
        yield serving


@pytest.fixture
def client(gateway):
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=registry.CLIENT_KEY, timeout=60) as made:
        yield made


@pytest.fixture
async def async_client(gateway):
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=registry.CLIENT_KEY, timeout=60) as made:
        yield made


# What works --------------------------------------------------------------------------------------------------------


def test_chat(client, upstream) -> None:
    raw = client.chat.completions.with_raw_response.create(model="gpt-test", messages=CHAT, extra_body={"new": [1]})
    answer = raw.parse()
    assert answer.choices[0].message.content == ECHO
    assert answer.usage.total_tokens > 0
    assert raw.headers["x-gateway-route"] == "remote/gpt-test"
    assert answer._request_id == raw.headers["x-request-id"]
    [seen] = upstream.requests
    assert seen.json == {"model": "gpt-test", "messages": CHAT, "new": [1]}
    assert seen.headers["authorization"] == f"Bearer {registry.UPSTREAM_KEY}"
    assert registry.CLIENT_KEY not in str(seen.headers)


def test_a_stream_ends_with_usage_when_asked_for(client) -> None:
    stream = client.chat.completions.create(
        model="gpt-test", messages=CHAT, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == ECHO
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens > 0


def test_a_stream_without_include_usage_has_none_and_is_recorded_exactly(client, gateway, upstream) -> None:
    chunks = list(client.chat.completions.create(model="gpt-test", messages=CHAT, stream=True))
    assert all(chunk.choices for chunk in chunks)
    assert all(chunk.usage is None for chunk in chunks)
    [row] = gateway.wait_for_rows(1)
    assert row.estimated is False
    assert row.output_tokens == upstream.requests[0].output_tokens


def test_answers_that_tell_no_usage_are_recorded_as_estimates(client, gateway, upstream) -> None:
    said = {"role": "assistant", "content": "four" * 25}
    upstream.reply_with(json={"choices": [{"index": 0, "message": said, "finish_reason": "stop"}]})
    client.chat.completions.create(model="gpt-test", messages=CHAT)
    upstream.reply_with(json={"data": [{"index": 0, "embedding": [0.5]}]})
    client.embeddings.create(model="org/embed-test", input="four" * 25, encoding_format="float")
    chat, embedding = gateway.wait_for_rows(2)
    assert (chat.estimated, chat.input_tokens > 0, chat.output_tokens) == (True, True, 25)
    assert (embedding.estimated, embedding.input_tokens, embedding.output_tokens) == (True, 25, 0)


def test_tools(client, upstream) -> None:
    tool = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}}}
    answer = client.chat.completions.create(model="gpt-test", messages=CHAT, tools=[tool], tool_choice="auto")
    assert answer.choices[0].finish_reason == "tool_calls"
    assert answer.choices[0].message.tool_calls[0].function.name == "look_up"
    assert upstream.requests[0].json["tools"] == [tool]


def test_streamed_tools(client) -> None:
    tool = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}}}
    with client.chat.completions.stream(model="gpt-test", messages=CHAT, tools=[tool]) as stream:
        stream.until_done()
        final = stream.get_final_completion()
    assert final.choices[0].message.tool_calls[0].function.name == "look_up"


def test_response_format(client, upstream) -> None:
    wanted = {"type": "json_object"}
    answer = client.chat.completions.create(model="gpt-test", messages=CHAT, response_format=wanted)
    assert answer.choices[0].message.content.startswith("{")
    assert upstream.requests[0].json["response_format"] == wanted


def test_vision_parts_pass_unchanged(client, upstream) -> None:
    parts = [
        {"type": "text", "text": "what is this"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 200_000, "detail": "low"}},
    ]
    client.chat.completions.create(model="gpt-test", messages=[{"role": "user", "content": parts}])
    assert upstream.requests[0].json["messages"][0]["content"] == parts


def test_logprobs_and_several_choices(client) -> None:
    answer = client.chat.completions.create(model="gpt-test", messages=CHAT, n=2, logprobs=True)
    assert len(answer.choices) == 2
    assert answer.choices[0].logprobs.content


def test_completions(client) -> None:
    answer = client.completions.create(model="gpt-test", prompt="say this")
    assert answer.choices[0].text
    chunks = list(client.completions.create(model="gpt-test", prompt="say this", stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == answer.choices[0].text


def test_embeddings_in_base64_are_what_the_client_asks_for(client, upstream) -> None:
    answer = client.embeddings.create(model="org/embed-test", input=["a", "b"])
    assert upstream.requests[0].json["encoding_format"] == "base64"
    assert upstream.requests[0].json["model"] == "embed-test"
    assert len(answer.data) == 2
    assert all(isinstance(value, float) for value in answer.data[0].embedding)


def test_embeddings_as_floats_and_of_tokens(client) -> None:
    floats = client.embeddings.create(model="org/embed-test", input="a", encoding_format="float")
    packed = client.embeddings.with_raw_response.create(model="org/embed-test", input="a", encoding_format="base64")
    raw = base64.b64decode(packed.http_response.json()["data"][0]["embedding"])
    values = struct.unpack(f"<{len(raw) // 4}f", raw)
    assert values == pytest.approx(floats.data[0].embedding)
    assert client.embeddings.create(model="org/embed-test", input=[1, 2, 3]).data


def test_models(client) -> None:
    assert {model.id for model in client.models.list()} == {"gpt-test", "org/embed-test"}
    assert client.models.retrieve("org/embed-test").owned_by == "remote"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("no/such/model")


async def test_async(async_client) -> None:
    answer, streamed = await asyncio.gather(
        async_client.chat.completions.create(model="gpt-test", messages=CHAT),
        async_client.chat.completions.create(model="gpt-test", messages=CHAT, stream=True),
    )
    text = "".join([chunk.choices[0].delta.content or "" async for chunk in streamed if chunk.choices])
    assert text == answer.choices[0].message.content


async def test_a_hundred_at_once(async_client, gateway) -> None:
    calls = [
        async_client.chat.completions.create(model="gpt-test", messages=[{"role": "user", "content": f"number {n}"}])
        for n in range(100)
    ]
    answers = await asyncio.gather(*calls)
    assert [answer.choices[0].message.content for answer in answers] == [f"echo: number {n}" for n in range(100)]
    rows = gateway.wait_for_rows(100)
    assert len({row.request_id for row in rows}) == 100


# Errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "kind", "code"),
    [
        ("gw-unknown", openai.AuthenticationError, "invalid_api_key"),
        ("gw-00000000dead-" + "e" * 43, openai.AuthenticationError, "expired_api_key"),
        (registry.CLIENT_KEY[:-1] + "x", openai.AuthenticationError, "invalid_api_key"),
        ("gw-0000000read0-" + "e" * 43, openai.PermissionDeniedError, "insufficient_scope"),
    ],
)
def test_keys_that_do_not_fit(gateway, upstream, key, kind, code) -> None:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=key) as client, pytest.raises(kind) as caught:
        client.chat.completions.create(model="gpt-test", messages=CHAT)
    assert caught.value.code == code
    assert upstream.requests == []


@pytest.mark.parametrize("header", ["x-api-key", "api-key"])
def test_every_credential_header_is_checked_alike(gateway, header) -> None:
    def ask(key):
        with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="x", default_headers={header: key}) as client:
            return client.chat.completions.create(
                model="gpt-test", messages=CHAT, extra_headers={"Authorization": openai.Omit()}
            )

    assert ask(registry.CLIENT_KEY).choices
    with pytest.raises(openai.AuthenticationError):
        ask("gw-unknown")


def test_a_repeated_idempotency_key_is_one_call(client, upstream, redis_url) -> None:
    def ask(**more):
        headers = {"Idempotency-Key": "order-4711"}
        return client.chat.completions.with_raw_response.create(
            model="gpt-test", messages=CHAT, extra_headers=headers, **more
        )

    first, second = ask(), ask()
    assert first.parse() == second.parse()
    assert second.headers["x-gateway-idempotent-replay"] == "1"
    assert len(upstream.requests) == 1
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        ask(seed=1)
    assert caught.value.code == "idempotency_key_reused"


def error_of(client, **more):
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(**{"model": "gpt-test", "messages": CHAT, **more})
    return caught.value


def test_an_unknown_model(client) -> None:
    error = error_of(client, model="gpt-tset")
    assert isinstance(error, openai.NotFoundError)
    assert (error.code, error.param) == ("model_not_found", "model")
    assert "gpt-test" in error.message


def test_a_bad_request_names_the_field(client) -> None:
    error = error_of(client, messages="not a list")
    assert isinstance(error, openai.BadRequestError)
    assert error.param == "messages"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, openai.BadRequestError),
        (404, openai.NotFoundError),
        (409, openai.ConflictError),
        (422, openai.UnprocessableEntityError),
    ],
)
def test_an_upstream_s_rejection_arrives_untouched_and_is_not_repeated(client, upstream, status, kind) -> None:
    told = {"message": "no", "type": "invalid_request_error", "param": "messages", "code": "context_length_exceeded"}
    upstream.reply_with(status=status, json={"error": told}, times=None)
    error = error_of(client)
    assert isinstance(error, kind)
    assert (error.code, error.param, error.type) == ("context_length_exceeded", "messages", "invalid_request_error")
    assert len(upstream.requests) == 1


def test_a_bad_key_of_ours_is_not_the_caller_s_fault(client, upstream) -> None:
    upstream.reply_with(status=401, json={"error": {"message": f"bad key {registry.UPSTREAM_KEY}"}}, times=None)
    error = error_of(client)
    assert error.status_code == 502
    assert registry.UPSTREAM_KEY not in str(error.body)


def test_a_rate_limit_is_passed_on_with_its_wait_and_not_repeated(client, upstream) -> None:
    upstream.reply_with(rate_limited(retry_after=7), times=None)
    error = error_of(client)
    assert isinstance(error, openai.RateLimitError)
    assert error.response.headers["retry-after"] == "7"
    assert error.response.headers["retry-after-ms"] == "7000"
    assert len(upstream.requests) == 1


@pytest.mark.parametrize(
    "fault",
    [failure(500), failure(503), html(), garbage(), redirect("http://127.0.0.1:9/"), Answer(cut_after=20)],
    ids=["500", "503", "html", "garbage", "redirect", "cut"],
)
def test_a_failing_upstream_is_a_server_error_that_the_client_does_not_repeat(client, upstream, fault) -> None:
    upstream.reply_with(fault, times=None)
    error = error_of(client)
    assert error.status_code in (502, 503)
    assert error.code
    assert error.response.headers["x-should-retry"] == "false"
    assert len(upstream.requests) <= 2


def test_a_passing_failure_is_got_around_for_the_caller(client, upstream, gateway) -> None:
    upstream.script(failure(500), Answer())
    raw = client.chat.completions.with_raw_response.create(model="gpt-test", messages=CHAT)
    assert raw.headers["x-gateway-attempts"] == "2"
    [row] = gateway.wait_for_rows(1)
    assert (row.attempts, row.status) == (2, 200)


def test_an_unreachable_upstream(client, upstream) -> None:
    upstream.stop()
    error = error_of(client)
    assert (error.status_code, error.code) == (502, "upstream_unreachable")
    assert str(upstream.port) not in error.message


def test_a_silent_upstream_times_out_once(put, client, upstream) -> None:
    put(settings={"first_byte_timeout_seconds": 0.2}, fingerprint="impatient")
    upstream.reply_with(hang=True, times=None)
    error = error_of(client)
    assert (error.status_code, error.code) == (504, "upstream_timeout")
    assert upstream.wait_for_requests(1)
    assert len(upstream.requests) == 1


def test_another_provider_answers_when_the_first_fails(upstream, client) -> None:
    with FakeUpstream(api_key=registry.UPSTREAM_KEY) as second:
        first_view = registry.remote(upstream.base_url, "first")
        second_view = registry.remote(second.base_url, "second", priority=200)
        snapshot.replace(
            registry.snapshot(registry.model(first_view, "gpt-test"), registry.model(second_view, "gpt-test"))
        )
        upstream.reply_with(failure(503), times=None)
        raw = client.chat.completions.with_raw_response.create(model="gpt-test", messages=CHAT)
    assert (raw.headers["x-gateway-route"], raw.headers["x-gateway-fallback"]) == ("second/gpt-test", "1")
    assert (len(upstream.requests), len(second.requests)) == (1, 1)


# Streams that go wrong ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [Answer(cut_after=3), Answer(reset_after=3)], ids=["cut", "reset"])
def test_a_stream_cut_upstream_is_an_error_for_the_client(client, upstream, fault) -> None:
    upstream.reply_with(fault)
    stream = client.chat.completions.create(model="gpt-test", messages=CHAT, stream=True)
    with pytest.raises(openai.APIError) as caught:
        for _ in stream:
            pass
    assert caught.value.code == "upstream_broken"


def test_a_stream_that_stalls_is_an_error_for_the_client(put, client, upstream) -> None:
    put(settings={"idle_timeout_seconds": 0.2}, fingerprint="idle")
    upstream.reply_with(stall_after=3)
    with pytest.raises(openai.APIError) as caught:
        list(client.chat.completions.create(model="gpt-test", messages=CHAT, stream=True))
    assert caught.value.code == "upstream_timeout"


def test_an_error_that_the_upstream_streams_reaches_the_client_once(client, upstream) -> None:
    upstream.reply_with(in_band_error(), times=None)
    with pytest.raises(openai.APIError):
        list(client.chat.completions.create(model="gpt-test", messages=CHAT, stream=True))


def test_comments_before_the_first_token_do_not_disturb_the_client(client, upstream) -> None:
    upstream.reply_with(delay_seconds=0.4)
    chunks = list(client.chat.completions.create(model="gpt-test", messages=CHAT, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == ECHO


# Clients that leave ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("fault", [Answer(hang=True), Answer(stall_after=0)], ids=["before headers", "before a token"])
async def test_a_client_that_leaves_ends_the_upstream_s_work(gateway, async_client, upstream, stream, fault) -> None:
    upstream.reply_with(fault)
    call = asyncio.create_task(
        async_client.chat.completions.create(model="gpt-test", messages=CHAT, stream=stream, timeout=60)
    )
    assert await upstream.until_requests(1)
    await asyncio.sleep(0)
    call.cancel()
    assert await upstream.requests[0].until_left()
    rows = await asyncio.to_thread(gateway.wait_for_rows, 1)
    assert rows[0].status == 499


async def test_a_client_that_leaves_in_the_middle_ends_the_upstream_s_work(gateway, async_client, upstream) -> None:
    upstream.reply_with(stall_after=3)
    stream = await async_client.chat.completions.create(model="gpt-test", messages=CHAT, stream=True)
    await anext(aiter(stream))
    await stream.close()
    assert await upstream.requests[0].until_left()
    [row] = await asyncio.to_thread(gateway.wait_for_rows, 1)
    assert (row.error_code, row.estimated) == ("client_disconnected", True)


def test_a_client_that_times_out_ends_the_upstream_s_work(client, upstream) -> None:
    upstream.reply_with(hang=True, times=None)
    hasty = client.with_options(timeout=0.3, max_retries=0)
    while not upstream.requests:  # it may be over before the upstream is asked
        with pytest.raises(openai.APITimeoutError):
            hasty.chat.completions.create(model="gpt-test", messages=CHAT)
    assert upstream.requests[0].wait_until_left()


def test_other_requests_go_on_while_streams_are_held(client, upstream) -> None:
    upstream.script(*[Answer(stall_after=2)] * 20)
    streams = [client.chat.completions.create(model="gpt-test", messages=CHAT, stream=True) for _ in range(20)]
    assert upstream.wait_for_requests(20)
    assert client.chat.completions.create(model="gpt-test", messages=CHAT).choices
    for stream in streams:
        stream.close()
    assert all(request.wait_until_left() for request in upstream.requests[:20])


def test_a_stopping_gateway_ends_streams_with_an_error(put, upstream) -> None:
    with Gateway().serving() as gateway:
        client = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=registry.CLIENT_KEY, max_retries=0)
        upstream.reply_with(stall_after=2)
        stream = client.chat.completions.create(model="gpt-test", messages=CHAT, stream=True)
        next(iter(stream))
        failed: list[BaseException] = []

        def read_on() -> None:
            try:
                list(stream)
            except BaseException as error:
                failed.append(error)

        reader = threading.Thread(target=read_on)
        reader.start()
    reader.join(60)
    client.close()
    [error] = failed
    assert isinstance(error, openai.APIError)
    assert error.code == "gateway_stopping"
