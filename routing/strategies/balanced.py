"""Performance and cheapness together, three to two."""

from __future__ import annotations

from routing.strategies.base import CONDITIONS, Asked, Parts, Strategy, by
from routing.strategies.points import best_first, cheapness, performance_of, registry
from routing.types import Candidate


def score(candidate: Candidate, asked: Asked) -> float:
    return 0.6 * performance_of(candidate, asked) + 0.4 * cheapness(candidate.model)


key = best_first(score)


def parts(candidate: Candidate, asked: Asked) -> Parts:
    model = candidate.model
    return (
        ("performance", performance_of(candidate, asked)),
        ("cheapness", cheapness(model)),
        ("registry", registry(model, asked.requirements)),
    )


STRATEGY = Strategy(
    "balanced",
    "Balanced",
    "60 % performance score and 40 % cheapness of the cost tier.",
    by(key, parts, score),
    key=key,
    looks_at=CONDITIONS,
    full_score=100.0,
)
