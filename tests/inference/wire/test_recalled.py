"""What some vendors want back of earlier turns, out of the protocols of other clients."""

from __future__ import annotations

from typing import Any

import msgspec
import orjson
import pytest

from inference.wire import ollama, recalled, responses
from inference.wire.anthropic_questions import question
from inference.wire.dialects import Responses

LOOK = {"name": "look", "arguments": "{}"}
UNSIGNED = {"google": {"thought_signature": "skip_thought_signature_validator"}}


def of_messages() -> tuple[bytes, tuple[str, ...]]:
    use = {"type": "tool_use", "id": "c1", "name": "look", "input": {}}
    thought = {"type": "thinking", "thinking": "Hm.", "signature": ""}
    told = [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": "Look"},
        {"role": "assistant", "content": [thought, use]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "blue"}]},
        {"role": "assistant", "content": [{**use, "id": "c2"}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c2", "content": "red"}]},
    ]
    body, native = question(orjson.dumps({"model": "m", "max_tokens": 9, "messages": told}))
    return body, native.thoughts


def of_responses() -> tuple[bytes, tuple[str, ...]]:
    thought = {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]}
    call = {"type": "function_call", "call_id": "c1", **LOOK}
    output = {"type": "function_call_output", "output": "blue", "call_id": "c1"}
    told: list[dict[str, Any]] = [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": "Look"},
        *(thought, call, output),
        *({**call, "call_id": "c2"}, {**output, "call_id": "c2"}),
    ]
    dialect = Responses("req_1")
    dialect.asked = responses.read(orjson.dumps({"model": "m", "input": told}))
    body = dialect.question(b"")
    assert dialect.native is not None
    return body, dialect.native.thoughts


def of_ollama() -> tuple[bytes, tuple[str, ...]]:
    calls = [{"function": {"name": "look", "arguments": {}}}]
    told = [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": "Look"},
        {"role": "assistant", "content": "", "thinking": "Hm.", "tool_calls": calls},
        {"role": "tool", "content": "blue"},
        {"role": "assistant", "content": "", "tool_calls": calls},
        {"role": "tool", "content": "red"},
    ]
    asked = ollama.chat(orjson.dumps({"model": "m", "messages": told}))
    return asked.body, asked.native.thoughts


@pytest.mark.parametrize("asked", [of_messages, of_responses, of_ollama], ids=lambda asked: asked.__name__)
def test_thoughts_come_back_beside_the_calls_that_they_led_to(asked: Any) -> None:
    body, thoughts = asked()
    assert b"reasoning_content" not in body
    messages = msgspec.Raw(orjson.dumps(orjson.loads(body)["messages"]))
    said = msgspec.json.decode(recalled.with_thoughts(messages, thoughts))
    answers = [one for one in said if one["role"] == "assistant"]
    assert [one.get("reasoning_content") for one in answers] == [None, "Hm.", ""]


def test_the_first_of_calls_made_at_once_bears_the_word_for_an_unknown_signature() -> None:
    calls = [{"id": name, "type": "function", "function": LOOK} for name in ("a", "b")]
    said = [{"role": "user", "content": "x"}, {"role": "assistant", "content": None, "tool_calls": calls}]
    messages = msgspec.Raw(orjson.dumps(said))
    signed = msgspec.json.decode(recalled.with_signatures(messages, "models/gemini-3-pro-preview"))
    assert [call.get("extra_content") for call in signed[1]["tool_calls"]] == [UNSIGNED, None]
    assert recalled.with_signatures(messages, "gemini-2.5-flash") == messages


@pytest.mark.parametrize(
    ("kind", "host", "thoughts", "signatures"),
    [
        ("deepseek", "proxy.example", True, False),
        ("openai_compatible", "api.moonshot.ai", True, False),
        ("gemini", "proxy.example", False, True),
        ("openai_compatible", "europe-west1-aiplatform.googleapis.com", False, True),
        ("openai_compatible", "notdeepseek.com", False, False),
        ("groq", "api.groq.com", False, False),
    ],
    ids=["DeepSeek", "Moonshot", "Gemini", "Vertex", "a like name", "another"],
)
def test_vendors_are_known_by_their_type_or_host(kind: str, host: str, thoughts: bool, signatures: bool) -> None:
    assert recalled.wants_thoughts(kind, host) is thoughts
    assert recalled.wants_signatures(kind, host) is signatures


def test_nobody_speaks_between_a_tool_and_a_model_that_must_answer_it() -> None:
    tool = {"role": "tool", "tool_call_id": "c", "content": "blue"}
    shown = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]}
    asked = [{"role": "user", "content": "x"}, tool, {"role": "user", "content": "So?"}, tool, tool, shown]
    said = msgspec.json.decode(recalled.with_tools_answered(msgspec.Raw(orjson.dumps(asked))))
    assert [one["role"] for one in said] == ["user", "tool", "tool", "tool", "assistant", "user"]
    assert said[1]["content"] == "blue\n\nSo?"
    assert said[-1] == shown


@pytest.mark.parametrize(
    ("model", "answers"),
    [
        ("devstral-2512", True),
        ("mistralai/Mistral-Small-4", True),
        ("open-mixtral-8x22b", True),
        ("gpt-5", False),
        ("administral", False),
    ],
)
def test_mistrals_models_are_known_by_their_names(model: str, answers: bool) -> None:
    assert recalled.answers_tools(model) is answers
