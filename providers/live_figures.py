"""How providers serve, for the pages of the registry: figures that the layer which records traffic reads, registered at start-up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

STRIP_CELLS = 48


@dataclass(frozen=True, slots=True)
class Cell:
    """Half an hour of tries at one provider. `tone` is good, warn, bad or empty for none."""

    at: datetime
    tries: int = 0
    failed: int = 0
    tone: str = ""


@dataclass(frozen=True, slots=True)
class Figures:
    """Error rates are 0 to 1 of the tries, None without any; `p95_ms` of the last five minutes, or None where few came."""

    tries_now: int = 0
    error_rate_now: float | None = None
    p95_now: float | None = None
    tries: int = 0
    error_rate: float | None = None
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    """Of 24 hours, as is what stands between them and `tries`."""
    strip: tuple[Cell, ...] = ()


@dataclass(frozen=True, slots=True)
class Use:
    """What a model was asked for in 24 hours. `cost` by currency."""

    requests: int = 0
    failed: int = 0
    tokens: int = 0
    cost: Mapping[str, Any] | None = None


NOTHING, UNUSED = Figures(), Use()

Read = Callable[[Sequence[str]], Mapping[str, Figures]]
ReadUse = Callable[[Sequence[str]], Mapping[tuple[str, str], Use]]
Recent = Callable[[Any, str, int], Sequence[Mapping[str, Any]]]


def _knows_nothing(provider_ids: Sequence[str]) -> Mapping[Any, Any]:
    return {}


def _saw_nothing(user: Any, provider_id: str, most: int) -> Sequence[Mapping[str, Any]]:
    return ()


_read: Read = _knows_nothing
_read_use: ReadUse = _knows_nothing
_recent: Recent = _saw_nothing


def register(read: Read, use: ReadUse, recent: Recent) -> None:
    """`read` by provider id; `use` by provider and model id, of those providers; `recent` the last requests that asked a provider
    and that a user may see, newest first: mappings of at, link, model_id, status, tone, took_ms, tries, error, client."""
    global _read, _read_use, _recent
    _read, _read_use, _recent = read, use, recent


def of(provider_ids: Sequence[str]) -> Mapping[str, Figures]:
    return _read(provider_ids)


def use_of(provider_ids: Sequence[str]) -> Mapping[tuple[str, str], Use]:
    return _read_use(provider_ids)


def recent(user: Any, provider_id: str, most: int = 20) -> Sequence[Mapping[str, Any]]:
    return _recent(user, provider_id, most)
