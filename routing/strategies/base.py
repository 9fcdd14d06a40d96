"""What a strategy is given, and what it is. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from routing.types import Asked, Candidate

__all__ = ["Asked", "Strategy"]


@dataclass(frozen=True, slots=True)
class Strategy:
    """`order` gets the models that may serve, in the order of the configuration, and returns them best first: all of them, each
    once, with `score` and `parts` set where it counts points."""

    name: str
    label: str
    help: str
    order: Callable[[Sequence[Candidate], Asked], list[Candidate]]
    varies: bool = False
    """Whether two requests alike may be served in different orders: by chance, session or load."""
