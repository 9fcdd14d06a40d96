from __future__ import annotations

import asyncio
from typing import Any

import pytest

from inference import errors
from inference.limits import Limits
from tests.inference import registry
from tests.inference.door import Client, Door, chat_body
from tests.inference.scripted import DONE, EVENT, FINISH, USAGE, far, in_turn, never, raising, streaming, whole

CHAT = "/v1/chat/completions"


@pytest.fixture
async def impatient(serve):
    """Watches at once and comments after a twentieth of a second."""
    async with Door(Limits(watch_after_seconds=0.005, keep_alive_seconds=0.05)) as opened:
        yield opened


def one(serve, behave):
    only, view = far("only", behave)
    serve(registry.model(view, "m"))
    return only


async def rows_of(door: Door):
    await door.app.shutdown()
    return door.rows


async def test_a_stream_is_relayed_byte_for_byte(serve, door) -> None:
    odd = b': hello\n\ndata: {"choices":[{"delta":{"content":"\\u2028 [DONE] \xe2\x80\xa8"}}],"new":1}\r\n\r\n'
    one(serve, streaming(odd, EVENT, FINISH, DONE))
    answer = await door.chat(model="m", stream=True)
    assert answer.body == odd + EVENT + FINISH + DONE
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert "content-length" not in answer.headers


@pytest.mark.parametrize(("encoding", "status"), [("gzip", 400), ("Identity", 200)])
async def test_a_body_that_is_encoded_is_refused_by_its_encoding(serve, door, encoding: str, status: int) -> None:
    serve(registry.model(registry.provider()))
    answer = await door.call(CHAT, chat_body(), headers={"content-encoding": encoding})
    assert answer.status == status
    assert status == 200 or encoding in answer.error["message"]


async def test_each_read_of_the_upstream_is_sent_on_as_it_comes(serve, door) -> None:
    go = asyncio.Event()
    one(serve, streaming(EVENT, go, FINISH + DONE))
    client, task = door.open(CHAT, chat_body(model="m", stream=True))
    while EVENT not in client.answer.pieces:
        await client.until_said()
    go.set()
    await task
    assert client.answer.body == EVENT + FINISH + DONE


async def test_a_stream_cut_by_the_upstream_ends_with_an_error_event_and_without_done(serve, door) -> None:
    one(serve, streaming(EVENT, EVENT, errors.UpstreamBroken("The provider's answer was cut.")))
    answer = await door.chat(model="m", stream=True)
    assert answer.ended
    assert answer.events[-1]["error"]["message"] == "The provider's answer was cut."
    assert b"[DONE]" not in answer.body
    [row] = await rows_of(door)
    assert (row.error_code, row.estimated, row.output_tokens) == ("upstream_broken", True, 2)


async def test_a_stream_that_just_stops_is_an_error_too(serve, door) -> None:
    one(serve, streaming(EVENT, EVENT))
    answer = await door.chat(model="m", stream=True)
    assert answer.events[-1]["error"]["code"] == "upstream_broken"


async def test_an_error_that_the_upstream_streams_is_told_once_and_recorded(serve, door) -> None:
    error = b'data: {"error":{"message":"died","type":"x","param":null,"code":null}}\n\n'
    one(serve, streaming(EVENT, error))
    answer = await door.chat(model="m", stream=True)
    assert answer.body == EVENT + error
    [row] = await rows_of(door)
    assert row.error_code == "upstream_error"


async def test_strangers_leave_no_rows(door) -> None:
    await door.chat("x", model="m")
    await door.call(CHAT, chat_body(), key="gw-unknown")
    assert [row.error_code for row in await rows_of(door)] == ["model_not_found"]


async def test_a_finished_stream_without_done_is_whole(serve, door) -> None:
    one(serve, streaming(EVENT, FINISH))
    answer = await door.chat(model="m", stream=True)
    assert answer.body == EVENT + FINISH


async def test_an_error_event_never_lands_inside_an_event(serve, door) -> None:
    one(serve, streaming(EVENT, EVENT[:20], errors.UpstreamBroken("cut")))
    answer = await door.chat(model="m", stream=True)
    assert answer.body.startswith(EVENT + EVENT[:20] + b'\n\ndata: {"error"')


async def test_usage_of_a_stream_is_read_from_its_last_events(serve, door) -> None:
    one(serve, streaming(EVENT, FINISH, USAGE[:30], USAGE[30:] + DONE))
    await door.chat(model="m", stream=True)
    [row] = await rows_of(door)
    assert (row.input_tokens, row.output_tokens, row.estimated, row.stream) == (11, 2, False, True)
    assert row.first_byte_ms is not None


async def test_usage_of_a_whole_reply_is_recorded_with_its_cost(serve, door) -> None:
    one(serve, whole())
    await door.chat(model="m")
    [row] = await rows_of(door)
    assert (row.input_tokens, row.output_tokens) == (5, 7)
    assert str(row.cost) == "0.000019"


