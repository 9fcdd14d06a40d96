"""The models of the nodes' system as its own configuration describes them, and the nodes that choose among them."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from routing.policy_documents import Requirements
from routing.types import Asked, Candidate, Conditions, Prices, RequestFacts, RouteCondition
from tests.routing.views import model, policy, provider, snapshot

GEMINI = model(
    "gemini-2.5-pro",
    of=provider("openrouter"),
    capabilities=("streaming", "tools", "long_context", "creative_writing"),
    cost_tier="MEDIUM",
    context_window=32_000,
    prices=Prices(Decimal("0.15"), Decimal("0.6")),
)
CLAUDE = model(
    "claude-sonnet",
    of=provider("openrouter"),
    capabilities=("streaming", "reasoning", "tools"),
    cost_tier="HIGH",
    context_window=200_000,
    prices=Prices(Decimal(3), Decimal(15)),
)
NODES = {
    "writer": Requirements(
        capabilities=frozenset({"streaming", "creative_writing"}),
        preferred_capabilities=frozenset({"long_context", "tools"}),
        min_context_window=8000,
        max_cost_tier="HIGH",
    ),
    "evaluator": Requirements(
        capabilities=frozenset({"reasoning"}),
        preferred_capabilities=frozenset({"tools"}),
        min_context_window=8000,
        max_cost_tier="PREMIUM",
        reasoning=True,
    ),
    "search_perplexity": Requirements(
        capabilities=frozenset({"web_search"}),
        preferred_capabilities=frozenset({"streaming"}),
        min_context_window=16_000,
        max_cost_tier="HIGH",
    ),
    "formatter": Requirements(min_context_window=4000, max_cost_tier="HIGH"),
}
WELL = RouteCondition(calls=10, success_rate=1.0, latency_seconds=0.5)
POORLY = RouteCondition(calls=10, success_rate=0.5, latency_seconds=4.0, recent_failures=6)


def nodes(strategy: str, kind: str = "node"):
    held = snapshot(GEMINI, CLAUDE)
    views = {
        name: policy(name, held, kind=kind, requirements=demanded, strategy=strategy)
        for name, demanded in NODES.items()
    }
    return replace(held, policies={**views, **{f"{kind}/{name}": view for name, view in views.items()}})


def candidates(*models) -> list[Candidate]:
    return [Candidate(each, order=place) for place, each in enumerate(models)]


def asked(requirements=None, conditions=None, in_flight=None, chance=0.0, **told) -> Asked:
    return Asked(
        facts=RequestFacts(**told),
        requirements=requirements or Requirements(),
        conditions=Conditions(conditions or {}, in_flight or {}),
        now=0.0,
        chance=chance,
    )
