"""What the registry speaks for: an override stands before it anyway, and without one the best entry decides."""

from __future__ import annotations

from typing import Any

from routing.strategies.base import Asked, Parts, Strategy, by
from routing.strategies.points import price, registry
from routing.types import Candidate


def score(candidate: Candidate, asked: Asked) -> float:
    return registry(candidate.model, asked.requirements)


def key(candidate: Candidate, asked: Asked) -> Any:
    return -score(candidate, asked), price(candidate.model), candidate.order


def parts(candidate: Candidate, asked: Asked) -> Parts:
    return (("registry", score(candidate, asked)),)


STRATEGY = Strategy(
    "admin_preferred",
    "As the registry says",
    "The override, else the highest registry score: capabilities, cheapness, room for the prompt.",
    by(key, parts, score),
    key=key,
)
