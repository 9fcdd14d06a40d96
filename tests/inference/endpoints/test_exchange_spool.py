"""What the spool knows of a request at each moment of its way: another process would book just that."""

from __future__ import annotations

import asyncio

import pytest

from inference.asgi import Application
from inference.kept_records import KeptRecords, row_of_begun
from inference.limits import Limits
from inference.recording import Recorder, Row
from inference.spool import LOG_BYTES, Spool, _begun_in
from tests.inference import registry
from tests.inference.door import Client, Door, chat_body
from tests.inference.scripted import DONE, EVENT, FINISH, far, streaming, whole

CHAT = "/v1/chat/completions"
TOLD = b'data: {"choices":[],"usage":{"prompt_tokens":70,"completion_tokens":5}}\n\n'


@pytest.fixture
async def kept(tmp_path):
    """A door whose recorder has a spool in `tmp_path`."""
    opened = Door()
    recorder = Recorder(
        opened.rows.extend, opened.metrics, kept=KeptRecords(Spool(tmp_path, most_bytes=4 * LOG_BYTES)), queue_rows=3
    )
    opened.app = Application(Limits(), recorder, counters=opened.metrics)
    async with opened:
        yield opened


def under_way(tmp_path) -> list[Row]:
    return [row_of_begun(one) for path in tmp_path.glob("*/slots-*") for one in _begun_in(path.read_bytes())]


def serving(serve, behave) -> None:
    serve(registry.model(far("only", behave)[1], "m"))


async def test_a_stream_under_way_is_known_with_what_the_client_has_seen(serve, kept, tmp_path) -> None:
    go = asyncio.Event()
    serving(serve, streaming(EVENT, EVENT, go, FINISH + DONE))
    client, task = kept.open(CHAT, chat_body(model="m", stream=True))
    while len(client.answer.pieces) < 2:
        await client.until_said()
    (row,) = under_way(tmp_path)
    assert (row.model_id, row.stream, row.output_tokens, row.estimated) == ("m", True, 2, True)
    assert row.client_key_prefix == registry.key_view().identity.prefix
    go.set()
    await task
    assert not under_way(tmp_path)


@pytest.mark.parametrize("stream", [True, False])
async def test_usage_is_known_before_the_client_has_the_last_bytes(serve, kept, tmp_path, stream, monkeypatch) -> None:
    serving(serve, streaming(EVENT, TOLD + DONE) if stream else whole())
    at_the_last: list[tuple[int, bool, bool]] = []
    send = Client.send

    async def watched(client: Client, message) -> None:
        body = message.get("body", b"")
        if b"[DONE]" in body or (body and not stream):
            at_the_last.extend((row.status, row.estimated, row.output_tokens > 0) for row in under_way(tmp_path))
        await send(client, message)

    monkeypatch.setattr(Client, "send", watched)
    await kept.chat(model="m", stream=stream)
    assert at_the_last == [(200, False, True)]


async def test_a_client_that_leaves_is_booked_and_its_slot_is_free(serve, kept, tmp_path) -> None:
    serving(serve, streaming(EVENT, EVENT, asyncio.Event()))
    client, task = kept.open(CHAT, chat_body(model="m", stream=True))
    while len(client.answer.pieces) < 2:
        await client.until_said()
    client.leave()
    await task
    assert not under_way(tmp_path)
    await kept.app.shutdown()
    assert [(row.status, row.output_tokens, row.estimated) for row in kept.rows] == [(499, 2, True)]


async def test_without_room_for_records_requests_are_refused_and_told_when_to_come_back(serve, kept) -> None:
    serving(serve, whole())
    recorder = kept.app._recorder
    recorder._queue_rows = 0
    recorder._kept.spool.full = True
    answer = await kept.chat(model="m")
    assert (answer.status, answer.error["code"], answer.headers["retry-after"]) == (503, "ledger_unavailable", "5")
    assert recorder.refused == 1
    recorder._queue_rows = 3
    assert (await kept.chat(model="m")).status == 200
    await kept.app.shutdown()
    assert [row.status for row in kept.rows] == [200]
