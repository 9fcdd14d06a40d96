"""The provider's priority decides; among equals what is preferred, then the cheaper, then the order of the configuration."""

from __future__ import annotations

from typing import Any

from routing.strategies.base import Asked, Parts, Strategy, by
from routing.strategies.points import preferred, price
from routing.types import Candidate


def key(candidate: Candidate, asked: Asked) -> Any:
    model = candidate.model
    return model.provider.priority, -preferred(model, asked), price(model), candidate.order


def parts(candidate: Candidate, asked: Asked) -> Parts:
    model = candidate.model
    shown: Parts = (("provider_priority", float(model.provider.priority)),)
    if asked.requirements.preferred_capabilities:
        shown += (("preferred_capabilities", float(preferred(model, asked))),)
    return (*shown, ("price", float(price(model)))) if model.prices.known else shown


STRATEGY = Strategy(
    "priority",
    "Priority",
    "The provider with the lowest priority number; then the cheaper; then as configured.",
    by(key, parts),
    key=key,
)
