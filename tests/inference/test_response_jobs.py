"""What a worker asks of a response that is made in the background."""

from __future__ import annotations

import orjson

from inference import response_jobs
from inference.models import KeptResponse
from inference.wire import openai, responses
from providers.secrets import Secret

SAID = [
    {"role": "user", "content": "What is the weather?"},
    {"type": "reasoning", "summary": [{"type": "summary_text", "text": "I look it up."}]},
    {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "call_1", "output": "rain"},
]


def test_the_thoughts_before_calls_go_along_for_models_that_want_them() -> None:
    asked = responses.read(orjson.dumps({"model": "m", "input": SAID, "background": True}), needs_input=True)
    at_once = openai.parse(openai.CHAT, responses.chat_body(asked).body)
    row = KeptResponse(owner="gw-owner", question=Secret(response_jobs.question_of(asked, at_once)))
    native = response_jobs.parsed(row).native
    assert native is not None
    assert native.thoughts == ("I look it up.",)
