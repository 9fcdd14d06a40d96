"""The tokens that a reply tells: its last usage object, found in the bytes without parsing what stands around it."""

from __future__ import annotations

import re

import msgspec

from inference.backends.base import Usage

_USAGE_TAIL = 2048
_USAGE_MEMBER = re.compile(rb'"usage"\s*:\s*(?=\{)')


def usage_tail(body: bytes) -> bytes | None:
    """The end of a reply from its last usage object on: short enough to keep, found without parsing."""
    position = body.rfind(b'"usage"')
    while position >= 0:
        if _USAGE_MEMBER.match(body, position):
            return body[position : position + _USAGE_TAIL]
        position = body.rfind(b'"usage"', 0, position)
    return None


class _InputDetails(msgspec.Struct):
    cached_tokens: int | None = 0


class _OutputDetails(msgspec.Struct):
    reasoning_tokens: int | None = 0


class _UsageObject(msgspec.Struct):
    """The usage member under the names of chat completions, and of the responses API."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    prompt_tokens_details: _InputDetails | None = None
    completion_tokens_details: _OutputDetails | None = None
    input_tokens_details: _InputDetails | None = None
    output_tokens_details: _OutputDetails | None = None


_usage_object = msgspec.json.Decoder(_UsageObject)


def read_usage(tail: bytes) -> Usage | None:
    """The usage object at the start of what `usage_tail` found."""
    begin = tail.find(b"{")
    end = _end_of_object(tail, begin)
    if end is None:
        return None
    try:
        told = _usage_object.decode(tail[begin:end])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    if (told.prompt_tokens, told.completion_tokens, told.input_tokens, told.output_tokens) == (None,) * 4:
        # Seconds of sound, or searches, are no tokens; who answers without any tells their sum alone.
        return None if told.total_tokens is None else Usage(_count(told.total_tokens))
    asked = told.prompt_tokens_details or told.input_tokens_details
    answered = told.completion_tokens_details or told.output_tokens_details
    given = _count(told.prompt_tokens if told.prompt_tokens is not None else told.input_tokens)
    written = _count(told.completion_tokens if told.completion_tokens is not None else told.output_tokens)
    return Usage(
        given,
        # Gemini and xAI leave what a model thought out of its answer's tokens, count it in the sum, and bill it as output.
        max(written, _count(told.total_tokens) - given),
        _count(asked.cached_tokens) if asked is not None else 0,
        _count(answered.reasoning_tokens) if answered is not None else 0,
    )


def _end_of_object(text: bytes, begin: int) -> int | None:
    """Usage objects hold numbers and objects of numbers, so brackets can be counted without looking for strings."""
    end = text.find(b"}", begin)
    while end >= 0:
        if text.count(b"{", begin, end) == text.count(b"}", begin, end) + 1:
            return end + 1
        end = text.find(b"}", end + 1)
    return None


def _count(told: int | None) -> int:
    return told if told is not None and 0 <= told < 2**31 else 0
