"""Server-sent events as the OpenAI API uses them: frame, end and judge a stream of bytes. No I/O.

Only CR and LF end a line (https://html.spec.whatwg.org/multipage/server-sent-events.html); text splitters that also honour
U+2028 or U+0085 lose text, so everything here works on bytes.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

KEEP_ALIVE = b": keep-alive\n\n"
DONE = b"data: [DONE]\n\n"
CONTENT_TYPE = b"text/event-stream; charset=utf-8"

_EVENT_END = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_DONE_LINE = re.compile(rb"(?:^|[\r\n])data: ?\[DONE\]")
_LINE_OF_STREAM = re.compile(rb"(?:\xef\xbb\xbf)?[\r\n]*(?::|data|event|id|retry)")
_COMMENTS = re.compile(rb"(?::[^\r\n]*[\r\n]+)+")
_FINISH_REASON = re.compile(rb'"finish_reason"\s*:\s*"')
_IN_BAND_ERROR_LINE = re.compile(rb'(?:^|[\r\n])data: ?\{\s*"error"\s*:\s*[{"]')
_IN_BAND_ERROR = re.compile(rb'data: ?\{\s*"error"\s*:\s*[{"]')


def event(payload: Any) -> bytes:
    return b"data: " + orjson.dumps(payload) + b"\n\n"


def event_of(payload: bytes) -> bytes:
    """An event of a payload that is one line of JSON already."""
    return b"data: " + payload + b"\n\n"


def named(payload: dict[str, Any]) -> bytes:
    """An event whose name is the payload's own `type`, as Anthropic's and the Responses API's are."""
    return b"event: " + str(payload["type"]).encode() + b"\ndata: " + orjson.dumps(payload) + b"\n\n"


def split(stream: bytes) -> list[bytes]:
    """The events of a stream, blank lines taken off; the last one is not complete yet, and may be empty."""
    return _EVENT_END.split(stream)


def data_of(event: bytes) -> bytes:
    """The data lines of an event, joined as the specification says; empty for a comment."""
    lines = event.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    return b"\n".join(line[5:].removeprefix(b" ") for line in lines if line.startswith(b"data:"))


def object_in(data: bytes) -> dict[str, Any] | None:
    """None for data that is no JSON object, which is nothing to tell: no client could have used it either."""
    try:
        told = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    return told if isinstance(told, dict) else None


def at_event_boundary(sent: bytes) -> bool:
    """Whether something of our own may follow what was sent."""
    return not sent or sent.endswith((b"\n\n", b"\r\n\r\n", b"\r\r"))


def is_done(tail: bytes) -> bool:
    """Whether the stream said its last word. The marker counts at a line's start only: a model may write it too."""
    return _DONE_LINE.search(tail) is not None


def is_complete(tail: bytes) -> bool:
    """Whether a stream that ended without an error was whole: some upstreams finish and leave `[DONE]` out."""
    return is_done(tail) or _FINISH_REASON.search(tail) is not None


def begins_as_stream(first: bytes) -> bool:
    """Whether the first line is one of an event stream: text under status 200 is no answer."""
    return _LINE_OF_STREAM.match(first) is not None


def after_comments(events: bytes) -> bytes:
    """Without the comments at their beginning, by which upstreams say no more than that they are there."""
    found = _COMMENTS.match(events)
    return events if found is None else events[found.end() :]


def begins_with_error(first: bytes) -> bool:
    """Whether an upstream answers 200 and says in its first event that it failed."""
    return _IN_BAND_ERROR.match(first) is not None


def holds_error(tail: bytes) -> bool:
    """Whether one of the last events says that the upstream failed."""
    return b'"error"' in tail and _IN_BAND_ERROR_LINE.search(tail) is not None
