"""How an answer ends."""

from __future__ import annotations

import pytest

from inference.engine.answers import Answer
from inference.engine.protocol import Done
from inference.engine.requests import GenerateRequest
from inference.engine.text import AnswerText
from inference.engine.tool_calls import HERMES, CallReader

CALL = '<tool_call>{"name": "find", "arguments": {}}'


@pytest.mark.parametrize(("parallel", "reason"), [(False, "tool_calls"), (True, "length")], ids=["one", "several"])
def test_the_one_call_that_ends_with_the_last_token_is_whole(parallel: bool, reason: str) -> None:
    answer = Answer(
        id=1,
        request=GenerateRequest(prompt="a"),
        tokens=[1, 2],
        prompt_length=1,
        limit=1,
        text=AnswerText(),
        calls=CallReader(HERMES, ["find"], lambda: "c1", parallel=parallel),
    )
    done = answer.ended("length", CALL)[-1]
    assert isinstance(done, Done)
    assert done.finish_reason == reason
