"""Snapshot values made by hand, for what is pure."""

from __future__ import annotations

from dataclasses import replace

from providers.secrets import Secret
from routing.policy_documents import PolicyDocument
from routing.types import (
    Identity,
    ModelView,
    PolicyTarget,
    PolicyVersionView,
    PolicyView,
    Prices,
    ProviderView,
    RequestFacts,
    Snapshot,
    UpstreamKey,
)

A_KEY = UpstreamKey(1, Secret("sk"))


def provider(provider_id="openai", priority=1, keys=(A_KEY,)) -> ProviderView:
    return ProviderView(
        provider_id=provider_id,
        provider_type="openai",
        backend="x.Y",
        runs_in="web",
        priority=priority,
        connection={},
        settings={},
        keys=tuple(keys),
        fingerprint="f",
    )


def model(model_id="gpt-4o", of=None, model_type="chat", capabilities=("chat",), **rest) -> ModelView:
    blank = ModelView(
        provider=of or provider(),
        model_id=model_id,
        display_name=model_id,
        model_type=model_type,
        context_window=None,
        max_tokens=None,
        dimension=None,
        capabilities=frozenset(capabilities),
        tasks=frozenset(),
        parameters={},
        prices=Prices(),
        created=0,
    )
    return replace(blank, **rest)


def snapshot(*models: ModelView) -> Snapshot:
    by_name: dict[str, tuple[ModelView, ...]] = {}
    for each in models:
        by_name[each.model_id] = (*by_name.get(each.model_id, ()), each)
        by_name[each.route] = (each,)
    return Snapshot(revision=1, built_at=0, environment="development", models=models, by_name=by_name)


def facts(name="gpt-4o", operation="chat", allowed=None, policies=None, providers=None, **rest) -> RequestFacts:
    """`allowed`, `policies` and `providers` are what the client key is allowed."""
    identity = Identity(1, "gw-1", "tests", frozenset({"generate"}), allowed, policies, providers)
    return RequestFacts(model=name, operation=operation, identity=identity, **rest)


def policy(name: str, held: Snapshot, *targets: ModelView, fallbacks=(), kind="policy", number=1, **said) -> PolicyView:
    """A policy over these models, or over all of the snapshot; `said` is what its document says."""
    pool = targets or held.models
    version = PolicyVersionView(
        number,
        PolicyDocument(**said),
        tuple(PolicyTarget(each, order=order) for order, each in enumerate(pool)),
        tuple(PolicyTarget(each, order=order) for order, each in enumerate(fallbacks)),
    )
    return PolicyView(name, kind, version)
