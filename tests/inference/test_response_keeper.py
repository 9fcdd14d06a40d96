"""What the data plane hears when a response cannot be kept."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Any

import pytest
from django.db import OperationalError

from inference import kept_responses, response_keeper
from inference.errors import LimitReached
from inference.response_keeper import ResponseKeeper
from inference.response_keeping import Turn
from inference.response_models import KeptResponse
from inference.response_room import NoRoom


def full(*_: Any, **__: Any) -> None:
    raise NoRoom


async def test_without_room_an_answer_is_told_unkept_and_one_in_the_background_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kept_responses, "keep", full)
    monkeypatch.setattr(response_keeper, "queued", full)
    keeper = ResponseKeeper()
    asked: Any = None
    assert await keeper.keep(Turn("gw-owner", "m", "", [], {"id": "resp_1"})) is False
    with pytest.raises(LimitReached) as refused:
        await keeper.queue(asked, asked, asked, {})
    assert refused.value.retry_after
    await keeper.aclose()


async def test_what_its_client_did_not_wait_for_is_kept_when_its_turn_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on, kept = threading.Event(), threading.Event(), []

    def keep(turn: Turn) -> None:
        kept.append(turn.response["id"])
        begun.set()
        assert go_on.wait(60)

    monkeypatch.setattr(kept_responses, "keep", keep)
    keeper = ResponseKeeper()
    first = asyncio.create_task(keeper.keep(Turn("gw-owner", "m", "", [], {"id": "resp_1"})))
    assert await asyncio.to_thread(begun.wait, 60)
    second = asyncio.create_task(keeper.keep(Turn("gw-owner", "m", "", [], {"id": "resp_2"})))
    await asyncio.sleep(0)  # it stands in line
    second.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await second
    go_on.set()
    await first
    await keeper.aclose()
    assert kept == ["resp_1", "resp_2"]


@pytest.mark.django_db(transaction=True)
def test_a_response_of_whose_commit_nobody_heard_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    keep, tries = kept_responses.keep, []

    def unheard(turn: Turn) -> None:
        tries.append(turn)
        keep(turn)
        raise OperationalError("the connection broke")

    async def kept() -> bool:
        keeper = ResponseKeeper()
        try:
            return await keeper.keep(Turn("gw-owner", "m", "", [], {"id": "resp_1", "output": []}))
        finally:
            await keeper.aclose()

    monkeypatch.setattr(kept_responses, "keep", unheard)
    assert asyncio.run(kept())
    assert (len(tries), KeptResponse.objects.count()) == (2, 1)
