"""Snapshots with policies, resolved as the real building does it, without a database; and the registry of seed 001."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

from providers.models import Provider
from routing import policy_actions, policy_documents
from routing.policy_views import Resolving
from routing.types import ModelView, OverrideView, PolicyView, Prices, Snapshot
from tests.routing.views import model, provider, snapshot

Document = Mapping[str, Any]


def with_policies(
    *models: ModelView,
    policies: Mapping[str, Document],
    kinds: Mapping[str, str] | None = None,
    overrides: Mapping[str, tuple[str, float | None]] | None = None,
) -> Snapshot:
    """`kinds` of those that are no plain policy; `overrides` by policy: target, expiry in epoch seconds."""
    base = snapshot(*models)
    documents = {name: policy_documents.read(document) for name, document in policies.items()}
    every_kind = {name: (kinds or {}).get(name, "policy") for name in documents}
    resolving = Resolving(documents, every_kind, models, base.by_name)
    views: dict[str, PolicyView] = {}
    for name, document in documents.items():
        target, expires_at = (overrides or {}).get(name, ("", None))
        view = PolicyView(
            name=name,
            kind=every_kind[name],
            active=resolving.version(name, 1, document),
            override=OverrideView(target, tuple(resolving.named(target)), expires_at) if target else None,
        )
        views[name] = view
        views.setdefault(f"{view.kind}/{name}", view)
    return replace(base, policies=views)


LOGICAL = {
    "gemini-2.5-pro": {
        "targets": [{"model": "google/gemini-2.0-flash-exp", "provider": "openrouter"}],
        "fallbacks": ["claude-sonnet", "gpt-4o"],
    },
    "claude-sonnet": {
        "targets": [{"model": "anthropic/claude-3.5-sonnet-20241022", "provider": "openrouter"}],
        "fallbacks": ["gpt-4o", "gemini-2.5-pro"],
    },
}
NODES = {
    "writer": {
        "capabilities": ["streaming", "creative_writing"],
        "preferred_capabilities": ["long_context", "function_calling"],
        "min_context_window": 8000,
        "max_cost_tier": "HIGH",
    },
    "evaluator": {
        "capabilities": ["reasoning"],
        "preferred_capabilities": ["function_calling"],
        "min_context_window": 8000,
        "max_cost_tier": "PREMIUM",
        "reasoning": True,
    },
    "search_perplexity": {
        "capabilities": ["web_search"],
        "preferred_capabilities": ["streaming"],
        "min_context_window": 16000,
        "max_cost_tier": "HIGH",
    },
}
MODELS = {
    "google/gemini-2.0-flash-exp": {
        "capabilities": ["streaming", "function_calling", "long_context", "creative_writing"],
        "cost_tier": "MEDIUM",
        "context_window": 32000,
        "prices": ("0.15", "0.6"),
    },
    "anthropic/claude-3.5-sonnet-20241022": {
        "capabilities": ["streaming", "reasoning", "function_calling"],
        "cost_tier": "HIGH",
        "context_window": 200000,
        "prices": ("3", "15"),
    },
}


def documents() -> dict[str, Document]:
    """The two policies and three nodes of the seed's files."""
    nodes = {
        name: {"targets": [{"kind": "logical"}], "requirements": needs, "strategy": "balanced"}
        for name, needs in NODES.items()
    }
    return LOGICAL | nodes


def kinds() -> dict[str, str]:
    return dict.fromkeys(LOGICAL, "logical") | dict.fromkeys(NODES, "node")


def seed_001(**rest: Any) -> Snapshot:
    """The seed's two logical models and three nodes."""
    openrouter = provider("openrouter")
    models = [
        model(
            name,
            of=openrouter,
            capabilities=policy_documents.canonical(["chat", *facts["capabilities"]]),
            cost_tier=facts["cost_tier"],
            context_window=facts["context_window"],
            prices=Prices(*(Decimal(price) for price in facts["prices"])),
        )
        for name, facts in MODELS.items()
    ]
    return with_policies(*models, policies=rest.pop("policies", documents()), kinds=kinds(), **rest)


def store_seed_001() -> None:
    """The same as rows."""
    openrouter = Provider.objects.create(provider_id="openrouter", provider_type="fake")
    for name, facts in MODELS.items():
        price_in, price_out = facts["prices"]
        openrouter.models.create(
            model_id=name,
            capabilities=["chat", *facts["capabilities"]],
            cost_tier=facts["cost_tier"],
            context_window=facts["context_window"],
            input_cost_per_million=price_in,
            output_cost_per_million=price_out,
        )
    every_kind = kinds()
    for name, document in documents().items():
        policy_actions.create({"name": name, "kind": every_kind[name], "document": document})
