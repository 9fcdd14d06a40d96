"""How many tokens of an answer have passed, counted as it passes, for answers whose provider will not tell. Pure.

Most providers send each token in an event of its own. Some send many in one, which shows by the length of their texts: those are
counted as four bytes to a token.
"""

from __future__ import annotations

from typing import Any

import msgspec

BYTES_PER_TOKEN = 4
MOST_BYTES_OF_ONE_TOKEN = 16
"""On average, as JSON writes it: longer texts are several tokens."""
_ODD_BYTES = 256
"""By which the first and the last events of a stream, which have more members than others, may be longer together."""


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    text: str | None = None


class _Event(msgspec.Struct):
    choices: list[_Choice] = []


_read = msgspec.json.Decoder(_Event).decode


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
    delta = choice.delta
    said = (choice.text, delta.content, delta.reasoning_content) if delta is not None else (choice.text,)
    return "".join(filter(None, said))
