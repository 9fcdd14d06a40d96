"""The cells of providers and models for templates."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

from providers import cells, model_cells, price_cells, provider_types, type_gallery
from providers.live_figures import Use
from providers.models import ProbeResult, ProviderModel
from providers.prices import Prices

register = template.Library()


@register.simple_tag
def abilities(words: Iterable[Any]) -> SafeString:
    return model_cells.abilities(words)


@register.simple_tag
def abilities_of(row: ProviderModel) -> SafeString:
    return model_cells.abilities(row.capabilities if isinstance(row.capabilities, list) else ())


@register.simple_tag
def context_of(row: ProviderModel) -> SafeString:
    return model_cells.context(row.context_window)


@register.simple_tag
def context_tokens(tokens: int | None) -> SafeString:
    return model_cells.context(tokens)


@register.simple_tag
def price(amount: Decimal | None, currency: str = "USD") -> SafeString:
    return model_cells.price(amount, currency)


@register.simple_tag
def price_source(prices: Prices) -> SafeString:
    return price_cells.source(prices)


@register.simple_tag
def use_of_model(told: Use) -> SafeString:
    return model_cells.use(told)


@register.simple_tag
def enabled_model(row: ProviderModel) -> SafeString:
    return model_cells.enabled(row)


@register.simple_tag
def probe_tone(probe: ProbeResult) -> str:
    return cells.state_of(probe)[1]


@register.simple_tag
def monogram_of(type_name: str) -> SafeString:
    """The tile of a provider type, as the gallery shows it."""
    kind = provider_types.find(type_name)
    letters, tone = (type_gallery.monogram(kind), type_gallery.tone(kind)) if kind else ("?", 0)
    return format_html('<span class="gw-monogram gw-monogram-{}" aria-hidden="true">{}</span>', tone, letters)
