"""How traces look in the admin: rows of the list, the waterfall in percent of the request's time, and flags with their reasons."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from inference import trace_details, trace_ids
from inference.models import Trace
from inference.trace_details import Line, Span
from providers import cells, pricing
from providers.prices import Prices, of_document
from routing.rollout import LEGACY

PLAYGROUND = "playground"
"""The tag of requests that were tried out in the admin."""
_LEAST_PERCENT = 0.6
"""So that the shortest part can be seen."""
_MOST_TICKS = 6
_ROLE = re.compile(r"^(system|developer|user|assistant|tool|function): ", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Bar:
    """A line of the waterfall. `left` and `width` are percent of the whole request."""

    span: Span
    left: str
    width: str
    tone: str


class Flag(NamedTuple):
    """`icon` is a name of the icon font, `word` what it stands for, and `meaning` a sentence."""

    icon: str
    word: str
    meaning: str
    tone: str = ""


class Tick(NamedTuple):
    label: str
    left: str


class Sum(NamedTuple):
    """One part of a cost: so many tokens times a price a million."""

    what: str
    tokens: int
    price: str
    amount: str


@dataclass(frozen=True, slots=True)
class Paid:
    """One line of the ledger with its arithmetic. `differs` tells that the parts do not come to what was booked."""

    line: Line
    route: str
    sums: tuple[Sum, ...]
    source: str
    cost: str
    differs: bool


def row(trace: Trace) -> dict[str, Any]:
    """For the list."""
    return {
        "trace": trace,
        "when": cells.ago(trace.at),
        "served_by": served_by(trace),
        "outcome": _listed(trace),
        "first_byte": cells.milliseconds(trace.first_byte_ms),
        "took": cells.milliseconds(trace.duration_ms),
        "cost": cells.money(trace.cost, trace.currency),
        "flags": flags(trace),
        "parts": parts(trace),
    }


def served_by(trace: Trace) -> str:
    if trace.side == LEGACY:
        return _("the legacy side")
    if trace_details.is_given_again(trace):
        return _("the cache") if trace.policy else _("an earlier answer")
    return f"{trace.provider_id}/{trace.model_id}" if trace.provider_id else _("nobody")


def outcome(trace: Trace) -> SafeString:
    if trace.status < 400 and not trace.error_code:
        return cells.pill(str(trace.status), "good", _("answered"))
    tone = "bad" if trace.status >= 500 else "warn"
    return cells.pill(f"{trace.status} {trace.error_code}".strip(), tone, _owner(trace))


def _owner(trace: Trace) -> str:
    return {
        "caller": _("the caller's"),
        "policy": _("the policy's"),
        "provider": _("the provider's"),
        "gateway": _("the gateway's"),
    }.get(trace.error_owner, "")


def _listed(trace: Trace) -> SafeString:
    """The code below the status, where a column has to stay narrow."""
    if trace.status < 400 or not trace.error_code:
        return outcome(trace)
    pill = cells.pill(str(trace.status), "bad" if trace.status >= 500 else "warn", _owner(trace))
    return format_html('{}<small class="gw-quiet">{}</small>', pill, trace.error_code)


def flags(trace: Trace) -> list[Flag]:
    told = []
    if trace.stream:
        told.append(Flag("stream", _("stream"), _("The answer was streamed.")))
    if trace.fallback:
        told.append(Flag("alt_route", _("fallback"), _("The first choice did not answer."), "warn"))
    elif trace.attempts > 1:
        told.append(Flag("replay", _("retry"), _("It took more than one try."), "warn"))
    if trace.cached_tokens:
        meaning = _("%(tokens)s tokens of the prompt came from the provider's cache.")
        told.append(Flag("cached", _("cache"), meaning % {"tokens": f"{trace.cached_tokens:,}"}))
    if trace_details.is_given_again(trace):
        from_cache = _("The same was asked before under this policy: the answer came from the cache, and cost nothing.")
        repeated = _(
            "The same was asked before with this Idempotency-Key: its answer was told again, and cost nothing."
        )
        told.append(Flag("cached", _("given again"), from_cache if trace.policy else repeated))
    if trace.status < 400 and trace.error_code:
        told.append(Flag("content_cut", _("cut"), _("The answer broke off after it had begun."), "bad"))
    if trace.estimated:
        meaning = _("The provider did not say what was used; the tokens are counted by what was seen.")
        told.append(Flag("straighten", _("estimated"), meaning))
    if PLAYGROUND in trace_details.tags(trace):
        told.append(Flag("science", _("playground"), _("It was tried out in the playground.")))
    return told


def parts(trace: Trace) -> list[tuple[str, str, str]]:
    """The row's own small waterfall: class, width in percent and what it is."""
    whole = max(trace.duration_ms, 0.001)
    upstream = max(0.0, min(trace.upstream_ms, whole - trace.queue_ms - trace.overhead_ms))
    rest = max(0.0, whole - trace.queue_ms - trace.overhead_ms - upstream)
    if not trace.provider_id and trace.side != LEGACY:  # nobody was asked: all of it was ours
        return [
            (kind, _percent(spent / whole), f"{what}: {time(spent)}")
            for kind, spent, what in (
                (trace_details.WAITED, trace.queue_ms, _("waited for its turn")),
                (trace_details.GATEWAY, whole - trace.queue_ms, _("the gateway itself")),
            )
            if spent > 0
        ]
    spans = (
        (trace_details.WAITED, trace.queue_ms, _("waited for its turn")),
        (trace_details.GATEWAY, trace.overhead_ms, _("the gateway itself")),
        (trace_details.TRIED, upstream, _("until a provider answered")),
        (trace_details.ANSWERING, rest, _("the answer")),
    )
    return [(kind, _percent(spent / whole), f"{what}: {time(spent)}") for kind, spent, what in spans if spent > 0]


