"""Requests as traces, in a source system's shape: one span for the request and one for each try at a provider.

Told from the traces and the sums over them; prompts and answers are not in it.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db.models import Q, QuerySet

from inference import trace_ids
from inference.models import Trace
from inference.rollup_windows import NOTHING, Amounts, amounts
from inference.trace_partitions import horizon
from inference.trace_search import EVERYTHING, Search, find
from routing.rollout import GATEWAY

MOST_OPERATIONS = 200
MOST_REQUESTS = 100
"""Of one trace."""
UNKNOWN = "unknown"
"""Requests that name nothing, and those for names that nothing was found under."""


def rows(hours: int, now: datetime) -> QuerySet[Trace]:
    """What was asked of the gateway in the last hours, newest first."""
    since = max(now - timedelta(hours=hours), horizon(now))
    return Trace.objects.filter(side=GATEWAY, at__gte=since).order_by("-at", "-id")


def listed(hours: int, limit: int, now: datetime) -> list[dict[str, Any]]:
    return [_summary(row) for row in rows(hours, now).defer("asked", "attempts_log", "decision")[:limit]]


def trace(trace_id: str, now: datetime) -> dict[str, Any] | None:
    """All requests of a trace with every try, under the name that its sender gave it or the id of a request."""
    found = find(Search(id=trace_id, side=GATEWAY), EVERYTHING, now=now, limit=MOST_REQUESTS, whole=True).rows[::-1]
    if not found:
        return None
    end = max(row.at + timedelta(milliseconds=row.duration_ms) for row in found)
    took = found[0].duration_ms if len(found) == 1 else (end - found[0].at) / timedelta(milliseconds=1)
    return {
        "trace_id": _name(found[0]),
        "spans": [span for row in found for span in _spans(row)],
        "total_duration_ms": round(took, 3),
    }


def metrics(hours: int, now: datetime) -> dict[str, Any]:
    """From the sums that are kept of every minute and hour, so that it takes no longer when there are many."""
    by_name: dict[str, Amounts] = defaultdict(lambda: NOTHING)
    told = amounts(now - timedelta(hours=hours), now, Q(side=GATEWAY), by=("policy", "requested_model"))
    for (policy, requested_model), sums in told.items():
        name = policy or requested_model or UNKNOWN
        by_name[name] = by_name[name].plus(sums)
    by_name = {name: sums for name, sums in by_name.items() if sums.requests}
    total = _all(by_name.values())
    most = sorted(by_name.items(), key=lambda one: (-one[1].requests, one[0]))[:MOST_OPERATIONS]
    return {
        "total_traces": total.requests,
        "successful_traces": total.requests - _failed(total),
        "error_rate": _failed(total) / total.requests if total.requests else 0.0,
        "avg_duration_ms": round(total.mean_ms or 0.0, 3),
        "operations": {
            _operation(name): {
                "count": sums.requests,
                "errors": _failed(sums),
                "avg_duration_ms": round(sums.mean_ms or 0.0, 3),
            }
            for name, sums in most
        },
        "time_range_hours": hours,
    }


def _all(sums: Iterable[Amounts]) -> Amounts:
    total = NOTHING
    for one in sums:
        total = total.plus(one)
    return total


def _failed(sums: Amounts) -> int:
    """Here a client that left is an error as well."""
    return sums.failed + sums.left


def _summary(row: Trace) -> dict[str, Any]:
    return {
        "trace_id": _name(row),
        "operation": _operation(_node(row)),
        "start_time": _time(row.at),
        "duration_ms": row.duration_ms,
        "status": _status(row.status, row.error_code),
        "metadata": _metadata(row),
    }


def _spans(row: Trace) -> Iterator[dict[str, Any]]:
    own = trace_ids.span_id(row.request_id)
    yield {
        "trace_id": _name(row),
        "span_id": own,
        "parent_span_id": row.parent_span_id or None,
        "operation": _operation(_node(row)),
        "start_time": _time(row.at),
        "end_time": _time(row.at + timedelta(milliseconds=row.duration_ms)),
        "status": _status(row.status, row.error_code),
        "metadata": _metadata(row),
    }
    for number, one in enumerate(json.loads(row.attempts_log) if row.attempts_log else [], 1):
        began = datetime.fromtimestamp(one["started"], UTC)
        took = one.get("duration_ms", 0.0)
        yield {
            "trace_id": _name(row),
            "span_id": _span_id(row.request_id, number),
            "parent_span_id": own,
            "operation": "attempt" if one["status"] else "passed_over",
            "start_time": _time(began),
            "end_time": _time(began + timedelta(milliseconds=took)),
            "status": _status(one["status"] or 0, one.get("code") or ""),
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
        "request_id": row.request_id,
        "session_id": row.session_id or None,
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


def _name(row: Trace) -> str:
    return row.trace_id or row.request_id


def _node(row: Trace) -> str:
    return row.policy or row.requested_model


def _operation(node: str) -> str:
    return f"llm_call_{node or UNKNOWN}"


def _status(status: int, error_code: str) -> str:
    """A stream that broke off has begun with 200."""
    return "error" if status >= 400 or not status or error_code else "completed"


def _span_id(request_id: str, number: int) -> str:
    """Of a try: 16 hexadecimal digits, the same whenever the trace is told."""
    return hashlib.blake2b(f"{request_id}/{number}".encode(), digest_size=8).hexdigest()


def _time(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
