"""From registry rows to a `Snapshot`: the one place where upstream secrets are decrypted for use."""

from __future__ import annotations

import hashlib
import json
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from django.conf import settings
from django.db.models import Q
from django.utils import timezone

from providers import breaker_settings, cost_tiers, keyring, locality, price_rows, provider_types, revision, upstream
from providers.capabilities import canonical
from providers.models import ApiKey, ConnectionParameter, Provider, ProviderModel
from providers.prices import Book
from providers.provider_types import ProviderType
from providers.secrets import Secret, SecretError
from routing import allowance_rows, client_keys, policy_views, rollout, shortlists
from routing.client_addresses import BadNetwork, Network, networks
from routing.models import ClientKey, Rollout, RoutingSettings
from routing.types import (
    ClientKeyView,
    Dropped,
    ModelView,
    PolicyView,
    ProviderView,
    RolloutView,
    RoutingDefaults,
    Snapshot,
    UpstreamKey,
)


def build() -> Snapshot:
    """Read the whole registry. Rows that cannot be used are left out and named in `notes`.

    No transaction holds the rows still: the snapshot carries the revision read first, so a write that falls between makes it
    stale at once, and it is built again.
    """
    number, now = revision.current(), time.time()
    notes: list[str] = []
    routing = RoutingSettings.load()
    providers = _providers(notes, routing.breaker)
    book = Book(price_rows.rules(), now)
    models = _models(providers, book)
    by_name = _by_name(models)
    policies = policy_views.build(models, by_name, notes)
    rows = list(ClientKey.objects.select_related("team"))
    keys = _client_keys(rows, notes)
    allowances, raises_end = allowance_rows.build(view.identity for view in keys.values())
    snapshot = Snapshot(
        revision=number,
        built_at=now,
        environment=settings.GATEWAY_ENVIRONMENT,
        providers=providers,
        models=models,
        by_name=by_name,
        policies=policies,
        defaults=_defaults(routing),
        out_of_service=_out_of_service(),
        client_keys=keys,
        allowances=allowances,
        imported_keys=_imported(rows),
        trusted_proxies=settings.GATEWAY_TRUSTED_PROXIES,
        peppers=_peppers(),
        stale_at=_next_change(book, policies, raises_end),
        rollout=_rollout(notes),
        notes=tuple(notes),
    )
    shortlists.warm(snapshot)
    return snapshot


def _providers(notes: list[str], breaker: Mapping[str, Any]) -> dict[str, ProviderView]:
    now = timezone.now()
    keys: dict[int, list[ApiKey]] = defaultdict(list)
    for key in ApiKey.objects.filter(ApiKey.usable(now)).order_by("-weight", "id"):
        keys[key.provider_id].append(key)
    stored: dict[int, set[str]] = defaultdict(set)
    for owner, environment in ApiKey.objects.order_by().values_list("provider_id", "environment").distinct():
        stored[owner].add(environment)
    parameters: dict[int, list[ConnectionParameter]] = defaultdict(list)
    for parameter in ConnectionParameter.objects.filter(environment=settings.GATEWAY_ENVIRONMENT):
        parameters[parameter.provider_id].append(parameter)
    views = {}
    for provider in Provider.objects.filter(enabled=True).order_by("priority", "id"):
        view = _provider(provider, keys[provider.pk], stored[provider.pk], parameters[provider.pk], breaker, notes)
        if view is not None:
            views[provider.provider_id] = view
    return views


def _provider(
    provider: Provider,
    keys: list[ApiKey],
    stored: set[str],
    parameters: list[ConnectionParameter],
    breaker: Mapping[str, Any],
    notes: list[str],
) -> ProviderView | None:
    try:
        facts = upstream.merge(provider, keys, parameters)
    except upstream.UnusableProvider as error:
        notes.append(str(error))
        return None
    notes.extend(facts.notes)
    usable = tuple(UpstreamKey(key.key_id, key.secret, key.weight, key.expires_at) for key in facts.keys)
    return ProviderView(
        provider_id=provider.provider_id,
        provider_type=facts.kind.name,
        backend=facts.kind.backend,
        runs_in=facts.kind.runs_in,
        priority=provider.priority,
        connection=facts.connection,
        settings=provider.request_settings if isinstance(provider.request_settings, dict) else {},
        keys=usable,
        fingerprint=_fingerprint(facts.kind.backend, facts.connection, provider.request_settings, usable),
        display_name=provider.display_name,
        lacks_key=not usable and _is_meant_to_have_a_key(facts.kind, stored),
        local=locality.is_local(provider.locality, facts.kind.local, _address(facts.kind, facts.connection)),
        data_tags=frozenset(provider.data_tags if isinstance(provider.data_tags, list) else ()),
        breaker=breaker_settings.read(breaker, provider.breaker),
        operations=facts.kind.operations,
    )


