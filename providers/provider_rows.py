"""What is known of the providers of a page beside their rows, in as many queries for fifty as for one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from django.conf import settings
from django.db.models import Count, Q
from django.utils import timezone

from providers import breaker_states, connection, live_figures, provider_types
from providers.breaker_states import BreakerState
from providers.live_figures import Figures
from providers.models import ApiKey, AuditEntry, ConnectionParameter, ProbeResult, Provider, ProviderModel

_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class SwitchedOff:
    """Who disabled a provider, when, and the reason that was given."""

    actor: str
    at: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Standing:
    """How a provider stands now. `since` is when the present run of good or bad probes began; `models_out` took themselves out."""

    base_url: str
    last_probe: ProbeResult | None
    since: datetime | None
    breaker: BreakerState | None
    figures: Figures
    models_on: int
    models_all: int
    models_out: int
    keys_usable: int
    keys_held: int
    needs_key: bool
    switched_off: SwitchedOff | None


def standings(providers: Sequence[Provider]) -> dict[int, Standing]:
    """By primary key."""
    ids = [provider.provider_id for provider in providers]
    pks = [provider.pk for provider in providers]
    probed = _probed(pks)
    last = ProbeResult.objects.in_bulk([last_id for last_id, _ in probed.values()])
    began = ProbeResult.objects.filter(pk__in=[first_id for _, first_id in probed.values()])
    since = dict(began.values_list("provider_id", "at"))
    addresses = _addresses(pks)
    models, keys = _models(pks), _keys(pks)
    breakers, figures = breaker_states.read(ids), live_figures.of(ids)
    off = _switched_off([provider.provider_id for provider in providers if not provider.enabled])
    found = {}
    for provider in providers:
        probe = last.get(probed[provider.pk][0]) if provider.pk in probed else None
        counted, held = models.get(provider.pk, (0, 0, 0)), keys.get(provider.pk, (0, 0))
        kind = provider_types.find(provider.provider_type)
        found[provider.pk] = Standing(
            base_url=addresses.get(provider.pk) or shown_base_url(provider),
            last_probe=probe,
            since=since.get(provider.pk),
            breaker=breakers.get(provider.provider_id),
            figures=figures.get(provider.provider_id, live_figures.NOTHING),
            models_on=counted[0],
            models_all=counted[1],
            models_out=counted[2],
            keys_usable=held[0],
            keys_held=held[1],
            needs_key=kind is not None and kind.needs_key,
            switched_off=off.get(provider.provider_id),
        )
    return found


def shown_base_url(provider: Provider) -> str:
    """The address of the stored row and its type, for people; rows of an environment may override it."""
    kind = provider_types.find(provider.provider_type)
    stored = provider.connection_params if isinstance(provider.connection_params, dict) else {}
    merged = connection.canonical(kind.defaults if kind else {}) | connection.canonical(stored)
    return str(merged.get("base_url") or merged.get("model_path") or "")


def verifies_nothing(provider: Provider) -> bool:
    """Whether the stored row switches off the check of the upstream's certificate."""
    stored = provider.connection_params if isinstance(provider.connection_params, dict) else {}
    return not connection.flag(stored, "verify_tls", default=True)


def losing_their_only_provider(pks: Sequence[int]) -> list[str]:
    """Model ids that nobody else serves once these providers are gone."""
    served = ProviderModel.objects.filter(enabled=True, provider__enabled=True)
    elsewhere = served.exclude(provider__in=pks).values("model_id")
    lost = served.filter(provider__in=pks).exclude(model_id__in=elsewhere)
    return list(lost.order_by("model_id").values_list("model_id", flat=True).distinct())


def _probed(pks: Sequence[int]) -> dict[int, tuple[int, int]]:
    """Ids of each provider's last probe, and of the one with which the present run of good or bad ones began."""
    found: dict[int, tuple[int, int]] = {}
    over: set[int] = set()
    state: dict[int, bool] = {}
    rows = ProbeResult.objects.filter(provider__in=pks).order_by("-id")
    for owner, pk, healthy in rows.values_list("provider_id", "id", "healthy"):
        if owner in over:
            continue
        if state.setdefault(owner, healthy) == healthy:
            found[owner] = (found[owner][0] if owner in found else pk, pk)
        else:
            over.add(owner)
    return found


def _addresses(pks: Sequence[int]) -> dict[int, str]:
    rows = ConnectionParameter.objects.filter(
        provider__in=pks, param_name="base_url", is_sensitive=False, environment=settings.GATEWAY_ENVIRONMENT
    )
    return {owner: value or "" for owner, value in rows.values_list("provider_id", "plain_value")}


def _models(pks: Sequence[int]) -> dict[int, tuple[int, int, int]]:
    rows = ProviderModel.objects.filter(provider__in=pks).order_by().values("provider")
    out = Q(enabled=True, auto_disabled_at__isnull=False)
    counted = rows.annotate(on=Count("pk", filter=Q(enabled=True)), every=Count("pk"), out=Count("pk", filter=out))
    return {row["provider"]: (row["on"], row["every"], row["out"]) for row in counted}


def _keys(pks: Sequence[int]) -> dict[int, tuple[int, int]]:
    rows = ApiKey.objects.filter(provider__in=pks).order_by().values("provider")
    counted = rows.annotate(
        usable=Count("pk", filter=ApiKey.usable(timezone.now())), held=Count("pk", filter=~Q(held_for=""))
    )
    return {row["provider"]: (row["usable"], row["held"]) for row in counted}


def _switched_off(ids: Sequence[str]) -> dict[str, SwitchedOff]:
    """By the audit log, newest first; those of whom it does not say are left out."""
    if not ids:
        return {}
    entries = AuditEntry.objects.filter(target_type="provider", target_id__in=ids, after__enabled=False)
    found: dict[str, SwitchedOff] = {}
    for name, who, at, reason, before in entries.order_by("-id").values_list(
        "target_id", "actor", "at", "reason", "before"
    )[:500]:
        if name not in found and (before or {}).get("enabled") is not False:
            found[name] = SwitchedOff(who, at, reason)
    return found
