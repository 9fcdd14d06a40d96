from __future__ import annotations

import json
from typing import Any

import orjson
import pytest

from inference import shadow_texts
from inference.shadow_texts import Unreadable


def asked(path: str, body: Any) -> shadow_texts.Asked:
    return shadow_texts.asked(path, orjson.dumps(body))


def test_a_chat_is_asked_again_whole() -> None:
    body = {
        "model": "m",
        "messages": [{"role": "system", "content": "be short"}, {"role": "user", "content": "hi"}],
        "temperature": 0.5,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    request = asked("/v1/chat/completions", body)
    assert request.body == {name: body[name] for name in ("model", "messages", "temperature")}
    assert (request.operation, request.model) == ("chat", "m")
    assert request.text == "system: be short\nuser: hi"
    assert request.size == len(orjson.dumps(body))


def test_an_image_is_told_by_its_kind() -> None:
    content = [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": "data:…"}}]
    request = asked("/v1/chat/completions", {"model": "m", "messages": [{"role": "user", "content": content}]})
    assert request.text == "user: look [image_url]"


def test_a_text_completion_keeps_its_prompt() -> None:
    request = asked("/v1/completions", {"model": "m", "prompt": "once upon"})
    assert (request.operation, request.text) == ("completions", "once upon")


def test_a_request_of_the_source_systems_becomes_a_chat() -> None:
    told = {
        "prompt_content": "Hello",
        "config": {
            "model_identifier": "m",
            "provider_id": "p",
            "system_prompt": "be kind",
            "temperature": 0.1,
            "stop_sequences": ["x"],
            "timeout_seconds": 9,
        },
        "initial_context": {"conversation_history": [{"role": "ai", "content": "before"}], "session_id": "s"},
    }
    request = asked("/generate", told)
    assert request.provider_id == "p"
    assert request.body == {
        "model": "m",
        "temperature": 0.1,
        "stop": ["x"],
        "messages": [
            {"role": "system", "content": "be kind"},
            {"role": "assistant", "content": "before"},
            {"role": "user", "content": "Hello"},
        ],
    }


def test_a_request_of_the_backoffice_becomes_a_chat() -> None:
    request = asked("/api/llm/gateway/generate", {"prompt": "hi", "model": "m", "max_tokens": 7, "provider_id": None})
    assert request.body == {"model": "m", "max_tokens": 7, "messages": [{"role": "user", "content": "hi"}]}
    assert request.most_output_tokens == 7


@pytest.mark.parametrize(
    ("limits", "most"),
    [
        ({}, None),
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 9, "max_tokens": 5}, 9),
        ({"max_tokens": 5, "n": 3}, 5),
        ({"max_tokens": True}, None),
        ({"max_tokens": "many"}, None),
    ],
)
def test_the_bound_that_a_request_sets_itself(limits: dict[str, Any], most: int | None) -> None:
    assert asked("/v1/completions", {"model": "m", "prompt": "x", **limits}).most_output_tokens == most


@pytest.mark.parametrize(
    ("told", "choices"),
    [
        ({}, 1),
        ({"n": 3}, 3),
        ({"n": 2, "best_of": 5}, 5),
        ({"n": 0}, 1),
        ({"n": -4}, 1),
        ({"n": "9"}, 1),
        ({"n": True}, 1),
    ],
)
def test_the_choices_that_a_request_asks_for(told: dict[str, Any], choices: int) -> None:
    assert asked("/v1/completions", {"model": "m", "prompt": "x", **told}).choices == choices


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", b"not json"),
        ("/v1/chat/completions", b"[1]"),
        ("/v1/chat/completions", b'{"messages": []}'),
        ("/v1/chat/completions", b'{"model": 7}'),
        ("/generate", b'{"config": "m"}'),
        ("/v1/embeddings", b'{"model": "m", "input": "x"}'),
        ("/v1/chat/completions", b"[" * 100_000),
    ],
)
def test_what_cannot_be_copied_is_refused(path: str, body: bytes) -> None:
    with pytest.raises(Unreadable):
        shadow_texts.asked(path, body)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"choices": [{"message": {"content": "yes"}}]}, "yes"),
        ({"choices": [{"message": {"content": "a"}}, {"message": {"content": "b"}}]}, "a\nb"),
        ({"choices": [{"text": "and so"}]}, "and so"),
        ({"generated_content": "hm"}, "hm"),
        ({"content": "ok", "finish_reason": "stop"}, "ok"),
        (
            {
                "choices": [
                    {"message": {"content": None, "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}}
                ]
            },
            "f{}",
        ),
    ],
)
def test_the_text_of_a_whole_answer(body: dict[str, Any], text: str) -> None:
    assert shadow_texts.said(orjson.dumps(body), stream=False).text == text


