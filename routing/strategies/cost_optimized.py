"""The cheapest tier, in it the lowest price of input and output together."""

from __future__ import annotations

from typing import Any

from providers.cost_tiers import rank
from routing.strategies.base import Asked, Parts, Strategy, by
from routing.strategies.points import preferred, price
from routing.types import Candidate


def key(candidate: Candidate, asked: Asked) -> Any:
    model = candidate.model
    return rank(model.cost_tier), price(model), -preferred(model, asked), model.provider.priority, candidate.order


def parts(candidate: Candidate, asked: Asked) -> Parts:
    model = candidate.model
    shown: Parts = (("tier", float(rank(model.cost_tier))),)
    return (*shown, ("price", float(price(model)))) if model.prices.known else shown


STRATEGY = Strategy(
    "cost_optimized",
    "Cheapest",
    "The lowest cost tier; in it the lowest price of input and output; a model without known prices last.",
    by(key, parts),
    key=key,
)
