"""What answers best: success, speed and few recent failures, with a bonus for what is dear."""

from __future__ import annotations

from routing.strategies.base import CONDITIONS, Asked, Parts, Strategy, by
from routing.strategies.points import best_first, dearness_bonus, performance_of, registry
from routing.types import Candidate


def score(candidate: Candidate, asked: Asked) -> float:
    return performance_of(candidate, asked) + dearness_bonus(candidate.model)


key = best_first(score)


def parts(candidate: Candidate, asked: Asked) -> Parts:
    model = candidate.model
    return (
        ("performance", performance_of(candidate, asked)),
        ("tier_bonus", dearness_bonus(model)),
        ("registry", registry(model, asked.requirements)),
    )


STRATEGY = Strategy(
    "performance_optimized",
    "Best performance",
    "The highest performance score: success rate, latency, recent failures; dear models get a bonus.",
    by(key, parts, score),
    key=key,
    looks_at=CONDITIONS,
    full_score=100.0,
)
