"""How traces look in the admin: rows of the list, the waterfall in percent of the request's time, and flags with their reasons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.utils.safestring import SafeString

from inference import trace_details, trace_ids
from inference.models import Trace
from inference.trace_details import Span
from providers import cells
from routing.rollout import LEGACY

_LEAST_PERCENT = 0.6
"""So that the shortest part can be seen."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A line of the waterfall. `left` and `width` are percent of the whole request."""

    span: Span
    left: str
    width: str
    tone: str


def row(trace: Trace) -> dict[str, Any]:
    """For the list."""
    return {
        "trace": trace,
        "when": cells.ago(trace.at),
        "served_by": served_by(trace),
        "outcome": outcome(trace),
        "first_byte": cells.milliseconds(trace.first_byte_ms),
        "took": cells.milliseconds(trace.duration_ms),
        "cost": cells.money(trace.cost, trace.currency),
        "flags": flags(trace),
        "parts": parts(trace),
    }


def served_by(trace: Trace) -> str:
    if trace.side == LEGACY:
        return "the legacy side"
    return f"{trace.provider_id}/{trace.model_id}" if trace.provider_id else "nobody"


def outcome(trace: Trace) -> SafeString:
    if trace.status < 400 and not trace.error_code:
        return cells.pill(str(trace.status), "good")
    whose = f"the {trace.error_owner}'s" if trace.error_owner else ""
    return cells.pill(f"{trace.status} {trace.error_code}".strip(), "bad" if trace.status >= 500 else "warn", whose)


def flags(trace: Trace) -> list[tuple[str, str]]:
    """Short words with what they mean."""
    told = []
    if trace.stream:
        told.append(("stream", "The answer was streamed."))
    if trace.fallback:
        told.append(("fallback", "The first choice did not answer."))
    if trace.cached_tokens:
        told.append(("cache", f"{trace.cached_tokens} tokens of the prompt came from the provider's cache."))
    if trace.status < 400 and trace.error_code:
        told.append(("cut", "The answer broke off after it had begun."))
    if trace.estimated:
        told.append(("estimated", "The provider did not say what was used; the tokens are counted by what was seen."))
    return told


def parts(trace: Trace) -> list[tuple[str, str, str]]:
    """The row's own small waterfall: class, width in percent and what it is."""
    whole = max(trace.duration_ms, 0.001)
    upstream = max(0.0, min(trace.upstream_ms, whole - trace.queue_ms - trace.overhead_ms))
    rest = max(0.0, whole - trace.queue_ms - trace.overhead_ms - upstream)
    spans = (
        (trace_details.WAITED, trace.queue_ms, "waited for its turn"),
        (trace_details.GATEWAY, trace.overhead_ms, "the gateway itself"),
        (trace_details.TRIED, upstream, "until a provider answered"),
        (trace_details.ANSWERING, rest, "the answer"),
    )
    return [(kind, _percent(spent / whole), f"{what}: {spent:.1f} ms") for kind, spent, what in spans if spent > 0]


def waterfall(trace: Trace) -> list[Bar]:
    whole = max(trace.duration_ms, 0.001)
    told = []
    for span in trace_details.spans(trace):
        width = max(span.duration_ms / whole * 100, _LEAST_PERCENT)
        left = min(max(0.0, span.start_ms / whole * 100), 100 - min(width, 100))
        tone = "bad" if span.failed or (span.kind == trace_details.ANSWERING and span.note) else ""
        told.append(Bar(span, f"{left:.2f}%", f"{min(width, 100):.2f}%", tone))
    return told


def headers(trace: Trace) -> list[tuple[str, str, str]]:
    """Those of the reply that tell of the trace, with what each is for. The others are not kept."""
    told = [
        ("x-gateway-request-id", trace.request_id, "the request's own id"),
        ("x-trace-id", trace.trace_id or trace.request_id, "the trace, as the caller named it, else the request's id"),
        ("x-gateway-route", served_by(trace) if trace.provider_id else "", "who answered"),
        ("x-gateway-attempts", str(trace.attempts), "tries at providers"),
        ("x-gateway-fallback", str(int(trace.fallback)), "1: not the first choice's answer"),
        ("x-gateway-overhead-ms", f"{trace.overhead_ms:.3f}", "spent in the gateway itself until the answer began"),
    ]
    if trace.policy:
        told.append(("x-gateway-policy", f"{trace.policy}@{trace.policy_version}", "the policy and its version"))
    if trace.parent_span_id:
        trace_id, own = trace_ids.w3c_trace_id(trace.trace_id), trace_ids.span_id(trace.request_id)
        told.append(("traceparent", f"00-{trace_id}-{own}", "our span, below the caller's; also sent to the provider"))
    return [line for line in told if line[1]]


def _percent(share: float) -> str:
    return f"{min(max(share * 100, _LEAST_PERCENT), 100):.2f}%"
