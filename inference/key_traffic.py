"""What a client key asked lately: sums of the hours, and its latest requests."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, timedelta
from decimal import Decimal
from typing import Any

from django.db.models import Sum
from django.db.models.functions import TruncDay
from django.utils import timezone

from inference.models import Trace
from inference.rollup_models import UsageRollup
from providers.pricing import USD
from routing.key_traffic import CALLS, DAYS, HOURS, Call, Day, Traffic
from routing.rollout import GATEWAY

_SHOWN = (
    *("request_id", "at", "requested_model", "provider_id", "model_id"),
    *("status", "error_code", "duration_ms", "cost", "currency"),
)
_SUMS = ("requests", "failed", "input_tokens", "output_tokens", "cost", "correction")


def figures(key_id: int) -> Traffic:
    now = timezone.now().astimezone(UTC)
    hour = now.replace(minute=0, second=0, microsecond=0)
    rows = UsageRollup.objects.filter(client_key_id=key_id, side=GATEWAY).order_by()
    told = list(_summed(rows.filter(hour__gt=hour - timedelta(hours=HOURS)).values("currency")))
    midnight = hour.replace(hour=0)
    first = midnight - timedelta(days=DAYS - 1)
    by_day = rows.filter(hour__gte=first).annotate(day=TruncDay("hour", tzinfo=UTC)).values("day", "currency")
    days: dict[Any, dict[str, Any]] = defaultdict(lambda: {"requests": 0, "failed": 0, "cost": Decimal(0)})
    for row in _summed(by_day):
        day = days[row["day"].date()]
        day["requests"] += row["sum_requests"]
        day["failed"] += row["sum_failed"]
        day["cost"] += _cost(row) if row["currency"] == USD else 0
    dates = [(first + timedelta(days=number)).date() for number in range(DAYS)]
    return Traffic(
        requests=sum(row["sum_requests"] for row in told),
        failed=sum(row["sum_failed"] for row in told),
        input_tokens=sum(row["sum_input_tokens"] for row in told),
        output_tokens=sum(row["sum_output_tokens"] for row in told),
        costs={row["currency"]: _cost(row) for row in told if _cost(row)},
        days=tuple(Day(at, **days[at]) for at in dates),
    )


def calls(key_id: int) -> tuple[Call, ...]:
    rows = Trace.objects.filter(client_key_id=key_id, side=GATEWAY).order_by("-at").only(*_SHOWN)[:CALLS]
    return tuple(
        Call(
            row.request_id,
            row.at,
            row.requested_model,
            "/".join(filter(None, (row.provider_id, row.model_id))),
            row.status,
            row.error_code,
            row.duration_ms,
            row.cost,
            row.currency,
        )
        for row in rows
    )


def _summed(rows: Any) -> Any:
    return rows.annotate(**{f"sum_{name}": Sum(name) for name in _SUMS})


def _cost(row: dict[str, Any]) -> Decimal:
    return Decimal(row["sum_cost"] + row["sum_correction"])
