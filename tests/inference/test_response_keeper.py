"""What the data plane hears when a response cannot be kept."""

from __future__ import annotations

from typing import Any

import pytest

from inference import kept_responses, response_keeper
from inference.errors import LimitReached
from inference.response_keeper import ResponseKeeper
from inference.response_keeping import Turn
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
