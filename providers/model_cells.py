"""How a model looks in a row: what it can do as signs with names, its context, what it costs and who says so, whether it serves."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any, NamedTuple

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as lazy
from django.utils.translation import ngettext

from providers import capabilities, cells, price_list
from providers.live_figures import Use
from providers.models import ProviderModel
from providers.prices import Prices


class Sign(NamedTuple):
    """`icon` is a name of the icon font."""

    icon: str
    word: Any


_SIGNS = {
    "chat": Sign("chat", lazy("chat")),
    "completion": Sign("text_fields", lazy("completion")),
    "embedding": Sign("scatter_plot", lazy("embeddings")),
    "vision": Sign("visibility", lazy("sees pictures")),
    "tools": Sign("build", lazy("calls tools")),
    "json_mode": Sign("data_object", lazy("answers in JSON")),
    "streaming": Sign("stream", lazy("streams")),
    "reasoning": Sign("psychology", lazy("reasons")),
    "audio": Sign("graphic_eq", lazy("audio")),
    "code": Sign("code", lazy("code")),
    "image_generation": Sign("brush", lazy("makes pictures")),
}
_ORDER = {name: place for place, name in enumerate(_SIGNS)}
_MOST_SIGNS = 4


def abilities(words: Iterable[Any]) -> SafeString:
    """Signs for those that have one, the others by number; every one named for who hovers or listens."""
    held = sorted(capabilities.canonical(map(str, words)), key=lambda name: (_ORDER.get(name, len(_ORDER)), name))
    if not held:
        return cells.EMPTY
    signed = [name for name in held if name in _SIGNS][:_MOST_SIGNS]
    rest = [name for name in held if name not in signed]
    signs = format_html_join(
        "",
        '<span class="gw-sign" title="{1}"><span class="material-symbols-outlined" aria-hidden="true">{0}</span>'
        '<span class="gw-sr">{1}</span></span>',
        ((_SIGNS[name].icon, _SIGNS[name].word) for name in signed),
    )
    more = (
        format_html('<span class="gw-sign gw-sign-more" title="{}">+{}</span>', ", ".join(rest), len(rest))
        if rest
        else ""
    )
    return format_html('<span class="gw-signs">{}{}</span>', signs, more)


def context(tokens: int | None) -> SafeString:
    """`128k`, the exact number on hover."""
    if tokens is None:
        return cells.number(None)
    exact = f"{tokens:,}".replace(",", "\u202f")
    return format_html('<span class="gw-num" title="{}">{}</span>', _("%(n)s tokens") % {"n": exact}, _rounded(tokens))


def _rounded(tokens: int) -> str:
    """As vendors write it: 128000 and 131072 are both 128k."""
    for size, unit in ((1_000_000, "M"), (1_000, "k")):
        if tokens >= size:
            whole = 1024 * 1024 if unit == "M" else 1024
            exact = tokens // whole if tokens % size and tokens % whole == 0 else tokens / size
            return f"{exact:.1f}".removesuffix(".0") + unit
    return str(tokens)


def price(amount: Decimal | None, currency: str = "USD") -> SafeString:
    """Per million tokens; the currency where it is not the usual one. Free is a word."""
    if amount is not None and not amount:
        return format_html('<span class="gw-num gw-quiet">{}</span>', _("free"))
    return cells.money(amount, "" if currency == "USD" else currency)


def price_in(prices: Prices) -> SafeString:
    """What tokens from the provider's cache cost stands below it."""
    full = price(prices.input_cost_per_million, prices.currency)
    cached = prices.cached_input_cost_per_million
    if not cached:
        return full
    told = _("%(price)s cached") % {"price": cells.amount(cached)}
    return format_html('<span class="gw-pair">{}<small class="gw-num">{}</small></span>', full, told)


def use(told: Use) -> SafeString:
    if not told.requests:
        return cells.number(None)
    spent = ", ".join(f"{cells.amount(cost)} {currency}" for currency, cost in (told.cost or {}).items() if cost)
    title = ngettext("%(n)s request, %(tokens)s tokens", "%(n)s requests, %(tokens)s tokens", told.requests) % {
        "n": told.requests,
        "tokens": f"{told.tokens:,}".replace(",", "\u202f"),
    }
    return format_html(
        '<span class="gw-num gw-pair" title="{}"><strong>{}</strong><small>{}</small></span>',
        title,
        f"{told.requests:,}".replace(",", "\u202f"),
        spent,
    )


def enabled(row: ProviderModel) -> SafeString:
    """Off by a person, or out by the gateway itself, with why and since when."""
    if not row.enabled:
        return cells.pill(_("off by hand"), "", _("Disabled by hand, or because it was gone from the upstream's list."))
    if row.auto_disabled_at is not None:
        shown = cells.pill(_("disabled itself"), "bad", row.auto_disabled_reason)
        return format_html("{} {}", shown, cells.ago(row.auto_disabled_at))
    return cells.pill(_("on"), "good", _("enabled"))


def deprecation(row: ProviderModel, base_url: str = "") -> str:
    """Why it should be replaced: its own date, or the word of the vendor's list; empty for nothing known."""
    parameters = row.parameters if isinstance(row.parameters, dict) else {}
    if date := parameters.get("deprecation_date"):
        return _("The vendor ends it on %(date)s.") % {"date": date}
    listed = price_list.listing(row.provider.provider_type, row.model_id, base_url)
    if listed is not None and listed.deprecated:
        return _("The vendor calls it deprecated (%(where)s).") % {"where": listed.note}
    return ""