def test_ollamas_own_answers_are_read_as_well() -> None:
    call = {"function": {"name": "f", "arguments": {"x": 1}}}
    whole = {"message": {"role": "assistant", "content": "hi", "tool_calls": [call]}, "done": True}
    assert shadow_texts.said(orjson.dumps(whole), stream=False).text == 'hif{"x": 1}'
    lines = [{"response": "a", "done": False}, {"response": "b", "done": False}, {"response": "", "done": True}]
    stream = b"".join(b"data: " + orjson.dumps(line) + b"\n\n" for line in lines)
    assert shadow_texts.said(stream, stream=True).text == "ab"


def test_the_text_of_a_stream_is_put_together() -> None:
    events = [{"choices": [{"index": 0, "delta": {"content": piece}}]} for piece in ("Hel", "lo")]
    events.append({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}})  # type: ignore[dict-item]
    raw = b": open\n\n" + b"".join(b"data: " + orjson.dumps(event) + b"\n\n" for event in events) + b"data: [DONE]\n\n"
    said = shadow_texts.said(raw, stream=True)
    assert (said.text, said.usage.input_tokens, said.usage.output_tokens) == ("Hello", 3, 2)
    assert not said.usage.estimated


def test_tokens_that_nobody_told_are_estimated() -> None:
    said = shadow_texts.said(orjson.dumps({"choices": [{"message": {"content": "x" * 40}}]}), stream=False)
    assert (said.usage.output_tokens, said.usage.estimated) == (10, True)


@pytest.mark.parametrize(
    ("raw", "stream"),
    [
        (b"<html>", False),
        (b'{"data": []}', False),
        (b'{"choices": [{"message": "text"}]}', False),
        (b"data: [DONE]\n\n", True),
        (b'data: {"error": {"message": "boom"}}\n\n', True),
    ],
)
def test_an_answer_without_text_is_unreadable(raw: bytes, stream: bool) -> None:
    with pytest.raises(Unreadable):
        shadow_texts.said(raw, stream=stream)


def test_similarity_goes_by_words_in_order() -> None:
    assert shadow_texts.similarity("the cat sat", "the cat sat") == 1.0
    assert shadow_texts.similarity("the cat sat", "the dog sat") == pytest.approx(0.6667)
    assert shadow_texts.similarity("the cat sat", "") == 0.0


def test_repetitive_texts_are_compared_by_a_beginning_short_enough() -> None:
    one, other = ("a " * 2000).split(), ("a b " * 1000).split()
    assert shadow_texts._work(one, other) > shadow_texts._MOST_WORK
    assert 0.4 < shadow_texts.similarity(" ".join(one), " ".join(other)) < 0.7


def test_what_is_kept_is_bounded_and_storable() -> None:
    kept = shadow_texts.cut("a\0b\ud800" + "x" * shadow_texts.LONGEST_TEXT * 2)
    assert len(kept) <= shadow_texts.LONGEST_TEXT
    assert kept.startswith("ab?")
    json.dumps(kept).encode()
