"""Snapshots built by hand: what a test says is in the registry, without a database."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from providers.secrets import Secret
from routing import client_keys, policy_documents
from routing.policy_views import Resolving
from routing.types import (
    ClientKeyView,
    Identity,
    ModelView,
    PolicyView,
    Prices,
    ProviderView,
    RoutingDefaults,
    Snapshot,
    UpstreamKey,
)

PEPPER = b"p" * 32
CLIENT_KEY = "gw-0123456789ab-" + "s" * 43
UPSTREAM_KEY = "sk-upstream-canary-1234567890"
OPENAI_COMPATIBLE = "inference.backends.openai_compatible.OpenAICompatible"
FAKE = "inference.backends.fake.Fake"
QUICK = RoutingDefaults(retry_delay_seconds=0.001)


def provider(
    provider_id: str = "fake",
    *,
    backend: str = FAKE,
    priority: int = 100,
    connection: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    keys: Iterable[str] = (),
    fingerprint: str | None = None,
    **more: Any,
) -> ProviderView:
    connection = dict(connection or {})
    return ProviderView(
        provider_id=provider_id,
        provider_type=backend.rpartition(".")[2].lower(),
        backend=backend,
        runs_in="web",
        priority=priority,
        connection=connection,
        settings=dict(settings or {}),
        keys=tuple(UpstreamKey(number, Secret(key)) for number, key in enumerate(keys, 1)),
        fingerprint=fingerprint or f"{provider_id}:{backend}:{sorted(connection.items(), key=repr)!r}",
        **more,
    )


def remote(base_url: str, provider_id: str = "remote", **more: Any) -> ProviderView:
    """A provider that speaks the OpenAI protocol at a test's own upstream."""
    connection = {"base_url": base_url, "allow_private": True, **more.pop("connection", {})}
    return provider(
        provider_id, backend=OPENAI_COMPATIBLE, connection=connection, keys=more.pop("keys", [UPSTREAM_KEY]), **more
    )


def model(owner: ProviderView, model_id: str = "fake-chat", **more: Any) -> ModelView:
    told: dict[str, Any] = {
        "display_name": model_id,
        "model_type": "embedding" if "embed" in model_id else "chat",
        "context_window": None,
        "max_tokens": None,
        "dimension": None,
        "capabilities": frozenset({"chat"}),
        "tasks": frozenset(),
        "parameters": {},
        "prices": Prices(Decimal("1"), Decimal("2")),
        "created": 1_700_000_000,
        **more,
    }
    return ModelView(provider=owner, model_id=model_id, **told)


def key_view(plaintext: str = CLIENT_KEY, **more: Any) -> ClientKeyView:
    identity = Identity(
        key_id=more.pop("key_id", 7),
        prefix=client_keys.prefix_of(plaintext),
        name="test",
        scopes=frozenset(more.pop("scopes", {"generate"})),
        allowed_models=more.pop("allowed_models", None),
        allowed_policies=more.pop("allowed_policies", None),
        allowed_providers=more.pop("allowed_providers", None),
    )
    return ClientKeyView(
        identity=identity,
        digest=client_keys.digest(plaintext, PEPPER),
        pepper_id="1",
        enabled=more.pop("enabled", True),
        expires_at=more.pop("expires_at", None),
        **more,
    )


def snapshot(
    *models: ModelView,
    keys: Iterable[ClientKeyView] = (),
    revision: int = 1,
    documents: Mapping[str, Mapping[str, Any]] | None = None,
    kinds: Mapping[str, str] | None = None,
    defaults: RoutingDefaults = QUICK,
    **more: Any,
) -> Snapshot:
    """`documents` are policies by name, of the `kinds` where they are no plain ones. Retries do not pause, unless `defaults`
    say otherwise."""
    by_name: dict[str, list[ModelView]] = defaultdict(list)
    for one in sorted(models, key=lambda view: view.provider.priority):
        by_name[one.model_id].append(one)
        by_name[one.route].append(one)
    views = list(keys) or [key_view()]
    named = {name: tuple(found) for name, found in by_name.items()}
    return Snapshot(
        revision=revision,
        built_at=time.time(),
        environment="test",
        providers={one.provider.provider_id: one.provider for one in models},
        models=models,
        by_name=named,
        client_keys={view.identity.prefix: view for view in views},
        peppers={"1": PEPPER},
        policies=_policies(models, named, documents or {}, kinds or {}),
        defaults=defaults,
        **more,
    )


def _policies(
    models: tuple[ModelView, ...],
    named: Mapping[str, tuple[ModelView, ...]],
    documents: Mapping[str, Mapping[str, Any]],
    kinds: Mapping[str, str],
) -> dict[str, PolicyView]:
    read = {name: policy_documents.read(document) for name, document in documents.items()}
    every_kind = {name: kinds.get(name, "policy") for name in read}
    resolving = Resolving(read, every_kind, models, named)
    views: dict[str, PolicyView] = {}
    for name, document in read.items():
        view = PolicyView(name, every_kind[name], resolving.version(name, 1, document))
        views |= {name: view, f"{view.kind}/{name}": view}
    return views
