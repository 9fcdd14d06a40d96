"""How the providers fare: a strip of the last day for each, its state, its breaker and its figures; who needs somebody first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import OuterRef, Subquery
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from gateway_project.overview import links
from providers import breaker_states, cells, live_figures
from providers.breaker_states import BreakerState
from providers.live_figures import STRIP_CELLS, Cell, Figures
from providers.models import ProbeResult, Provider

MOST_READ, MOST_SHOWN, MOST_OFF = 60, 10, 4
_DAY = timedelta(hours=24)
_ORDER = {"bad": 0, "warn": 1, "": 2, "good": 3}


@dataclass(frozen=True, slots=True)
class Line:
    """`strip` are pairs of a tone and what it says; `said` is the strip in words. `at` is when the last probe was."""

    provider: Provider
    word: str
    tone: str
    why: str
    at: datetime | None
    breaker: BreakerState | None
    strip: tuple[tuple[str, str], ...]
    said: str
    tries: int
    failed: Any
    p95: Any
    requests: str
    failures: str
    slowest: str


def lines(now: datetime) -> tuple[list[Line], int]:
    """Those that need somebody first, and how many there are beside."""
    last = ProbeResult.objects.filter(provider=OuterRef("pk")).order_by("-at").values("id")[:1]
    shown = Provider.objects.filter(enabled=True).annotate(last_probe_id=Subquery(last)).defer("secret_params")
    providers = list(shown[:MOST_READ])
    probes = ProbeResult.objects.in_bulk([row.last_probe_id for row in providers if row.last_probe_id])
    ids = [row.provider_id for row in providers]
    served, breakers = live_figures.of(ids), breaker_states.read(ids)
    found = [
        _line(row, probes.get(row.last_probe_id), served.get(row.provider_id), breakers.get(row.provider_id), now)
        for row in providers
    ]
    found.sort(key=_urgency)
    return found[:MOST_SHOWN], max(0, len(found) - MOST_SHOWN)


def switched_off() -> tuple[list[Provider], bool]:
    """Providers that are not asked until somebody switches them on again, latest first, and whether there are more."""
    rows = list(Provider.objects.filter(enabled=False).order_by("-updated_at").defer("secret_params")[: MOST_OFF + 1])
    return rows[:MOST_OFF], len(rows) > MOST_OFF


def _line(
    provider: Provider, probe: ProbeResult | None, told: Figures | None, breaker: BreakerState | None, now: datetime
) -> Line:
    told = told or live_figures.NOTHING
    word, tone = cells.state_of(probe)
    rate = told.error_rate or 0.0
    return Line(
        provider,
        word,
        tone,
        probe.message if probe else _("No probe has run yet."),
        probe.at if probe else None,
        breaker,
        tuple((cell.tone, _words(cell)) for cell in told.strip) or (("", _("nothing asked")),) * STRIP_CELLS,
        _together(told.strip),
        told.tries,
        cells.number(100 * rate, "%", 1 if 0 < rate < 0.1 else 0),
        cells.milliseconds(told.p95),
        links.requests(now - _DAY, provider=provider.provider_id),
        links.requests(now - _DAY, provider=provider.provider_id, outcome="failed"),
        links.requests(now - _DAY, provider=provider.provider_id, slower_than_ms=round(told.p95)) if told.p95 else "",
    )


def _urgency(line: Line) -> tuple[int, int]:
    tones = [line.tone, *([line.breaker.tone] if line.breaker else [])]
    return min(_ORDER.get(tone, 2) for tone in tones), -line.tries


def _words(cell: Cell) -> str:
    at = f"{timezone.localtime(cell.at):%H:%M}"
    if not cell.tries:
        return _("%(at)s: nothing asked") % {"at": at}
    tries = ngettext("%(count)d try", "%(count)d tries", cell.tries) % {"count": cell.tries}
    return _("%(at)s: %(tries)s, %(failed)d failed") % {"at": at, "tries": tries, "failed": cell.failed}


def _together(strip: Sequence[Cell]) -> str:
    count = {tone: sum(cell.tone == tone for cell in strip) for tone in ("good", "warn", "bad")}
    return _("Half hours of the last day: %(good)d ok, %(warn)d degraded, %(bad)d failing, %(idle)d idle") % {
        **count,
        "idle": STRIP_CELLS - sum(count.values()),
    }
