"""What the providers whose models come and go offer: read on a schedule, kept while they do not answer, and marked stale then.

A reading that succeeded makes the registry follow: a model that is new is added, one that is gone is switched off, one that
comes back is switched on again. What an administrator switched off stays off, and what was set on a row by hand stays as it
is. A reading that fails changes nothing but this record.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from providers import actor, discovery, provider_types, upstream
from providers.connection import text
from providers.discovery import Offered
from providers.models import Offer, Provider, ProviderModel

ACTOR = "discovery"
GONE = "gone"
"""In the parameters of a row that was switched off because its model was not offered any more."""

_FOLLOWED = ("base_urls", "upstream_model_id")
"""Parameters that the upstream decides."""

DEFAULT_REFRESH_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Followed:
    """What a reading changed in the registry, by model id."""

    added: tuple[str, ...] = ()
    moved: tuple[str, ...] = ()
    """They answer elsewhere now."""
    back: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()


def follows(provider: Provider) -> bool:
    """Whether the provider's type has models that come and go."""
    kind = provider_types.find(provider.provider_type)
    return kind is not None and kind.offer_changes


def refresh_seconds(provider: Provider) -> int:
    """Between two readings; 0 for never, which is also right for a single deployment."""
    try:
        facts = upstream.load(provider)
    except upstream.UnusableProvider:
        return DEFAULT_REFRESH_SECONDS  # the reading will say what is wrong
    if not discovery.lists_deployments(facts):
        return 0
    said = text(facts.connection, "refresh_seconds")
    return int(said) if said.isdecimal() else DEFAULT_REFRESH_SECONDS


def refresh(provider: Provider) -> Offer:
    """Read the provider's list now and have the registry follow it. Never raises for an upstream that fails."""
    tried_at = timezone.now()
    try:
        offers = discovery.offered(provider)
    except discovery.DiscoveryFailed as error:
        return _noted(provider, {"tried_at": tried_at, "problem": str(error)})
    return take(provider, offers, tried_at)


def take(provider: Provider, offers: list[Offered], read_at: datetime | None = None) -> Offer:
    """Have the registry follow a list that was read just now."""
    read_at = read_at or timezone.now()
    follow(provider, offers)
    names = [offer.model_id for offer in offers]
    return _noted(provider, {"names": names, "read_at": read_at, "tried_at": read_at, "problem": ""})


def refresh_if_older(provider: Provider, seconds: float) -> Offer:
    """The last reading, or a new one when it was tried longer ago than that."""
    known = Offer.objects.filter(provider=provider).first()
    if known is not None and _is_younger(known.tried_at, seconds):
        return known
    return refresh(provider)


def follow(provider: Provider, offers: list[Offered]) -> Followed:
    """Make the provider's models those that are offered; one that is not cannot be asked, whoever entered it."""
    with actor.acting_as(ACTOR), transaction.atomic():
        Provider.objects.select_for_update().get(pk=provider.pk)  # two readings at once would both add what is new
        rows = {row.model_id: row for row in provider.models.select_for_update()}
        listed = {offer.model_id for offer in offers}
        new = [offer for offer in offers if offer.model_id not in rows]
        discovery.apply(provider, add=new)
        moved, back = [], []
        for offer in offers:
            row = rows.get(offer.model_id)
            if row is not None:
                was_gone = _follow(row, offer)
                if was_gone is not None:
                    (back if was_gone else moved).append(row.model_id)
        gone = [row for row in rows.values() if row.enabled and row.model_id not in listed]
        for row in gone:
            row.enabled = False
            row.parameters = {**(row.parameters if isinstance(row.parameters, dict) else {}), GONE: True}
            row.save(update_fields=["enabled", "parameters"])
    return Followed(
        tuple(offer.model_id for offer in new), tuple(moved), tuple(back), tuple(row.model_id for row in gone)
    )


def _follow(row: ProviderModel, offer: Offered) -> bool | None:
    """None when nothing changed, else whether the row was gone."""
    held = row.parameters if isinstance(row.parameters, dict) else {}
    was_gone = bool(held.get(GONE))
    told = {name: offer.parameters[name] for name in _FOLLOWED if name in offer.parameters}
    parameters: Mapping[str, Any] = {**{name: value for name, value in held.items() if name != GONE}, **told}
    if parameters == held:
        return None
    row.parameters = dict(parameters)
    row.enabled = row.enabled or was_gone
    row.save(update_fields=["enabled", "parameters"])
    return was_gone


def _noted(provider: Provider, facts: dict[str, Any]) -> Offer:
    offer, _ = Offer.objects.update_or_create(provider=provider, defaults=facts)
    return offer


def _is_younger(at: datetime | None, seconds: float) -> bool:
    return at is not None and timezone.now() - at < timedelta(seconds=seconds)
