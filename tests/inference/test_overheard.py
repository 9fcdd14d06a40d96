"""What is understood of bytes that only pass."""

from __future__ import annotations

import pytest

from inference.backends.base import Usage
from inference.overheard import LONGEST_REQUEST, Overheard, asked, error_code, usage


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b'{"model":"gpt-x","messages":[]}', ("gpt-x", False)),
        (b'{"stream":true,"model":"a/b:c"}', ("a/b:c", True)),
        (b'{"prompt_content":"x","config":{"model_identifier":"m","temperature":1}}', ("m", False)),
        (b'{"model":5}', ("", False)),
        (b'{"config":[]}', ("", False)),
        (b'["model"]', ("", False)),
        (b"\xff\xfe", ("", False)),
        (b"", ("", False)),
        (b"[" * 100_000, ("", False)),
    ],
)
def test_a_request_tells_its_model_or_nothing(body, told):
    assert asked(body) == told


def test_a_very_large_request_is_not_looked_at():
    assert asked(b'{"model":"m","x":"' + b"a" * LONGEST_REQUEST + b'"}') == ("", False)


def test_openai_s_usage_is_left_to_the_recorder():
    body = b'{"choices":[],"usage":{"prompt_tokens":1}}'
    assert usage(body, whole=True) == b'"usage":{"prompt_tokens":1}}'


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b'{"content":"{","prompt_tokens":3,"completion_tokens":4,"total_tokens":7}', Usage(3, 4)),
        (b'{"input_tokens":3,"output_tokens":null}', Usage(3, 0)),
        (b'{"prompt_tokens":-3,"completion_tokens":99999999999}', Usage(0, 0)),
        (b'{"prompt_tokens":"3"}', None),
        (b'{"content":"nothing"}', None),
        (b"<html>", None),
    ],
)
def test_counts_at_the_top_of_an_answer_are_understood(body, told):
    assert usage(body, whole=True) == told


def test_a_part_of_an_answer_is_not_taken_for_the_whole():
    assert usage(b'{"prompt_tokens":3}', whole=False) is None


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"error":{"code":"rate_limited"}}', "rate_limited"),
        (b'{"error":"text","error_details":{"code":"RESOURCE_ERROR"}}', "RESOURCE_ERROR"),
        (b'{"code":"not.found"}', "not.found"),
        (b'{"error":{"code":"sk-secret with words"}}', ""),
        (b'{"error":{"code":404}}', ""),
        (b"not json", ""),
    ],
)
def test_a_refusal_tells_its_code_when_it_is_a_word(body, code):
    assert error_code(body) == code


def test_a_small_reply_is_kept_whole():
    heard = Overheard(stream=False)
    for piece in (b"one", b"two"):
        heard.hear(piece)
    assert (heard.text(), heard.cut) == (b"onetwo", False)


@pytest.mark.parametrize("stream", [True, False])
def test_of_a_long_reply_only_the_end_is_kept(stream):
    heard = Overheard(stream=stream)
    for _ in range(1000):
        heard.hear(b"x" * 999 + b"\n")
    heard.hear(b"the end")
    assert heard.cut
    assert heard.text().endswith(b"the end")
    assert len(heard.text()) < 20_000


def test_the_events_of_a_stream_are_counted():
    heard = Overheard(stream=True)
    heard.hear(b"data: a\n\ndata: b\n\n")
    assert heard.events == 2
