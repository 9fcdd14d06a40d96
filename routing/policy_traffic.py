"""What policies served lately. Who keeps the requests registers how to ask; without, nothing is known."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

HOURS = 24


@dataclass(frozen=True, slots=True)
class Traffic:
    """Of the last 24 hours. `rescued` were answered though an attempt had failed."""

    requests: int
    failed: int
    rescued: int


NONE = Traffic(0, 0, 0)

_ask: Callable[[Collection[str]], Mapping[str, Traffic]] | None = None


def read_with(ask: Callable[[Collection[str]], Mapping[str, Traffic]]) -> None:
    """At start-up, from above. `ask` gets names of policies and leaves out those that served nothing."""
    global _ask
    _ask = ask


def of(names: Collection[str]) -> Mapping[str, Traffic] | None:
    return _ask(names) if _ask is not None else None
