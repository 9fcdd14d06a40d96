"""Requests as traces, in a source system's shape: one span for the request and one for each try at a provider.

Told from what is kept of every request's use; prompts and answers are not in it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db.models import Avg, Count, Q, QuerySet, Value
from django.db.models.functions import Coalesce, NullIf

from inference.models import Trace
from routing.rollout import GATEWAY

MOST_OPERATIONS = 200
_FAILED = Q(status__gte=400)


def rows(hours: int, now: datetime) -> QuerySet[Trace]:
    """What was asked of the gateway in the last hours, newest first."""
    return Trace.objects.filter(side=GATEWAY, at__gte=now - timedelta(hours=hours))


def listed(hours: int, limit: int, now: datetime) -> list[dict[str, Any]]:
    return [_summary(row) for row in rows(hours, now)[:limit]]


def trace(trace_id: str) -> dict[str, Any] | None:
    row = Trace.objects.filter(request_id=trace_id, side=GATEWAY).first()
    if row is None:
        return None
    return {"trace_id": row.request_id, "spans": list(_spans(row)), "total_duration_ms": row.duration_ms}


def metrics(hours: int, now: datetime) -> dict[str, Any]:
    found = rows(hours, now).order_by()
    totals = found.aggregate(total=Count("id"), failed=Count("id", filter=_FAILED), average=Avg("duration_ms"))
    asked_for = Coalesce(NullIf("policy", Value("")), "requested_model")
    operations = (
        found.annotate(node=asked_for)
        .values("node")
        .annotate(times=Count("id"), failed=Count("id", filter=_FAILED), average=Avg("duration_ms"))
        .order_by("-times", "node")[:MOST_OPERATIONS]
    )
    return {
        "total_traces": totals["total"],
        "successful_traces": totals["total"] - totals["failed"],
        "error_rate": totals["failed"] / totals["total"] if totals["total"] else 0.0,
        "avg_duration_ms": round(totals["average"] or 0.0, 3),
        "operations": {
            _operation(one["node"]): {
                "count": one["times"],
                "errors": one["failed"],
                "avg_duration_ms": round(one["average"], 3),
            }
            for one in operations
        },
        "time_range_hours": hours,
    }


def _summary(row: Trace) -> dict[str, Any]:
    return {
        "trace_id": row.request_id,
        "operation": _operation(_node(row)),
        "start_time": _time(row.at),
        "duration_ms": row.duration_ms,
        "status": _status(row.status),
        "metadata": _metadata(row),
    }


def _spans(row: Trace) -> Iterator[dict[str, Any]]:
    own = _span_id(row.request_id, 0)
    yield {
        "trace_id": row.request_id,
        "span_id": own,
        "parent_span_id": None,
        "operation": _operation(_node(row)),
        "start_time": _time(row.at),
        "end_time": _time(row.at + timedelta(milliseconds=row.duration_ms)),
        "status": _status(row.status),
        "metadata": _metadata(row),
    }
    for number, one in enumerate(json.loads(row.attempts_log) if row.attempts_log else [], 1):
        began = datetime.fromtimestamp(one["started"], UTC)
        took = one.get("duration_ms", 0.0)
        yield {
            "trace_id": row.request_id,
            "span_id": _span_id(row.request_id, number),
            "parent_span_id": own,
            "operation": "attempt" if one["status"] else "passed_over",
            "start_time": _time(began),
            "end_time": _time(began + timedelta(milliseconds=took)),
            "status": _status(one["status"] or 0),
            "metadata": {
                "provider": one["provider_id"],
                "model": one["model_id"],
                "reason": one["reason"],
                "latency_ms": took,
                "error": one.get("code") or None,
                "tokens_used": one.get("input_tokens", 0) + one.get("output_tokens", 0),
                "cost_usd": float(one["cost"]) if one.get("cost") is not None else None,
            },
        }


def _metadata(row: Trace) -> dict[str, Any]:
    return {
        "model": row.model_id,
        "provider": row.provider_id,
        "node": _node(row),
        "requested_model": row.requested_model,
        "tokens_used": row.input_tokens + row.output_tokens,
        "cost_usd": None if row.cost is None else float(row.cost),
        "latency_ms": row.duration_ms,
        "attempts": row.attempts,
        "error": row.error_code or None,
    }


def _node(row: Trace) -> str:
    return row.policy or row.requested_model


def _operation(node: str) -> str:
    return f"llm_call_{node}"


def _status(status: int) -> str:
    return "error" if status >= 400 or not status else "completed"


def _span_id(request_id: str, number: int) -> str:
    """Eight hexadecimal digits, the same whenever the trace is told."""
    return hashlib.blake2b(f"{request_id}/{number}".encode(), digest_size=4).hexdigest()


def _time(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