async def test_upstream_headers_are_relayed_without_the_ones_that_are_ours(serve, door) -> None:
    headers = ((b"x-ratelimit-limit-requests", b"60"), (b"x-request-id", b"theirs"), (b"set-cookie", b"a=b"))
    one(serve, whole(headers=headers))
    answer = await door.chat(model="m")
    assert answer.headers["x-ratelimit-limit-requests"] == "60"
    assert answer.headers["x-request-id"].startswith("req_")
    assert "set-cookie" not in answer.headers


async def test_a_silent_upstream_s_stream_is_kept_alive_by_comments(serve, impatient) -> None:
    go = asyncio.Event()

    async def late(call):
        await go.wait()
        return await streaming(EVENT, FINISH, DONE)(call)

    one(serve, late)
    client, task = impatient.open(CHAT, chat_body(model="m", stream=True))
    while client.answer.body.count(b": keep-alive\n\n") < 2:
        await client.until_said()
    go.set()
    await task
    body = client.answer.body
    assert body.replace(b": keep-alive\n\n", b"") == EVENT + FINISH + DONE
    assert client.answer.status == 200


async def test_a_failure_after_a_comment_is_an_event(serve, impatient) -> None:
    go = asyncio.Event()

    async def late(call):
        await go.wait()
        raise errors.UpstreamTimeout("too late")

    one(serve, late)
    client, task = impatient.open(CHAT, chat_body(model="m", stream=True))
    while b": keep-alive" not in client.answer.body:
        await client.until_said()
    go.set()
    await task
    assert client.answer.events[-1]["error"]["code"] == "upstream_timeout"


async def test_a_whole_reply_is_never_commented(serve, impatient) -> None:
    go = asyncio.Event()

    async def late(call):
        await go.wait()
        return await whole()(call)

    only = one(serve, late)
    client, task = impatient.open(CHAT, chat_body(model="m"))
    await only.asked.wait()
    await asyncio.sleep(0.12)
    assert client.answer.status == 0
    go.set()
    await task
    assert client.answer.status == 200


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_before_the_reply_ends_the_upstream_s_work(serve, impatient, stream) -> None:
    only = one(serve, never)
    client, task = impatient.open(CHAT, chat_body(model="m", stream=stream))
    await only.asked.wait()
    client.leave()
    await asyncio.wait_for(only.cancelled.wait(), 60)
    await task
    assert client.answer.status == 0
    [row] = await rows_of(impatient)
    assert (row.status, row.error_code) == (499, "client_disconnected")


async def test_a_client_that_leaves_before_the_first_token_ends_the_upstream_s_work(serve, impatient) -> None:
    ended = asyncio.Event()
    only = one(serve, streaming(asyncio.Event(), EVENT, ended=ended))
    client, task = impatient.open(CHAT, chat_body(model="m", stream=True))
    await only.asked.wait()
    client.leave()
    await asyncio.wait_for(ended.wait(), 60)
    await task


async def test_a_client_that_leaves_in_the_middle_ends_the_upstream_s_work_and_is_charged_what_passed(
    serve, impatient
) -> None:
    ended = asyncio.Event()
    one(serve, streaming(EVENT, EVENT, EVENT, asyncio.Event(), ended=ended))
    client, task = impatient.open(CHAT, chat_body(model="m", stream=True))
    while client.answer.body.count(EVENT) < 3:
        await client.until_said()
    client.leave()
    await asyncio.wait_for(ended.wait(), 60)
    await task
    [row] = await rows_of(impatient)
    assert (row.status, row.output_tokens, row.estimated) == (499, 3, True)
    assert row.input_tokens > 0


async def test_a_client_that_leaves_while_it_sends_is_recorded(serve, impatient) -> None:
    one(serve, whole())
    client, task = impatient.open(CHAT, None, pieces=[b'{"model"'])
    client._pieces = []
    client.leave()
    await task
    assert client.answer.status in (0, 400)


async def test_nothing_is_left_in_flight(serve, impatient) -> None:
    one(serve, streaming(EVENT, FINISH, DONE))
    for _ in range(5):
        await impatient.chat(model="m", stream=True)
    assert impatient.app.inflight == 0


async def test_a_reply_that_takes_too_long_is_504(serve) -> None:
    only = one(serve, never)
    async with Door(Limits(watch_after_seconds=0.005, reply_seconds=0.05)) as door:
        answer = await door.chat(model="m")
    assert (answer.status, answer.error["code"]) == (504, "upstream_timeout")
    assert only.cancelled.is_set()
    assert answer.headers["x-should-retry"] == "false"


async def test_a_body_that_never_comes_is_408(serve) -> None:
    one(serve, whole())
    async with Door(Limits(watch_after_seconds=0.005, body_seconds=0.05, keep_alive_seconds=0.1)) as door:
        client, task = door.open(CHAT, None, pieces=[b"{", b"}"])
        client._pieces = client._pieces[:0]
        await asyncio.wait_for(task, 60)
    assert client.answer.status == 408


