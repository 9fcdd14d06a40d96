"""Long answers part by part, from whichever server asks: each takes its own colour of iterator, and would read the other one whole
into memory first."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from itertools import islice
from typing import TypeVar

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest

Part = TypeVar("Part", str, bytes)
_LINES_AT_ONCE = 500


def parts_for(request: HttpRequest, parts: Iterable[Part]) -> Iterable[Part] | AsyncIterator[Part]:
    """None of the parts is empty."""
    return _aside(iter(parts)) if isinstance(request, ASGIRequest) else parts


def together(lines: Iterable[str]) -> Iterator[str]:
    """Some lines to a part: to change threads for each would cost more than the line."""
    waiting = iter(lines)
    while some := "".join(islice(waiting, _LINES_AT_ONCE)):
        yield some


async def _aside(parts: Iterator[Part]) -> AsyncIterator[Part]:
    """Each part is read in the thread that the database belongs to."""
    while part := await sync_to_async(next)(parts, None):
        yield part