def waterfall(trace: Trace) -> list[Bar]:
    whole = max(trace.duration_ms, 0.001)
    told = []
    for span in trace_details.spans(trace):
        width = max(span.duration_ms / whole * 100, _LEAST_PERCENT)
        left = min(max(0.0, span.start_ms / whole * 100), 100 - min(width, 100))
        tone = "bad" if span.failed or (span.kind == trace_details.ANSWERING and span.note) else ""
        told.append(Bar(span, f"{left:.2f}%", f"{min(width, 100):.2f}%", tone))
    return told


def axis(trace: Trace) -> list[Tick]:
    """Round moments of the request's time, from its arrival on."""
    whole = max(trace.duration_ms, 0.001)
    power = 10.0 ** math.floor(math.log10(whole / _MOST_TICKS))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor * _MOST_TICKS >= whole)
    return [Tick(time(step * n), f"{100 * step * n / whole:.2f}%") for n in range(math.floor(whole / step + 1e-9) + 1)]


def first_byte_at(trace: Trace) -> str:
    """In percent of the request's time; empty where nothing came."""
    if trace.first_byte_ms is None or trace.duration_ms <= 0:
        return ""
    return f"{min(100.0, 100 * trace.first_byte_ms / trace.duration_ms):.2f}%"


def time(ms: float) -> str:
    """`0`, `0.5 ms`, `250 ms`, `2.5 s`."""
    if ms >= 1000:
        return f"{ms / 1000:.3g}\u202fs"
    return f"{ms:.3g}\u202fms" if ms else "0"


def paid(line: Line) -> Paid:
    record = line.record
    try:
        prices = of_document(record.prices, record.currency)
    except (ValueError, ArithmeticError, TypeError):
        prices = Prices()
    sums, total = _sums(line, prices)
    booked = record.cost
    return Paid(
        line,
        f"{record.provider_id}/{record.model_id}" if record.provider_id else "",
        tuple(sums),
        prices.note or prices.source,
        "" if booked is None else f"{exact(booked)}\u202f{record.currency}",
        bool(sums) and booked is not None and abs(total - booked) > Decimal("1e-9"),
    )


def _sums(line: Line, prices: Prices) -> tuple[list[Sum], Decimal]:
    record = line.record
    cached = min(record.cached_tokens, record.input_tokens)
    own = prices.cached_input_cost_per_million
    of_cached = prices.input_cost_per_million if own is None else own
    told, total = [], Decimal(0)
    for what, tokens, price in (
        (_("input"), record.input_tokens - cached, prices.input_cost_per_million),
        (_("cached input"), cached, of_cached),
        (_("output"), record.output_tokens, prices.output_cost_per_million),
    ):
        amount = pricing.cost(price, None, input_tokens=tokens, output_tokens=0) if price is not None else None
        if amount is not None and tokens:
            total += amount
            told.append(Sum(what, tokens, exact(price or Decimal(0)), exact(amount)))
    return told, total


def exact(amount: Decimal) -> str:
    """Without zeros at its end, and never as a power of ten."""
    return f"{amount.normalize():f}" if amount else "0"


def saved(trace: Trace) -> str:
    """What an answer from the cache saved, in a sentence; empty for others."""
    told = trace_details.saved(trace)
    if not told:
        return ""
    words = {"route": told["route"], "input": f"{told['input_tokens']:,}", "output": f"{told['output_tokens']:,}"}
    if told["cost"] is None:
        return _("From the cache; %(route)s had made it of %(input)s tokens in and %(output)s out.") % words
    sentence = _("From the cache; %(route)s had made it of %(input)s tokens in and %(output)s out, for %(cost)s USD.")
    return sentence % {**words, "cost": exact(Decimal(told["cost"]))}


def headers(trace: Trace) -> list[tuple[str, str, str]]:
    """Those of the reply that tell of the trace, with what each is for. The others are not kept."""
    told = [
        ("x-gateway-request-id", trace.request_id, _("the request's own id")),
        (
            "x-trace-id",
            trace.trace_id or trace.request_id,
            _("the trace, as the caller named it, else the request's id"),
        ),
        ("x-gateway-route", served_by(trace) if trace.provider_id else "", _("who answered")),
        ("x-gateway-attempts", str(trace.attempts), _("tries at providers")),
        ("x-gateway-fallback", str(int(trace.fallback)), _("1: not the first choice's answer")),
        ("x-gateway-overhead-ms", f"{trace.overhead_ms:.3f}", _("spent in the gateway itself until the answer began")),
    ]
    if trace.policy:
        told.append(("x-gateway-policy", f"{trace.policy}@{trace.policy_version}", _("the policy and its version")))
    if trace.parent_span_id:
        trace_id, own = trace_ids.w3c_trace_id(trace.trace_id), trace_ids.span_id(trace.request_id)
        meaning = _("our span, below the caller's; also sent to the provider")
        told.append(("traceparent", f"00-{trace_id}-{own}", meaning))
    return [line for line in told if line[1]]


def messages(text: str) -> list[tuple[str, str]]:
    """Role and words of each message of a request that was kept; one without a role where it was no chat."""
    parts = _ROLE.split(text)
    told = [("", parts[0].strip())] if parts[0].strip() else []
    return told + [(role, words.strip()) for role, words in zip(parts[1::2], parts[2::2], strict=True)]


def _percent(share: float) -> str:
    return f"{min(max(share * 100, _LEAST_PERCENT), 100):.2f}%"