async def test_a_stopping_gateway_ends_a_stream_with_an_error_event(serve, door) -> None:
    one(serve, streaming(EVENT, asyncio.Event()))
    client, task = door.open(CHAT, chat_body(model="m", stream=True))
    while EVENT not in client.answer.pieces:
        await client.until_said()
    task.cancel()
    await task
    assert client.answer.events[-1]["error"]["code"] == "gateway_stopping"


async def test_an_answer_that_its_client_has_not_taken_when_the_gateway_stops_is_counted(
    serve, door, monkeypatch: pytest.MonkeyPatch
) -> None:
    one(serve, whole())
    being_told = asyncio.Event()

    async def slowly(_: Client, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.body":
            being_told.set()
            await asyncio.Event().wait()

    monkeypatch.setattr(Client, "send", slowly)
    _, task = door.open(CHAT, chat_body(model="m"))
    await asyncio.wait_for(being_told.wait(), 60)
    task.cancel()
    await task
    [row] = await rows_of(door)
    assert (row.error_code, row.input_tokens, row.output_tokens) == ("gateway_stopping", 5, 7)


async def test_a_backend_s_bug_is_a_500_that_says_nothing_of_it(serve, door, caplog) -> None:
    async def buggy(call):
        raise RuntimeError("secret inner detail")

    one(serve, buggy)
    answer = await door.chat(model="m")
    assert (answer.status, answer.error["code"]) == (500, "internal_error")
    assert b"secret inner detail" not in answer.body
    assert "secret inner detail" in caplog.text


async def test_text_that_is_not_utf8_is_the_caller_s_mistake(door) -> None:
    body = b'{"model":"fake-chat","messages":[{"role":"user","content":"\xff\xfe"}]}'
    answer = await door.call(CHAT, body)
    assert (answer.status, answer.error["code"]) == (400, "invalid_request")


async def test_a_log_line_holds_neither_content_nor_keys(door, caplog) -> None:
    caplog.set_level("INFO")
    await door.chat("/fail 500 the secret plan", model="fake-chat")
    assert "status=502" in caplog.text
    assert "secret plan" not in caplog.text
    assert registry.CLIENT_KEY not in caplog.text


PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def test_a_callers_span_is_the_parent_of_ours_and_ours_of_the_upstreams(serve, door) -> None:
    only = one(serve, whole())
    answer = await door.call(CHAT, chat_body(model="m"), headers={"traceparent": PARENT})
    [row] = await rows_of(door)
    ours = f"00-0af7651916cd43dd8448eb211c80319c-{row.request_id[-16:]}-01"
    assert answer.headers["traceparent"] == only.calls[0].traceparent.decode() == ours
    assert (row.trace_id, row.parent_span_id) == ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")


async def test_a_refused_request_tells_the_span_as_well(door) -> None:
    answer = await door.call(CHAT, chat_body(), key=None, headers={"traceparent": PARENT})
    assert (answer.status, answer.headers["x-trace-id"]) == (401, "0af7651916cd43dd8448eb211c80319c")
    assert answer.headers["traceparent"].startswith("00-0af7651916cd43dd8448eb211c80319c-")


async def test_without_a_callers_span_nothing_of_it_goes_anywhere(serve, door) -> None:
    only = one(serve, whole())
    answer = await door.chat(model="m")
    [row] = await rows_of(door)
    assert "traceparent" not in answer.headers
    assert only.calls[0].traceparent == b""
    assert (row.trace_id, row.parent_span_id) == (row.request_id, "")


async def test_a_row_tells_the_callers_trace_tags_session_and_address(serve, door) -> None:
    only = one(serve, whole())
    body = chat_body(model="m", session_id="s-1", metadata={"tags": ["nightly"], "job": "7"})
    await door.call(CHAT, body, headers={"x-trace-id": "order-7", "x-gateway-tags": "batch"}, client=("192.0.2.7", 1))
    [row] = await rows_of(door)
    assert (row.trace_id, row.tags, row.session_id, row.address) == ("order-7", ",batch,nightly,", "s-1", "192.0.2.7")
    assert only.calls[0].field("metadata") == {"job": "7"}


async def test_a_tag_that_no_column_could_hold_is_refused_by_name(door) -> None:
    answer = await door.call(CHAT, chat_body(), headers={"x-gateway-tags": "x" * 65})
    assert (answer.status, answer.error["param"]) == (400, "x-gateway-tags")


async def test_a_row_tells_a_fallback_and_no_mere_second_try(serve, door) -> None:
    broken = raising(errors.UpstreamFailed("died", retryable=True))
    _, first = far("first", in_turn(broken, whole(), broken, broken), priority=1)
    _, second = far("second", whole(), priority=2)
    policy = {"targets": ["m"], "retries": {"attempts": 1, "delay_seconds": 0.001}}
    serve(registry.model(first, "m"), registry.model(second, "m"), documents={"p": policy})
    retried = await door.chat(model="p")
    fell_back = await door.chat(model="p")
    rows = await rows_of(door)
    assert [(row.provider_id, row.attempts, row.fallback) for row in rows] == [("first", 2, False), ("second", 3, True)]
    assert [one.headers["x-gateway-fallback"] for one in (retried, fell_back)] == ["0", "1"]
