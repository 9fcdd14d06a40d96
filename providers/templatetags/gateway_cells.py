"""The cells of `providers.cells` for templates."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from django import template
from django.utils.html import format_html_join
from django.utils.safestring import SafeString, mark_safe

from providers import cells
from providers.models import ProbeResult

register = template.Library()

_STAGES = {
    "dns": "DNS",
    "tcp": "TCP",
    "tls": "TLS",
    "auth": "Key",
    "list_models": "List of models",
    "one_token": "One token",
    "one_stream": "One stream",
}


@register.filter
def stage_label(name: str) -> str:
    return _STAGES.get(name, name)


@register.filter
def grouped(number: int) -> str:
    """`250 120`, with thin spaces that do not break."""
    return f"{number:,}".replace(",", "\u202f")


@register.filter
def breakable(code: str) -> SafeString:
    """An error's code, which a narrow cell breaks after an underline and not within a word."""
    return format_html_join(mark_safe("_<wbr>"), "{}", ((word,) for word in code.split("_")))


@register.filter
def who(actor: str) -> str:
    return cells.who(actor or "")


@register.simple_tag
def time_ago(at: datetime | None) -> SafeString:
    return cells.ago(at)


@register.simple_tag
def milliseconds(value: float | None) -> SafeString:
    return cells.milliseconds(value)


@register.simple_tag
def money(value: Decimal | None, currency: str = "") -> SafeString:
    return cells.money(value, currency)


@register.simple_tag
def state_pill(probe: ProbeResult | None) -> SafeString:
    return cells.pill(*cells.state_of(probe), probe.message if probe else "")
