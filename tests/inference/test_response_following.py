"""The events of a response in the background, out of its job's log: the same for everybody who listens, whenever they come."""

from __future__ import annotations

import uuid
from itertools import count
from typing import Any

import orjson
import pytest

from inference import events, response_following
from inference.response_following import Standing
from inference.wire import responses
from inference.wire import responses_objects as objects

ASKED = responses.read(b'{"model":"m","input":"x","background":true}')
CHUNKS = [{"choices": [{"index": 0, "delta": {"content": text}}]} for text in ("Hel", "lo")]


class Row:
    """A response that stands as a test says."""

    def __init__(self, fence: int = 1) -> None:
        self.job_id = uuid.uuid4()
        self.fence = fence
        self.response = {**objects.begun(ASKED, "resp_7", 100, kept=True), "status": "in_progress"}

    async def standing(self) -> Standing:
        return Standing(ASKED, self.response, self.job_id, self.fence)

    async def log(self, redis_url: str, fence: int, chunks: list[Any]) -> None:
        events.note(redis_url, self.job_id, "running" if fence == 1 else "restarted", fence)
        log = events.Log(redis_url, self.job_id, fence)
        await log.append("chunk", [orjson.dumps(chunk) for chunk in chunks])
        await log.aclose()

    def end(self, redis_url: str, status: str) -> None:
        self.response = {**self.response, "status": status}
        events.note(redis_url, self.job_id, "over", self.fence)

    async def told(self, redis_url: str, after: int = -1) -> list[dict[str, Any]]:
        said = b"".join([piece async for piece in response_following.follow(self.standing, redis_url, after)])
        return [orjson.loads(line[6:]) for line in said.split(b"\n") if line.startswith(b"data: ")]


async def test_the_rest_is_told_to_who_comes_back_with_the_same_numbers(redis_url: str) -> None:
    row = Row()
    await row.log(redis_url, 1, CHUNKS)
    row.end(redis_url, "completed")
    whole = await row.told(redis_url)
    assert [event["sequence_number"] for event in whole] == list(range(len(whole)))
    assert [event["type"] for event in whole[:3]] == ["response.created", "response.queued", "response.in_progress"]
    assert [event["delta"] for event in whole if event["type"] == "response.output_text.delta"] == ["Hel", "lo"]
    assert whole[-1]["response"] == row.response
    assert await row.told(redis_url, after=4) == whole[5:]


async def test_of_a_run_that_was_lost_nothing_is_told_to_who_comes_later(redis_url: str) -> None:
    row = Row(fence=2)
    await row.log(redis_url, 1, CHUNKS[:1])
    await row.log(redis_url, 2, CHUNKS)
    row.end(redis_url, "completed")
    told = await row.told(redis_url)
    assert [event["delta"] for event in told if event["type"] == "response.output_text.delta"] == ["Hel", "lo"]


async def test_who_heard_of_a_run_that_was_lost_is_told_so(redis_url: str) -> None:
    row = Row()
    await row.log(redis_url, 1, CHUNKS[:1])
    await row.log(redis_url, 2, CHUNKS)
    told = await row.told(redis_url)
    assert (told[-1]["type"], told[-1]["code"]) == ("error", "response_restarted")


async def test_an_upstreams_own_events_are_told_under_our_id(redis_url: str) -> None:
    row = Row()
    own = {"id": "resp_up", "status": "in_progress", "output": []}
    item = {"type": "response.output_item.done", "sequence_number": 9, "output_index": 0, "item": {"id": "msg_up"}}
    said = [{"type": f"response.{word}", "response": own} for word in ("created", "in_progress")]
    await row.log(redis_url, 1, [*said, item, {"type": "response.completed", "response": own}])
    row.end(redis_url, "completed")
    told = await row.told(redis_url)
    kinds = ["created", "queued", "in_progress", "output_item.done", "completed"]
    assert [event["type"] for event in told] == [f"response.{kind}" for kind in kinds]
    assert {event["response"]["id"] for event in told if "response" in event} == {"resp_7"}


async def test_what_came_while_its_end_was_looked_up_is_told_first(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "POLL_SECONDS", 0.01)
    row, looks = Row(), count(1)
    standing = row.standing

    async def standing_as_it_ends() -> Standing:
        if next(looks) == 2:
            await row.log(redis_url, 1, CHUNKS)
            row.end(redis_url, "completed")
        return await standing()

    monkeypatch.setattr(row, "standing", standing_as_it_ends)
    told = await row.told(redis_url)
    assert [event["delta"] for event in told if event["type"] == "response.output_text.delta"] == ["Hel", "lo"]
    assert told[-1]["type"] == "response.completed"
