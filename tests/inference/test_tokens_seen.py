from __future__ import annotations

import json

import pytest

from inference.backends.base import Usage
from inference.tokens_seen import Seen, in_media, in_question, in_whole
from inference.wire.openai import CHAT, parse
from routing.estimates import TOKENS_PER_IMAGE


def event(text: str, name: str = "content") -> bytes:
    delta = {"text": text} if name == "text" else {"delta": {name: text}}
    return b"data: " + json.dumps({"id": "chatcmpl-123", "choices": [{"index": 0, **delta}]}).encode() + b"\n\n"


def seen(*pieces: bytes) -> int:
    counted = Seen()
    for piece in pieces:
        counted.hear(piece)
    return counted.tokens


def test_a_question_has_the_tokens_of_its_text_and_some_for_each_picture() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 400_000}}
    asked = {"model": "m", "messages": [{"role": "user", "content": [{"type": "text", "text": "four" * 100}, picture]}]}
    assert 1_100 < in_question(parse(CHAT, json.dumps(asked).encode())) < 1_200


def test_a_token_in_an_event_is_one() -> None:
    assert seen(event(""), *[event(" word")] * 10) == 11


def test_several_events_may_come_at_once() -> None:
    assert seen(event("a") + event("b"), event("c") + event("d")) == 4


@pytest.mark.parametrize("name", ["content", "reasoning_content", "text"])
def test_long_texts_in_an_event_are_many_tokens(name) -> None:
    assert seen(*[event("four" * 25, name)] * 4) == 100


def test_comments_are_no_tokens() -> None:
    assert seen(b": processing\n\n", b": processing\n\n" + event("a"), b": ping\n\n") == 1


def test_lines_may_end_in_either_way() -> None:
    assert seen((event("a") + event("b")).replace(b"\n", b"\r\n")) == 2


def test_what_is_no_json_counts_by_its_events() -> None:
    assert seen(b"data: hello\n\n", b'data: {"choices": 7}\n\n') == 2


def test_letters_that_json_writes_longer_are_not_taken_for_many_tokens() -> None:
    assert seen(*[event("\u65e5")] * 8) == 8


@pytest.mark.parametrize(
    ("operation", "answer", "tokens"),
    [
        ("chat", {"choices": [{"message": {"content": "four" * 25}}]}, 25),
        ("chat", {"choices": [{"message": {"content": None, "tool_calls": [{"arguments": "x" * 61}]}}]}, 20),
        ("completions", {"choices": [{"text": "four"}, {"text": "five"}]}, 2),
        ("embeddings", {"data": [{"embedding": [0.25] * 100}]}, 0),
    ],
)
def test_a_whole_answer_that_does_not_tell_is_counted_by_its_texts(operation, answer, tokens) -> None:
    assert in_whole(7, operation, json.dumps(answer).encode()) == Usage(7, tokens, estimated=True)


def test_what_was_passed_through_untold_is_estimated_by_what_it_is() -> None:
    assert in_media(5, "speech", bytes(4000)).counts[:2] == (5, 0)
    assert in_media(0, "transcriptions", b"x" * 40).counts[:2] == (0, 10)
    assert in_media(3, "images", b"A" * 100_000, choices=2).counts[:2] == (3, 2 * TOKENS_PER_IMAGE)
    assert in_media(3, "rerank", b"{}").estimated
