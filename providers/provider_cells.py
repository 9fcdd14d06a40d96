"""How a provider's state looks in a row of the list, and where else it is told: a word, since when, and why on hover."""

from __future__ import annotations

from collections.abc import Sequence

from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from providers import cells
from providers.live_figures import Cell
from providers.models import Provider
from providers.provider_rows import Standing

LIVE = ("state", "circuit", "p95", "errors", "is_on")
"""Cells that move while nobody edits."""
_PITCH, _CELL, _HEIGHT = 4, 3, 18


def state(provider: Provider, known: Standing) -> SafeString:
    last = known.last_probe
    if last is None:
        return cells.pill(_("unknown"), "", _("No probe has run yet."))
    word, tone = cells.state_of(last)
    lines = [
        last.message or _("Every stage that ran passed."),
        _("probed %(when)s") % {"when": f"{timezone.localtime(last.at):%Y-%m-%d %H:%M:%S}"},
    ]
    if known.since:
        lines.insert(1, _("since %(when)s") % {"when": f"{timezone.localtime(known.since):%Y-%m-%d %H:%M:%S}"})
    if not provider.enabled:
        lines.append(_("The provider is disabled: this was its last probe."))
    return format_html("{} {}", cells.pill(word, tone, "\n".join(lines)), cells.ago(known.since or last.at))


def breaker(known: Standing) -> SafeString:
    told = known.breaker
    if told is None:
        return format_html('<span class="gw-quiet" title="{}">{}</span>', _("Every model is asked."), _("closed"))
    shown = cells.pill(told.words, told.tone, told.why)
    if told.back_at is None:
        return shown
    seconds = max(0, int((told.back_at - timezone.now()).total_seconds()))
    return format_html(
        '{} <span class="gw-quiet gw-countdown" data-seconds="{}" title="{}">{}</span>',
        shown,
        seconds,
        f"{told.turns} {timezone.localtime(told.back_at).isoformat(timespec='seconds')}",
        f"{told.turns} {cells.relative(told.back_at)}",
    )


def p95(known: Standing) -> SafeString:
    figures = known.figures
    return _two(_time(figures.p95_now), _time(figures.p95), tries=figures.tries_now)


def errors(known: Standing) -> SafeString:
    figures = known.figures
    tone = "" if not figures.error_rate_now else "bad" if figures.error_rate_now > 0.25 else "warn"
    return _two(share(figures.error_rate_now), share(figures.error_rate), tries=figures.tries_now, tone=tone)


def models(known: Standing) -> SafeString:
    title = _("%(on)s of %(all)s enabled") % {"on": known.models_on, "all": known.models_all}
    return format_html('<span class="gw-num" title="{}">{}</span>', title, known.models_on)


def enabled(provider: Provider, known: Standing) -> SafeString:
    """Off by a person, out by the gateway, held back or without a key: told apart by word and hover."""
    if not provider.enabled:
        off = known.switched_off
        why = _("Disabled by hand.")
        if off is not None:
            why = _("Disabled by %(who)s, %(when)s.") % {"who": cells.who(off.actor), "when": cells.relative(off.at)}
            why += f" {off.reason}" if off.reason else ""
        return cells.pill(_("off by hand"), "", why)
    if known.needs_key and not known.keys_usable:
        why = _("Its keys are held back: it points elsewhere now.") if known.keys_held else _("No key is usable here.")
        return cells.pill(_("no key"), "bad", why)
    if known.models_out and known.models_out == known.models_on:
        return cells.pill(
            _("all models out"), "bad", _("Every enabled model failed too often in a row and is set aside.")
        )
    if known.models_out:
        words = ngettext("%(n)s model out", "%(n)s models out", known.models_out) % {"n": known.models_out}
        return cells.pill(words, "warn", _("They failed too often in a row; a good probe brings them back."))
    return cells.pill(_("on"), "good", _("enabled"))


def share(rate: float | None) -> str:
    if rate is None:
        return "–"
    percent = 100 * rate
    return f"{percent:.{1 if 0 < percent < 10 else 0}f}\u202f%"


def strip(parts: Sequence[Cell]) -> SafeString:
    """24 hours in one small picture: three shapes, whatever happened in them."""
    if not parts:
        return format_html('<span class="gw-quiet">{}</span>', _("no traffic"))
    tries, failed = sum(part.tries for part in parts), sum(part.failed for part in parts)
    said = _("The last 24 hours by half hours: %(failed)s of %(tries)s tries failed") % {
        "failed": failed,
        "tries": tries,
    }
    paths = format_html_join(
        "",
        '<path class="gw-{}" d="{}"/>',
        (
            (tone or "none", mark_safe("".join(_box(n, not tone) for n, part in enumerate(parts) if part.tone == tone)))
            for tone in dict.fromkeys(part.tone for part in parts)
        ),
    )
    return format_html(
        '<svg class="gw-strip-small" viewBox="0 0 {} {}" preserveAspectRatio="none" role="img" aria-label="{}"><title>{}</title>{}</svg>',
        len(parts) * _PITCH - 1,
        _HEIGHT,
        said,
        said,
        paths,
    )


def _box(place: int, low: bool) -> str:
    top = _HEIGHT - 5 if low else 0
    return f"M{place * _PITCH} {top}h{_CELL}V{_HEIGHT}h-{_CELL}z"


def _two(now: object, day: object, *, tries: int, tone: str = "") -> SafeString:
    """The last five minutes, and a day below; the day alone where there were none."""
    if now == day == "–":
        return cells.number(None)
    if now == "–":
        return format_html('<span class="gw-num gw-quiet" title="{}">{}</span>', _("of a day"), day)
    title = ngettext("%(n)s try in the last five minutes", "%(n)s tries in the last five minutes", tries) % {"n": tries}
    return format_html(
        '<span class="gw-num gw-pair" title="{}"><strong class="{}">{}</strong><small>{}</small></span>',
        title,
        f"gw-text-{tone}" if tone else "" if tries else "gw-quiet",
        now,
        day,
    )


def _time(ms: float | None) -> str:
    if ms is None:
        return "–"
    return f"{ms / 1000:.1f}\u202fs" if ms >= 1000 else f"{ms:.0f}\u202fms"
