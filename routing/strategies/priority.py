"""The provider's priority decides; among equals the cheaper one; among equals again the order of the configuration."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from routing.strategies.base import Asked, Strategy
from routing.types import Candidate, ModelView

_DEARER_THAN_ANY = Decimal("Infinity")


def price(model: ModelView) -> Decimal:
    """Of a million tokens in and a million out, for comparing models; one whose prices are unknown comes last."""
    prices = model.prices
    if prices.input_cost_per_million is None or prices.output_cost_per_million is None:
        return _DEARER_THAN_ANY
    return prices.input_cost_per_million + prices.output_cost_per_million


def order(candidates: Sequence[Candidate], asked: Asked) -> list[Candidate]:
    return sorted(
        candidates,
        key=lambda candidate: (candidate.model.provider.priority, price(candidate.model), candidate.order),
    )


STRATEGY = Strategy(
    "priority", "Priority", "The provider with the lowest priority number; then the cheaper; then as configured.", order
)
