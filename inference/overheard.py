"""What a request and a reply that are only passed on tell about themselves: the model, the tokens, the error's code.

Both protocols of the parallel run are understood, OpenAI's and the source systems' own. Whatever cannot be read is left out: the
bytes go where they go all the same.
"""

from __future__ import annotations

import re
from collections import deque
from typing import Any

import msgspec

from inference.backends.base import Usage
from inference.told_usage import usage_tail

LONGEST_REQUEST = 4 * 1024 * 1024
"""A larger body is passed on without being looked at."""

_WHOLE_BYTES = 256 * 1024
_TAIL_BYTES = 16 * 1024
_CODE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_LARGEST_COUNT = 2**31 - 1


class _Config(msgspec.Struct):
    model_identifier: Any = None


class Asked(msgspec.Struct):
    model: Any = None
    stream: Any = False
    config: _Config | None = None


class _Answered(msgspec.Struct):
    """The source systems count at the top of their answer, and put errors under either name."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    error: Any = None
    error_details: Any = None
    code: Any = None


_asked = msgspec.json.Decoder(Asked)
_answered = msgspec.json.Decoder(_Answered)


def asked(body: bytes) -> tuple[str, bool]:
    """The model that a request names, or nothing, and whether it wants a stream."""
    if not body or len(body) > LONGEST_REQUEST:
        return "", False
    try:
        told = _asked.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return "", False
    model = told.model or (told.config.model_identifier if told.config is not None else None)
    return model if isinstance(model, str) else "", told.stream is True


class Overheard:
    """Keeps the end of a reply as it passes: all of a small one, of a stream its last events."""

    __slots__ = ("_kept", "_most", "_size", "_stream", "cut", "events")

    def __init__(self, *, stream: bool) -> None:
        self._stream = stream
        self._kept: deque[bytes] = deque()
        self._size = 0
        self._most = _TAIL_BYTES if stream else _WHOLE_BYTES
        self.cut = False
        self.events = 0

    def hear(self, piece: bytes) -> None:
        self._kept.append(piece)
        self._size += len(piece)
        if self._stream:
            self.events += piece.count(b"\n\n")
        if self._size > self._most:
            self.cut = True
            self._most = _TAIL_BYTES
            while self._size - len(self._kept[0]) >= self._most:
                self._size -= len(self._kept.popleft())

    @property
    def last(self) -> bytes:
        return self._kept[-1] if self._kept else b""

    def text(self) -> bytes:
        return b"".join(self._kept)


def usage(text: bytes, *, whole: bool) -> Usage | bytes | None:
    """The tokens that a reply tells, or the bytes that hold them for the recorder to read."""
    tail = usage_tail(text)
    if tail is not None or not whole:
        return tail
    told = _read(text)
    if told is None:
        return None
    read, written = _first(told.prompt_tokens, told.input_tokens), _first(told.completion_tokens, told.output_tokens)
    return None if read is None and written is None else Usage(_count(read), _count(written))


def error_code(text: bytes) -> str:
    """The code that a refusal carries, when it is a word."""
    told = _read(text)
    if told is None:
        return ""
    for place in (told.error, told.error_details, {"code": told.code}):
        code = place.get("code") if isinstance(place, dict) else None
        if isinstance(code, str) and _CODE.fullmatch(code):
            return code
    return ""


def _read(text: bytes) -> _Answered | None:
    try:
        return _answered.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _first(*told: int | None) -> int | None:
    return next((count for count in told if count is not None), None)


def _count(told: int | None) -> int:
    return told if told is not None and 0 <= told <= _LARGEST_COUNT else 0
