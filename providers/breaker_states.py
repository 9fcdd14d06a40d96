"""What is known above of how providers serve, for the provider list: said at start-up by the layer that knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class BreakerState:
    """Of a provider of which some model is not served: a few words, a tone of `cells.pill`, and when that ends."""

    words: str
    tone: str
    why: str
    back_at: datetime | None = None


Read = Callable[[Sequence[str]], Mapping[str, BreakerState]]
Reset = Callable[[str], Sequence[str]]


class CannotReset(Exception):
    """The sentence says why."""


def _knows_nothing(provider_ids: Sequence[str]) -> Mapping[str, BreakerState]:
    return {}


def _has_nothing(provider_id: str) -> Sequence[str]:
    return ()


_read: Read = _knows_nothing
_reset: Reset = _has_nothing


def register(read: Read, reset: Reset) -> None:
    """`read` tells of those providers that are not all well; `reset` closes a provider's breakers and returns which, and may
    raise `CannotReset`."""
    global _read, _reset
    _read, _reset = read, reset


def read(provider_ids: Sequence[str]) -> Mapping[str, BreakerState]:
    return _read(provider_ids)


def reset(provider_id: str) -> Sequence[str]:
    return _reset(provider_id)