def _address(kind: ProviderType, connection: Mapping[str, Any]) -> str:
    """Empty for what is not reached over a network."""
    return "" if kind.runs_in == "worker" else str(connection.get("base_url") or "")


def _is_meant_to_have_a_key(kind: ProviderType, stored: set[str]) -> bool:
    """`stored` are the environments that its keys are for, used or not: an open server may have a key in production only."""
    return settings.GATEWAY_ENVIRONMENT in stored or (kind.needs_key and bool(stored))


def _fingerprint(
    backend: str, connection: Mapping[str, Any], request_settings: Any, keys: Iterable[UpstreamKey]
) -> str:
    facts = [backend, connection, request_settings, [[key.key_id, key.secret] for key in keys]]
    text = json.dumps(facts, sort_keys=True, default=_revealed)
    return hashlib.blake2b(text.encode(), key=keyring.peppers().derive("connection"), digest_size=16).hexdigest()


def _revealed(value: object) -> str:
    return value.reveal() if isinstance(value, Secret) else str(value)


def _next_change(book: Book, policies: Mapping[str, PolicyView], raises_end: float | None) -> float | None:
    """When time alone makes the same rows mean something else."""
    ends = (policy.override.expires_at for policy in policies.values() if policy.override is not None)
    return min((moment for moment in (book.changes_at, raises_end, *ends) if moment is not None), default=None)


class _Row(NamedTuple):
    """What a model's view is made of, without the model's object: of ten thousand rows, those take most of the time."""

    provider: str
    model_id: str
    display_name: str
    model_type: str
    context_window: int | None
    max_tokens: int | None
    dimension: int | None
    capabilities: Any
    tasks: Any
    parameters: Any
    cost_tier: str
    input_cost_per_million: Decimal | None
    output_cost_per_million: Decimal | None
    cached_input_cost_per_million: Decimal | None
    currency: str
    created_at: datetime
    auto_disabled_at: datetime | None
    auto_disabled_reason: str


def _models(providers: dict[str, ProviderView], book: Book) -> tuple[ModelView, ...]:
    rows = ProviderModel.objects.filter(enabled=True, provider__enabled=True).order_by("provider__priority", "id")
    columns = ("provider__provider_id", *_Row._fields[1:])
    found = map(_Row._make, rows.values_list(*columns))
    return tuple(_model(row, providers[row.provider], book) for row in found if row.provider in providers)


def _model(row: _Row, provider: ProviderView, book: Book) -> ModelView:
    kind = provider_types.find(provider.provider_type)
    prices = book.prices(
        provider.provider_id,
        provider.provider_type,
        row.model_id,
        price_rows.entered_on(row),
        price_rows.is_free(kind, provider.local),
        base_url=str(provider.connection.get("base_url") or ""),
    )
    declared = canonical(row.capabilities if isinstance(row.capabilities, list) else ())
    return ModelView(
        provider=provider,
        model_id=row.model_id,
        display_name=row.display_name,
        model_type=row.model_type,
        context_window=row.context_window,
        max_tokens=row.max_tokens,
        dimension=row.dimension,
        capabilities=declared or (kind.capabilities if kind and row.model_type == "chat" else frozenset()),
        tasks=frozenset(row.tasks if isinstance(row.tasks, list) else ()),
        parameters=row.parameters if isinstance(row.parameters, dict) else {},
        prices=prices,
        created=int(row.created_at.timestamp()),
        cost_tier=cost_tiers.tier_of(row.cost_tier, prices.output_cost_per_million),
        auto_disabled=row.auto_disabled_reason if row.auto_disabled_at is not None else "",
    )


def _by_name(models: tuple[ModelView, ...]) -> dict[str, tuple[ModelView, ...]]:
    names: dict[str, list[ModelView]] = defaultdict(list)
    for model in models:
        names[model.model_id].append(model)
    for model in models:
        # A qualified name means that provider, also where some other provider lists a model id that reads the same.
        names[model.route] = [model, *(other for other in names.get(model.route, ()) if other is not model)]
    return {name: tuple(found) for name, found in names.items()}


def _out_of_service() -> dict[str, tuple[Dropped, ...]]:
    """What is switched off by hand: nobody is served by it, but whoever asks for it should be told why."""
    found: dict[str, list[Dropped]] = defaultdict(list)
    off = ProviderModel.objects.filter(Q(enabled=False) | Q(provider__enabled=False)).order_by(
        "provider__priority", "id"
    )
    for model_id, provider_id, enabled in off.values_list("model_id", "provider__provider_id", "enabled"):
        route = f"{provider_id}/{model_id}"
        why = f"the provider {provider_id} is disabled" if enabled else "the model is disabled"
        for name in (model_id, route):
            found[name].append(Dropped(route, "disabled", why))
    return {name: tuple(dropped) for name, dropped in found.items()}


