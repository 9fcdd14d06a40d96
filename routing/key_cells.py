"""How client keys look in the admin: what one may use, what limits it, how its budget stands, and in which state it is."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from providers import cells
from providers.pricing import USD
from routing.models import ClientKey

SOON = timedelta(days=14)
"""An expiry that near is pointed at."""
_TONES = {"active": "good", "revoked": "bad", "expired": "warn", "team off": "warn"}


def state(key: ClientKey) -> SafeString:
    """With when and why on hover."""
    told, since, why = key.state, None, ""
    if told == "revoked":
        since, why = key.revoked_at, key.revoked_reason
    elif told == "expired":
        since = key.expires_at
    elif told != "active":
        since = key.updated_at
    hover = _("since %(time)s") % {"time": f"{timezone.localtime(since):%Y-%m-%d %H:%M:%S}"} if since else ""
    return cells.pill(_word(told), _TONES.get(told, ""), f"{hover}: {why}" if why else hover)


def _word(told: str) -> str:
    return {
        "active": _("active"),
        "suspended": _("suspended"),
        "revoked": _("revoked"),
        "expired": _("expired"),
        "team off": _("team off"),
    }.get(told, told)


def limits(figures: Any) -> Any:
    """Amounts with a short name, the exact ones on hover."""
    if not figures.limits:
        return cells.EMPTY
    return format_html(
        '<span class="gw-limits" title="{}">{}</span>',
        ", ".join(f"{amount:,} {name}" for amount, name in figures.limits),
        " · ".join(f"{short(amount)}\u202f{name}" for amount, name in figures.limits),
    )


def short(amount: int) -> str:
    """`200k`, `1.5M`: three digits at most, cut and never rounded up."""
    for size, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if amount >= size:
            return f"{amount // (size // 10) / 10:.1f}".removesuffix(".0") + letter
    return str(amount)


def budget(figures: Any) -> SafeString:
    """A bar of the budget of which most is spent."""
    if figures.budget is None:
        return cells.EMPTY
    if figures.used is None:
        return format_html('<span class="gw-quiet" title="{}">?</span>', _("The shared counters do not answer."))
    percent = figures.percent
    tone = "bad" if percent >= 100 else "warn" if percent >= figures.budget.warn_percent else "good"
    return format_html(
        '<span class="gw-used gw-used-{}" title="{}"><span>{} / {}</span>'
        '<span class="gw-used-bar" role="img" aria-label="{}"><i style="width:{}%"></i></span></span>',
        tone,
        _("%(used)s of %(amount)s %(currency)s in the %(period)s: %(name)s")
        % {
            "used": cells.amount(figures.used),
            "amount": cells.amount(figures.amount),
            "currency": USD,
            "period": figures.budget.period,
            "name": figures.budget.name,
        },
        cells.amount(figures.used),
        f"{cells.amount(figures.amount)}\u202f{USD}",
        _("%(percent)s %% used") % {"percent": f"{percent:.0f}"},
        f"{min(100.0, percent):.1f}",
    )


def expires(key: ClientKey) -> Any:
    if key.expires_at is None:
        return format_html('<span class="gw-quiet">{}</span>', _("never"))
    left = key.expires_at - timezone.now()
    if timedelta() < left < SOON and key.enabled:
        iso = timezone.localtime(key.expires_at).isoformat(timespec="seconds")
        return cells.pill(cells.relative(key.expires_at), "warn", iso)
    return cells.ago(key.expires_at)


def last_used(key: ClientKey) -> SafeString:
    if key.last_used_at is None:
        return format_html('<span class="gw-quiet">{}</span>', _("never"))
    where = key.last_used_from or ""
    return format_html('<span class="gw-name">{}<small>{}</small></span>', cells.ago(key.last_used_at), where)


def uses(key: ClientKey) -> SafeString:
    """Which models, through which policies, at which providers; scopes below where they are others than usual."""
    scopes = "" if key.scopes == ["generate"] else ", ".join(key.scopes)
    told, whole = _uses(key, 2), _uses(key, 200)
    return format_html(
        '<span class="gw-name"><span title="{0}">{1}</span><small title="{2}">{2}</small></span>', whole, told, scopes
    )


def _uses(key: ClientKey, most: int) -> str:
    subjects = (
        (_("policies"), key.allowed_policies),
        (_("models"), key.allowed_models),
        (_("providers"), key.allowed_providers),
    )
    told = [f"{subject} {_some(patterns, most)}" for subject, patterns in subjects if patterns is not None]
    return "; ".join(told) or _("everything")


def _some(patterns: Sequence[str], most: int) -> str:
    more = f" +{len(patterns) - most}" if len(patterns) > most else ""
    return (", ".join(patterns[:most]) or _("none")) + more
