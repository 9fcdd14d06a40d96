"""What has every capability that is demanded or preferred, the cheapest tier of them first; then the others by the registry."""

from __future__ import annotations

from typing import Any

from providers.cost_tiers import rank
from routing.strategies.base import Asked, Parts, Strategy, by
from routing.strategies.points import preferred, price, registry
from routing.types import Candidate


def _lacks_some(candidate: Candidate, asked: Asked) -> bool:
    return not asked.requirements.preferred_capabilities <= candidate.model.capabilities


def key(candidate: Candidate, asked: Asked) -> Any:
    model = candidate.model
    lacking = _lacks_some(candidate, asked)
    tier = 0 if lacking else rank(model.cost_tier)
    return lacking, tier, -registry(model, asked.requirements), price(model), candidate.order


def parts(candidate: Candidate, asked: Asked) -> Parts:
    model = candidate.model
    return (
        ("preferred_capabilities", float(preferred(model, asked))),
        ("tier", float(rank(model.cost_tier))),
        ("registry", registry(model, asked.requirements)),
    )


def score(candidate: Candidate, asked: Asked) -> float:
    return registry(candidate.model, asked.requirements)


STRATEGY = Strategy(
    "capability_strict",
    "Strictly able",
    "Models with every preferred capability first, the cheapest tier of them; then the others by what the registry says.",
    by(key, parts, score),
    key=key,
)
