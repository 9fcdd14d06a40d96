from __future__ import annotations

import json

import pytest

from inference.tokens_seen import Seen


def event(text: str, name: str = "content") -> bytes:
    delta = {"text": text} if name == "text" else {"delta": {name: text}}
    return b"data: " + json.dumps({"id": "chatcmpl-123", "choices": [{"index": 0, **delta}]}).encode() + b"\n\n"


def seen(*pieces: bytes) -> int:
    counted = Seen()
    for piece in pieces:
        counted.hear(piece)
    return counted.tokens


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
