"""All that is known of one request: where its time went, every try, why it was decided so, and what each try cost by which prices."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from inference import trace_ids
from inference.models import Trace, UsageRecord
from providers.secrets import Secret
from routing.rollout import GATEWAY as OURS

WAITED, GATEWAY, TRIED, PASSED_OVER, ANSWERING = "waited", "gateway", "tried", "passed_over", "answering"
_MOST_LINES = 100


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a request's time. `start_ms` counts from the request's arrival."""

    kind: str
    name: str
    start_ms: float
    duration_ms: float
    status: int | None = None
    note: str = ""

    @property
    def failed(self) -> bool:
        return self.kind == TRIED and (self.status is None or self.status >= 400)


@dataclass(frozen=True, slots=True)
class Line:
    """What one try used and cost, as the ledger has it."""

    attempt: int
    record: UsageRecord
    prices: dict[str, Any]


def spans(row: Trace) -> list[Span]:
    """In the order of time: the wait for its turn, what the gateway added, each try, and the answer from its first byte on.

    Of a request without a mishap no try is written down on its own; its one try is told from the row's own times.
    """
    told = []
    if row.queue_ms > 0:
        told.append(Span(WAITED, "waited for its turn", 0.0, row.queue_ms))
    tries = attempts(row)
    if tries:
        told += [_try(row, one) for one in tries]
    elif row.provider_id and row.attempts:
        begins = min(row.queue_ms + row.overhead_ms, max(0.0, row.duration_ms - row.upstream_ms))
        told.append(Span(TRIED, _route(row), begins, row.upstream_ms, row.status, "first choice"))
    if row.overhead_ms > 0:
        told.insert(1 if row.queue_ms > 0 else 0, Span(GATEWAY, "the gateway itself", row.queue_ms, row.overhead_ms))
    if row.stream and row.first_byte_ms is not None:
        told.append(
            Span(
                ANSWERING,
                "the answer, from its first byte",
                row.first_byte_ms,
                max(0.0, row.duration_ms - row.first_byte_ms),
                note=row.error_code,
            )
        )
    return told


def attempts(row: Trace) -> list[dict[str, Any]]:
    """As `inference.attempts.document` words them; empty where the first try was answered."""
    return json.loads(row.attempts_log) if row.attempts_log else []


def lines(row: Trace) -> list[Line]:
    """The request's own first, then tries that failed and were paid for."""
    records = UsageRecord.objects.filter(request_id=row.request_id).order_by("attempt")[:_MOST_LINES]
    return [Line(one.attempt, one, _prices(one.prices)) for one in records]


def is_given_again(row: Trace) -> bool:
    """Whether the answer was remembered, so that nobody was asked for it: under a policy it came from the cache, without one it
    was kept under an `Idempotency-Key`."""
    return row.side == OURS and not row.attempts and not row.provider_id and row.status < 400 and not row.error_code


def saved(row: Trace) -> dict[str, Any]:
    """What an answer from the cache had cost when it was made: `cost` in USD, `input_tokens`, `output_tokens`, `route`."""
    for one in attempts(row):
        if one.get("saved"):
            return {**one["saved"], "route": f"{one['provider_id']}/{one['model_id']}"}
    return {}


def document(row: Trace, decision: dict[str, Any] | None, *, captured: bool) -> dict[str, Any]:
    """As the API tells it."""
    return {
        **summary(row),
        "asked": json.loads(row.asked) if row.asked else {},
        "spans": [
            {
                "kind": one.kind,
                "name": one.name,
                "start_ms": round(one.start_ms, 3),
                "duration_ms": round(one.duration_ms, 3),
                "status": one.status,
                "note": one.note,
            }
            for one in spans(row)
        ],
        "attempts_log": attempts(row),
        "decision": decision,
        "costs": [
            {
                "attempt": line.attempt,
                "provider": line.record.provider_id,
                "model": line.record.model_id,
                "input_tokens": line.record.input_tokens,
                "output_tokens": line.record.output_tokens,
                "cached_tokens": line.record.cached_tokens,
                "reasoning_tokens": line.record.reasoning_tokens,
                "estimated": line.record.estimated,
                "cost": None if line.record.cost is None else format(line.record.cost, "f"),
                "currency": line.record.currency,
                "prices": line.prices,
            }
            for line in lines(row)
        ],
        "content_captured": captured,
    }


def summary(row: Trace) -> dict[str, Any]:
    """As a list tells it."""
    return {
        "request_id": row.request_id,
        "trace_id": row.trace_id or row.request_id,
        "span_id": trace_ids.span_id(row.request_id),
        "parent_span_id": row.parent_span_id,
        "at": row.at,
        "operation": row.operation,
        "stream": row.stream,
        "client_key": row.client_key_prefix,
        "team_id": row.team_id,
        "address": row.address,
        "session_id": row.session_id,
        "tags": tags(row),
        "model": row.requested_model,
        "policy": row.policy,
        "policy_version": row.policy_version,
        "provider": row.provider_id,
        "served_by": _route(row),
        "status": row.status,
        "error": row.error_code,
        "error_owner": row.error_owner,
        "attempts": row.attempts,
        "fallback": row.fallback,
        "given_again": is_given_again(row),
        "input_tokens": row.input_tokens,
        "output_tokens": row.output_tokens,
        "cached_tokens": row.cached_tokens,
        "reasoning_tokens": row.reasoning_tokens,
        "estimated": row.estimated,
        "cost": None if row.cost is None else format(row.cost, "f"),
        "currency": row.currency,
        "queue_ms": row.queue_ms,
        "first_byte_ms": row.first_byte_ms,
        "upstream_ms": row.upstream_ms,
        "overhead_ms": row.overhead_ms,
        "duration_ms": row.duration_ms,
        "side": row.side,
    }


def tags(row: Trace) -> list[str]:
    return [tag for tag in row.tags.split(",") if tag]


def texts(content: Any) -> dict[str, Any]:
    """What was captured of a request, in clear."""
    request, answer = content.request, content.answer
    return {
        "request_id": content.request_id,
        "at": content.at,
        "request": request.reveal() if isinstance(request, Secret) else "",
        "answer": answer.reveal() if isinstance(answer, Secret) else "",
        "cut": content.cut,
    }


def _try(row: Trace, told: dict[str, Any]) -> Span:
    began = (told["started"] - row.at.timestamp()) * 1000
    start = min(max(0.0, began), row.duration_ms)
    took = min(float(told.get("duration_ms", 0.0)), max(0.0, row.duration_ms - start))
    name = f"{told['provider_id']}/{told['model_id']}"
    if told["status"] is None:
        return Span(PASSED_OVER, name, start, 0.0, None, told["reason"])
    note = f"{told['reason']}: {told['code']}" if told.get("code") else told["reason"]
    return Span(TRIED, name, start, took, told["status"], note)


def _route(row: Trace) -> str:
    return f"{row.provider_id}/{row.model_id}" if row.provider_id else ""


def _prices(told: str) -> dict[str, Any]:
    try:
        read = json.loads(told) if told else {}
    except ValueError:
        return {}
    return read if isinstance(read, dict) else {}
