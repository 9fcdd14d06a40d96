"""What is known above of how providers serve, for the provider list: said at start-up by the layer that knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class BreakerState:
    """Of a provider of which some model is not served: a few words, a tone of `cells.pill`, since when, and when it turns into
    what `turns` says."""

    words: str
    tone: str
    why: str
    back_at: datetime | None = None
    since: datetime | None = None
    turns: str = ""


@dataclass(frozen=True, slots=True)
class RestingKey:
    """A key that is set aside until a moment, by the code of the last refusal."""

    until: datetime
    code: str
    times: int


Read = Callable[[Sequence[str]], Mapping[str, BreakerState]]
Reset = Callable[[str], Sequence[str]]
Resting = Callable[[], Mapping[int, RestingKey]]


class CannotReset(Exception):
    """The sentence says why."""


def _knows_nothing(provider_ids: Sequence[str]) -> Mapping[str, BreakerState]:
    return {}


def _has_nothing(provider_id: str) -> Sequence[str]:
    return ()


def _nobody_rests() -> Mapping[int, RestingKey]:
    return {}


_read: Read = _knows_nothing
_reset: Reset = _has_nothing
_resting: Resting = _nobody_rests


def register(read: Read, reset: Reset, resting: Resting = _nobody_rests) -> None:
    """`read` tells of those providers that are not all well; `reset` closes a provider's breakers and returns which, and may
    raise `CannotReset`; `resting` tells of keys that are set aside, by primary key."""
    global _read, _reset, _resting
    _read, _reset, _resting = read, reset, resting


def resting() -> Mapping[int, RestingKey]:
    return _resting()


def read(provider_ids: Sequence[str]) -> Mapping[str, BreakerState]:
    return _read(provider_ids)


def reset(provider_id: str) -> Sequence[str]:
    return _reset(provider_id)
