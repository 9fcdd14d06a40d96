"""What a strategy is given, and what it is. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from routing.types import Asked, Candidate

__all__ = ["Asked", "Parts", "Strategy", "by", "shown"]

Key = Callable[[Candidate, Asked], Any]
Parts = tuple[tuple[str, float], ...]

CONDITIONS = "conditions"
LOAD = "load"


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
    key: Key | None = None
    """What `order` sorts by, lowest first, when a candidate's place depends on nothing but itself, what is preferred, the least
    context and the conditions of its own route. Thousands of models are then ranked once for many requests."""
    looks_at: str = ""
    """What of the moment the key depends on: `conditions` (how routes fare), `load` (calls under way) or nothing."""
    full_score: float | None = None
    """The score that leaves no doubt, where points say how sure a choice is."""


def by(
    key: Key,
    parts: Callable[[Candidate, Asked], Parts],
    score: Callable[[Candidate, Asked], float] | None = None,
) -> Callable[[Sequence[Candidate], Asked], list[Candidate]]:
    """An `order` that sorts by `key` and shows what the place came from."""

    def order(candidates: Sequence[Candidate], asked: Asked) -> list[Candidate]:
        return [
            shown(one, parts(one, asked), None if score is None else score(one, asked))
            for one in sorted(candidates, key=lambda candidate: key(candidate, asked))
        ]

    return order


def shown(one: Candidate, parts: Parts, score: float | None = None) -> Candidate:
    """The candidate with what its place came from. Written out: `dataclasses.replace` takes four times as long."""
    return Candidate(
        one.model, one.via, one.role, one.weight, one.order, one.group, one.estimate, score, parts, one.needs_permit
    )
