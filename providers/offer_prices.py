"""What a model that a provider lists would cost once it is registered, and how much it takes: pre-filled from what vendors publish."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from providers import price_list, price_rows
from providers.discovery import Offered
from providers.models import Provider, ProviderModel
from providers.prices import Prices
from providers.provider_rows import shown_base_url


@dataclass(frozen=True, slots=True)
class Priced:
    offer: Offered
    prices: Prices

    @property
    def capabilities(self) -> tuple[str, ...]:
        return self.offer.capabilities


def filled(provider: Provider, offers: Iterable[Offered]) -> list[Offered]:
    """The offers, with the context that the vendor's list tells where the upstream tells none."""
    base_url = shown_base_url(provider)
    found = []
    for offer in offers:
        listed = None
        if offer.context_window is None:
            listed = price_list.listing(provider.provider_type, offer.model_id, base_url)
        found.append(offer if listed is None else replace(offer, context_window=listed.context_window))
    return found


def priced(provider: Provider, offers: Iterable[Offered]) -> list[Priced]:
    """In the order of the offers, in as many queries as for one."""
    offers = filled(provider, offers)
    rows = [
        ProviderModel(pk=number, provider=provider, model_id=offer.model_id, model_type=offer.model_type)
        for number, offer in enumerate(offers, 1)
    ]
    prices = price_rows.of_models(rows)
    return [Priced(offer, prices[row.pk]) for offer, row in zip(offers, rows, strict=True)]
