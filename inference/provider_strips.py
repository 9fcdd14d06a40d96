"""How each provider served lately, from the roll-ups: 48 half hours, the last five minutes, a day. For dashboard and registry.

Whole days of minutes are read once a minute for all providers together; only the last five minutes are read each time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import datetime, timedelta
from typing import Any

from django.core.cache import cache
from django.db.models import Q, Sum
from django.db.models.functions import ExtractMinute, TruncHour
from django.urls import reverse
from django.utils import timezone

from inference import rollup_windows
from inference.models import Trace, TrafficRollup
from inference.rollup_models import DURATION
from inference.rollup_windows import NO_TIMES, NOTHING, Amounts, Times
from inference.trace_search import Sight
from providers.live_figures import STRIP_CELLS, Cell, Figures, Use
from routing.rollout import GATEWAY
from routing.visibility import teams_of

CELL, DAY, NOW = timedelta(minutes=30), timedelta(hours=24), timedelta(minutes=5)
KEPT_SECONDS = 45
WARN_ABOVE, BAD_ABOVE = 0.02, 0.25
"""Shares of failed tries from which on half an hour is not good any more."""
_AMOUNTS = tuple(field.name for field in fields(Amounts))
_SERVED = Q(side=GATEWAY) & ~Q(provider_id="")
_SHOWN = (
    *("request_id", "at", "model_id", "status"),
    *("error_code", "duration_ms", "attempts", "client_key_prefix"),
)


def strips(now: datetime) -> dict[str, tuple[Cell, ...]]:
    """48 half hours by provider, oldest first; those that were asked. The last one is still under way."""
    last = _half_hour(now)
    starts = [last - CELL * back for back in range(STRIP_CELLS - 1, -1, -1)]
    rows = (
        TrafficRollup.objects.filter(_SERVED, minute__gte=starts[0], minute__lt=last + CELL)
        .annotate(hour=TruncHour("minute", tzinfo=now.tzinfo), into=ExtractMinute("minute"))
        .order_by()
        .values_list("provider_id", "hour", "into")
        .annotate(asked=Sum("requests"), bad=Sum("failed"), left_=Sum("left"), tries=Sum("failed_tries"))
    )
    counted: dict[str, dict[datetime, list[int]]] = defaultdict(lambda: defaultdict(lambda: [0, 0]))
    for provider_id, hour, into, asked, bad, left, failed_tries in rows:
        both = counted[provider_id][hour + CELL * (into // 30)]
        both[0] += max(0, asked - bad - left) + failed_tries
        both[1] += failed_tries
    return {
        provider_id: tuple(_cell(at, *found.get(at, (0, 0))) for at in starts) for provider_id, found in counted.items()
    }


def of(provider_ids: Sequence[str], now: datetime | None = None) -> Mapping[str, Figures]:
    """The figures of those providers that were asked within a day."""
    now = now or timezone.now()
    day = _day(now)
    wanted = _SERVED & Q(provider_id__in=list(provider_ids))
    lately = rollup_windows.amounts(now - NOW, now, wanted, ["provider_id"])
    took = rollup_windows.times(DURATION, now - NOW, now, wanted, ["provider_id"])
    found = {}
    for provider_id in provider_ids:
        if provider_id not in day and (provider_id,) not in lately:
            continue
        amounts, (p50, p95, p99), strip = _read(day.get(provider_id))
        recent = lately.get((provider_id,), NOTHING)
        found[provider_id] = Figures(
            tries_now=_tries(recent),
            error_rate_now=recent.try_error_rate,
            p95_now=took.get((provider_id,), NO_TIMES).percentile(95),
            tries=_tries(amounts),
            error_rate=amounts.try_error_rate,
            p50=p50,
            p95=p95,
            p99=p99,
            strip=strip,
        )
    return found


def use_of(provider_ids: Sequence[str], now: datetime | None = None) -> Mapping[tuple[str, str], Use]:
    """What each model of those providers was asked for within a day."""
    now = now or timezone.now()
    by = ["provider_id", "model_id", "currency"]
    found: dict[tuple[str, str], Use] = {}
    for (provider_id, model_id, currency), one in rollup_windows.amounts(
        now - DAY, now, _SERVED & Q(provider_id__in=list(provider_ids)), by
    ).items():
        before = found.get((provider_id, model_id), Use())
        found[provider_id, model_id] = Use(
            before.requests + one.requests,
            before.failed + one.failed,
            before.tokens + one.input_tokens + one.output_tokens,
            {**(before.cost or {}), currency: one.cost},
        )
    return found


def recent(user: Any, provider_id: str, most: int) -> list[dict[str, Any]]:
    """The last requests that this provider served, of a day, newest first; of those that the user may see."""
    if not user.has_perm("inference.view_trace"):
        return []
    served = Trace.objects.filter(provider_id=provider_id, side=GATEWAY, at__gte=timezone.now() - DAY)
    rows = Sight(teams=teams_of(user)).narrowed(served).order_by("-at", "-pk")
    return [_told(row) for row in rows.only(*_SHOWN)[:most]]


def _told(trace: Trace) -> dict[str, Any]:
    well, limited = trace.status < 400 and not trace.error_code, trace.status in (429, 499)
    return {
        "at": trace.at,
        "link": reverse("admin:inference_trace_change", args=[trace.request_id]),
        "model_id": trace.model_id,
        "status": trace.status,
        "tone": "good" if well else "warn" if limited else "bad",
        "error": trace.error_code,
        "took_ms": trace.duration_ms,
        "tries": trace.attempts,
        "client": trace.client_key_prefix,
    }


_Percentiles = tuple[float | None, float | None, float | None]
_Kept = tuple[tuple[Any, ...], _Percentiles, datetime | None, tuple[tuple[int, int], ...]]
"""Plain values, since the cache would take longer over a thousand providers' objects than the database over their sums."""


def _read(kept: _Kept | None) -> tuple[Amounts, _Percentiles, tuple[Cell, ...]]:
    if kept is None:
        return NOTHING, (None, None, None), ()
    amounts, percentiles, start, counts = kept
    cells = tuple(_cell(start + CELL * number, *both) for number, both in enumerate(counts)) if start else ()
    return Amounts(*amounts), percentiles, cells


def _day(now: datetime) -> dict[str, _Kept]:
    kept = cache.get("provider-days")
    if kept is None:
        amounts = rollup_windows.amounts(now - DAY, now, _SERVED, ["provider_id"])
        took = rollup_windows.times(DURATION, now - DAY, now, _SERVED, ["provider_id"])
        cells = strips(now)
        kept = {
            key: (
                tuple(getattr(one, name) for name in _AMOUNTS),
                _percentiles(took.get((key,), NO_TIMES)),
                cells[key][0].at if key in cells else None,
                tuple((cell.tries, cell.failed) for cell in cells.get(key, ())),
            )
            for (key,), one in amounts.items()
        }
        cache.set("provider-days", kept, KEPT_SECONDS)
    return kept


def _cell(at: datetime, tries: int, failed: int) -> Cell:
    share = failed / tries if tries else 0.0
    tone = "" if not tries else "bad" if share > BAD_ABOVE else "warn" if share > WARN_ABOVE else "good"
    return Cell(at, tries, failed, tone)


def _percentiles(times: Times) -> _Percentiles:
    return times.percentile(50), times.percentile(95), times.percentile(99)


def _tries(amounts: Amounts) -> int:
    return max(0, amounts.requests - amounts.failed - amounts.left) + amounts.failed_tries


def _half_hour(at: datetime) -> datetime:
    return at.replace(minute=30 * (at.minute // 30), second=0, microsecond=0)
