"""Who is acting. Set at the edge (admin, REST, command, task), read where a change is written down."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Actor:
    """`name` is `user:ada`, `key:gw-3f2c…`, `command:migrate` or `system`; `reason` is what the person gave as one."""

    name: str = "system"
    request_id: str = ""
    reason: str = ""


_SYSTEM = Actor()
_current: ContextVar[Actor | None] = ContextVar("acting_actor", default=None)


def current() -> Actor:
    return _current.get() or _SYSTEM


@contextmanager
def acting_as(name: str, *, request_id: str = "", reason: str = "") -> Iterator[Actor]:
    actor = Actor(name=name, request_id=request_id or current().request_id, reason=reason)
    token = _current.set(actor)
    try:
        yield actor
    finally:
        _current.reset(token)


def become(name: str) -> None:
    """Name the actor once authentication knows it; holds until the enclosing `acting_as` ends."""
    _current.set(Actor(name=name, request_id=current().request_id, reason=current().reason))


@contextmanager
def giving_reason(reason: str) -> Iterator[Actor]:
    """Whoever acts now, with what they gave as their reason."""
    with acting_as(current().name, reason=reason) as actor:
        yield actor
