"""How many tokens a question has and how many of its answer have passed, for answers whose provider will not tell. Pure.

Most providers send each token in an event of its own. Some send many in one, which shows by the length of their texts: those are
counted as four bytes to a token.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec

from inference.backends.base import Usage
from providers.capabilities import TASK_OF_OPERATION
from routing.estimates import TOKENS_PER_IMAGE

if TYPE_CHECKING:
    from inference.wire.openai import ParsedRequest

BYTES_PER_TOKEN = 4
MOST_BYTES_OF_ONE_TOKEN = 16
"""On average, as JSON writes it: longer texts are several tokens."""
_ODD_BYTES = 256
"""By which the first and the last events of a stream, which have more members than others, may be longer together."""


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None


class _Message(_Delta):
    tool_calls: msgspec.Raw = msgspec.Raw(b"")


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    message: _Message | None = None
    text: str | None = None


class _Event(msgspec.Struct):
    choices: list[_Choice] = []


_read = msgspec.json.Decoder(_Event).decode


def in_question(request: ParsedRequest) -> int:
    """Of what the model reads; pictures are some tokens each, however many bytes they are, and recordings none that we could
    tell."""
    return request.prompt_bytes // BYTES_PER_TOKEN + pictures_in(request) * TOKENS_PER_IMAGE


def pictures_in(request: ParsedRequest) -> int:
    """Those among a chat's messages, or the files of a form that has pictures changed."""
    if request.form is not None and TASK_OF_OPERATION.get(request.operation.name) == "image_generation":
        return len(request.form.files())
    return request.images


def in_whole(question_tokens: int, operation: str, answer: bytes) -> Usage:
    """What a whole answer used that does not say so: its texts are four bytes to a token, vectors none."""
    return Usage(question_tokens, 0 if operation == "embeddings" else _in_answer(answer), estimated=True)


def in_media(question_tokens: int, operation: str, answer: bytes, choices: int = 1) -> Usage:
    """Of what was passed through without its tokens being told: transcripts are texts, each picture is some tokens."""
    if operation in ("transcriptions", "translations"):
        return Usage(question_tokens, max(1, math.ceil(len(answer) / BYTES_PER_TOKEN)), estimated=True)
    drawn = TASK_OF_OPERATION.get(operation) == "image_generation"
    return Usage(question_tokens, choices * TOKENS_PER_IMAGE if drawn else 0, estimated=True)


def _in_answer(answer: bytes) -> int:
    try:
        choices = _read(answer).choices
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return math.ceil(len(answer) / BYTES_PER_TOKEN)
    size = sum(len(_text_of(choice).encode("utf-8", "replace")) for choice in choices)
    size += sum(len(memoryview(choice.message.tool_calls)) for choice in choices if choice.message is not None)
    return math.ceil(size / BYTES_PER_TOKEN)


class Seen:
    """Of one stream. Pieces hold whole events."""

    __slots__ = ("_bytes", "_frame", "events")

    def __init__(self) -> None:
        self.events = 0
        self._bytes = 0
        self._frame = 0
        """Bytes of an event that are not its text; 0 as long as no text has come."""

    def hear(self, piece: bytes) -> int:
        """The tokens so far, those of `piece` included."""
        # No line of JSON begins so, and comments that keep a connection alive are not counted.
        events = piece.count(b"\ndata:")
        if piece.startswith(b"data:"):
            events += 1
        self.events += events
        if not self._frame and events:
            self._frame = _frame_of(piece)
        commented = piece.startswith(b":") or b"\n:" in piece
        self._bytes += events * self._frame if commented else len(piece)
        return self.tokens

    @property
    def tokens(self) -> int:
        text = self._bytes - self.events * self._frame if self._frame else 0
        usual = self.events * MOST_BYTES_OF_ONE_TOKEN + _ODD_BYTES
        return text // BYTES_PER_TOKEN if text > usual else self.events


def _frame_of(piece: bytes) -> int:
    begin = piece.find(b"data:")
    end = piece.find(b"\n", begin)
    event = piece[begin : end if end >= 0 else None]
    try:
        choices = _read(event[5:]).choices
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return 0
    text = "".join(map(_text_of, choices))
    return len(event) + 2 - len(msgspec.json.encode(text)) + 2 if text else 0


def _text_of(choice: Any) -> str:
    delta = choice.delta or choice.message
    said = (choice.text, delta.content, delta.reasoning_content) if delta is not None else (choice.text,)
    return "".join(filter(None, said))
