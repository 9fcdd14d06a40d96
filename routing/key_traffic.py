"""What a client key asked lately. Who keeps the requests registers how to ask; without, nothing is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal

HOURS, DAYS, CALLS = 24, 14, 8


@dataclass(frozen=True, slots=True)
class Day:
    """Of UTC. `cost` is in USD and leaves other currencies out."""

    at: date
    requests: int
    failed: int
    cost: Decimal


@dataclass(frozen=True, slots=True)
class Call:
    """One request, as its trace has it."""

    request_id: str
    at: datetime
    asked: str
    served_by: str
    status: int
    error_code: str
    duration_ms: float
    cost: Decimal | None
    currency: str


@dataclass(frozen=True, slots=True)
class Traffic:
    """Of the last 24 hours, the running one included; `days` are the last fourteen, today last."""

    requests: int = 0
    failed: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    costs: Mapping[str, Decimal] = field(default_factory=dict)
    """By currency."""
    days: tuple[Day, ...] = ()


_figures: Callable[[int], Traffic] | None = None
_calls: Callable[[int], tuple[Call, ...]] | None = None


def read_with(figures: Callable[[int], Traffic], calls: Callable[[int], tuple[Call, ...]]) -> None:
    """At start-up, from above. Both are asked by the key's id."""
    global _figures, _calls
    _figures, _calls = figures, calls


def figures_of(key_id: int) -> Traffic | None:
    return _figures(key_id) if _figures is not None else None


def calls_of(key_id: int) -> tuple[Call, ...]:
    """The latest, newest first."""
    return _calls(key_id) if _calls is not None else ()
