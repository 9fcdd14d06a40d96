"""The points that strategies count by: what the registry says of a model, and how it has done lately. Pure."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from providers.cost_tiers import rank
from routing.policy_documents import Requirements
from routing.types import Asked, Candidate, ModelView, RouteCondition

_TIER_BONUS = (15.0, 10.0, 5.0, 0.0)
_CHEAPNESS = (100.0, 75.0, 50.0, 25.0)
_DEARNESS_BONUS = (0.0, 0.0, 5.0, 10.0)
"""From LOW to PREMIUM."""

_DEARER_THAN_ANY = Decimal("Infinity")
_UNTRIED = 50.0
_UNKNOWN_LATENCY = 15.0
_LEAST_CONTEXT = 1000
_MOST_ROOM = 5.0


def price(model: ModelView) -> Decimal:
    """Of a million tokens in and a million out, for comparing models; one whose prices are unknown comes last."""
    prices = model.prices
    if prices.input_cost_per_million is None or prices.output_cost_per_million is None:
        return _DEARER_THAN_ANY
    return prices.input_cost_per_million + prices.output_cost_per_million


def preferred(model: ModelView, asked: Asked) -> int:
    """How many of the preferred capabilities it has."""
    wanted = asked.requirements.preferred_capabilities
    return len(wanted & model.capabilities) if wanted else 0


def registry(model: ModelView, requirements: Requirements) -> float:
    """What is written of a model: capabilities, cheapness and room for the prompt."""
    room = (model.context_window or 0) / max(requirements.min_context_window, _LEAST_CONTEXT)
    return (
        10 * len(requirements.capabilities & model.capabilities)
        + 5 * len(requirements.preferred_capabilities & model.capabilities)
        + _TIER_BONUS[rank(model.cost_tier)]
        + 2 * min(room, _MOST_ROOM)
    )


def performance(condition: RouteCondition) -> float:
    """0 to 100: success, speed and the lack of recent failures; the middle for what nobody has called."""
    if not condition.calls:
        return _UNTRIED
    success = 1.0 if condition.success_rate is None else condition.success_rate
    latency = condition.latency_seconds
    speed = _UNKNOWN_LATENCY if latency is None else max(0.0, 30.0 - 10.0 * latency)
    return min(100.0, 40.0 * success + speed + max(0.0, 30.0 - 5.0 * condition.recent_failures))


def performance_of(candidate: Candidate, asked: Asked) -> float:
    return performance(asked.conditions.of(candidate.model.route))


def cheapness(model: ModelView) -> float:
    return _CHEAPNESS[rank(model.cost_tier)]


def dearness_bonus(model: ModelView) -> float:
    """What is dear is taken to be able."""
    return _DEARNESS_BONUS[rank(model.cost_tier)]


def best_first(score: Callable[[Candidate, Asked], float]) -> Callable[[Candidate, Asked], Any]:
    """To sort by: of as many points, what is preferred, then what is written of the model, its price and its place decide."""

    def key(candidate: Candidate, asked: Asked) -> Any:
        model = candidate.model
        written = registry(model, asked.requirements)
        return -score(candidate, asked), -preferred(model, asked), -written, price(model), candidate.order

    return key
