"""How prices look in the admin: numbers to the right, the source as a pill with its words on hover, unknown as a warning."""

from __future__ import annotations

from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as lazy

from providers import cells
from providers.prices import FREE, LIST, OVERRIDE, OWN, Prices

_WORDS = {OWN: lazy("own"), OVERRIDE: lazy("override"), LIST: lazy("list price"), FREE: lazy("free")}
_TONES = {OWN: "", OVERRIDE: "", LIST: "", FREE: "good"}


def source(prices: Prices) -> SafeString:
    """Who says so; the whole sentence with the list's edition on hover."""
    if not prices.says_something:
        why = _("Nobody knows what it costs: limits of cost refuse it. Add a price.")
        return cells.pill(_("unknown"), "warn", why)
    word = _WORDS.get(prices.source)
    return cells.pill(str(word) if word else prices.source, _TONES.get(prices.source, ""), prices.note)


def in_words(prices: Prices) -> SafeString:
    """One line for a model's own page."""
    if not prices.says_something:
        told = _("Limits of cost refuse it until somebody says what it costs.")
        return format_html("{} {}", source(prices), told)
    named = (
        (_("in"), prices.input_cost_per_million),
        (_("out"), prices.output_cost_per_million),
        (_("cached"), prices.cached_input_cost_per_million),
    )
    told = ", ".join(f"{amount.normalize():f} {name}" for name, amount in named if amount is not None)
    return format_html('{} {} {} <span class="gw-quiet">{}</span>', source(prices), told, prices.currency, prices.note)