def _defaults(row: RoutingSettings) -> RoutingDefaults:
    """The environment's word, where it has one, wins over the row: it is what an operator reaches for in a hurry."""
    return RoutingDefaults(
        max_cost=row.max_cost_per_request,
        fallback_enabled=row.fallback_enabled and settings.GATEWAY_FALLBACK_ENABLED,
        retries=row.retries if settings.GATEWAY_MAX_RETRIES is None else settings.GATEWAY_MAX_RETRIES,
        retry_delay_seconds=(
            row.retry_delay_seconds
            if settings.GATEWAY_RETRY_DELAY_SECONDS is None
            else settings.GATEWAY_RETRY_DELAY_SECONDS
        ),
        default_policy=row.default_policy,
        unknown_model=row.unknown_model,
        barred_types=frozenset() if settings.OPENROUTER_FALLBACK_ENABLED else frozenset({"openrouter"}),
    )


def credentials(presented: str) -> Snapshot:
    """The client key that may be the presented one, as the database has it now: for the control plane, where a key that was issued
    or revoked a moment ago must count."""
    peppers = _peppers()
    known = ClientKey.objects.order_by().select_related("team")
    rows = list(known.filter(prefix=client_keys.prefix_of(presented)))
    if not rows:
        digests = [digest.hex() for digest in client_keys.digests_as_imported(presented, peppers)]
        imported = known.exclude(imported_from="")
        rows = list(imported.filter(Q(digest__in=digests) | Q(previous_digest__in=digests)))
    return Snapshot(
        revision=0,
        built_at=time.time(),
        environment=settings.GATEWAY_ENVIRONMENT,
        client_keys=_client_keys(rows, []),
        imported_keys=_imported(rows),
        trusted_proxies=settings.GATEWAY_TRUSTED_PROXIES,
        peppers=peppers,
    )


def _client_keys(rows: Iterable[ClientKey], notes: list[str]) -> dict[str, ClientKeyView]:
    return {row.prefix: _client_key(row, notes) for row in rows}


def _imported(rows: Iterable[ClientKey]) -> dict[bytes, str]:
    """After a rotation the one that was imported is the digest before, for as long as that counts."""
    return {
        bytes.fromhex(digest): row.prefix
        for row in rows
        if row.imported_from
        for digest in (row.digest, row.previous_digest)
        if digest
    }


def _client_key(row: ClientKey, notes: list[str]) -> ClientKeyView:
    return ClientKeyView(
        identity=row.identity,
        digest=bytes.fromhex(row.digest),
        pepper_id=row.pepper_id,
        enabled=row.enabled,
        expires_at=row.expires_at.timestamp() if row.expires_at else None,
        previous_digest=bytes.fromhex(row.previous_digest),
        previous_pepper_id=row.previous_pepper_id,
        previous_until=row.previous_until.timestamp() if row.previous_until else None,
        revoked=row.revoked_at is not None,
        team_enabled=row.team is None or row.team.enabled,
        networks=_networks(row, notes),
    )


def _networks(row: ClientKey, notes: list[str]) -> tuple[Network, ...] | None:
    if row.ip_ranges is None:
        return None
    try:
        return networks(row.ip_ranges)
    except BadNetwork as error:
        # Written past the form: a key whose ranges cannot be read may come from nowhere.
        notes.append(f"the client key {row.prefix}: {error}")
        return ()


def _peppers() -> dict[str, bytes]:
    peppers = keyring.peppers()
    return {pepper_id: peppers.derive("client-key", pepper_id) for pepper_id in peppers.by_id}


def _rollout(notes: list[str]) -> RolloutView | None:
    row = Rollout.load()
    if not row.legacy_base_url:
        return None
    try:
        headers = tuple(row.headers().items())
    except SecretError as error:
        # The legacy side refuses what comes without them, for all to see; to serve it here instead would be a lie.
        notes.append(f"the roll-out's extra headers: {error}")
        headers = ()
    return RolloutView(
        legacy_base_url=row.legacy_base_url,
        gateway_enabled=row.gateway_enabled and settings.GATEWAY_V2_ENABLED,
        share=rollout.buckets_below(row.percentage),
        salt=row.salt.encode(),
        digest_key=keyring.peppers().derive("rollout"),
        allow_private=settings.GATEWAY_ALLOW_PRIVATE_UPSTREAMS,
        verify_tls=row.verify_tls,
        connect_seconds=row.connect_timeout_seconds,
        reply_seconds=row.reply_timeout_seconds,
        idle_seconds=row.idle_timeout_seconds,
        headers=headers,
        own_cookies=frozenset({settings.SESSION_COOKIE_NAME.encode(), settings.CSRF_COOKIE_NAME.encode()}),
        extra_paths=tuple(row.extra_paths),
        shadow_share=rollout.buckets_below(row.shadow_percentage),
        shadow_daily_cap=row.shadow_daily_cap,
    )
