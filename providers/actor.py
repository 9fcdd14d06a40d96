"""Who is acting. Set at the edge (admin, REST, command, task), read where a change is written down."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace


def _yes() -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Actor:
    """`name` is `user:ada`, `key:gw-3f2c…`, `command:migrate` or `system`; `reason` is what the person gave as one."""

    name: str = "system"
    request_id: str = ""
    reason: str = ""
    may_handle_secrets: Callable[[], bool] = _yes
    """Whether the stored secrets may be read, so may also be sent elsewhere. Commands and tasks may; see `providers.holding`."""
    reads_machine: Callable[[], bool] | None = None

    def may_read_machine(self) -> bool:
        """Whether references may name any variable and file of this machine that is not the gateway's own; see
        `providers.allowed_references`. Unless it is said, who may handle secrets may."""
        return (self.reads_machine or self.may_handle_secrets)()


_SYSTEM = Actor()
_current: ContextVar[Actor | None] = ContextVar("acting_actor", default=None)


def current() -> Actor:
    return _current.get() or _SYSTEM


@contextmanager
def acting_as(
    name: str, *, request_id: str = "", reason: str = "", may_handle_secrets: Callable[[], bool] = _yes
) -> Iterator[Actor]:
    actor = Actor(name, request_id or current().request_id, reason, may_handle_secrets)
    token = _current.set(actor)
    try:
        yield actor
    finally:
        _current.reset(token)


def become(name: str, *, may_handle_secrets: bool, may_read_machine: bool = False) -> None:
    """Name the actor once authentication knows it; holds until the enclosing `acting_as` ends."""
    told = current()
    _current.set(Actor(name, told.request_id, told.reason, lambda: may_handle_secrets, lambda: may_read_machine))


@contextmanager
def giving_reason(reason: str) -> Iterator[Actor]:
    """Whoever acts now, with what they gave as their reason."""
    actor = replace(current(), reason=reason)
    token = _current.set(actor)
    try:
        yield actor
    finally:
        _current.reset(token)
