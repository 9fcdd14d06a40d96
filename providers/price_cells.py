"""How prices look in the admin: numbers to the right, the source as a pill with its words on hover, unknown as a warning."""

from __future__ import annotations

from django.utils.html import format_html
from django.utils.safestring import SafeString

from providers import cells
from providers.prices import FREE, LIST, OVERRIDE, OWN, Prices

_TONES = {OWN: "", OVERRIDE: "", LIST: "", FREE: "good"}


def source(prices: Prices) -> SafeString:
    if not prices.says_something:
        return cells.pill("unknown", "warn", "Nobody knows what it costs: limits of cost refuse it. Add a price.")
    return cells.pill(prices.source, _TONES.get(prices.source, ""), prices.note)


def in_words(prices: Prices) -> SafeString:
    """One line for a model's own page."""
    if not prices.says_something:
        return format_html("{} {}", source(prices), "Limits of cost refuse it until somebody says what it costs.")
    named = (
        ("in", prices.input_cost_per_million),
        ("out", prices.output_cost_per_million),
        ("cached", prices.cached_input_cost_per_million),
    )
    told = ", ".join(f"{amount.normalize():f} {name}" for name, amount in named if amount is not None)
    return format_html('{} {} {} <span class="gw-quiet">{}</span>', source(prices), told, prices.currency, prices.note)
