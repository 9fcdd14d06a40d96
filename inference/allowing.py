"""Limits and budgets on a request's way: what it needs, what its caller is told when that is not to be had, what it used in the end."""

from __future__ import annotations

import math
from collections.abc import Iterator
from decimal import Decimal
from time import monotonic
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from inference.backends.base import Usage
from inference.errors import BudgetExhausted, BudgetStoreUnavailable, GatewayError, LimitReached
from inference.recording import cost_of
from inference.tokens_seen import pictures_in
from inference.told_usage import read_usage
from providers.capabilities import WRITE_NOTHING
from providers.pricing import USD
from routing import metering
from routing.allowances import BUDGET, CALLS, NANO, REQUESTS, TOKENS, Allowance
from routing.estimates import TOKENS_PER_BYTE, TOKENS_PER_IMAGE, USUAL_OUTPUT_TOKENS
from routing.metering import STORE_AWAY, UNPRICED, Exhausted, Grant, Needs, nano

if TYPE_CHECKING:
    from inference.attempts import Trail
    from inference.wire.openai import ParsedRequest
    from routing.types import Identity, ModelView, Snapshot

Header = tuple[bytes, bytes]

MOST_TOKENS_PER_IMAGE = 2_000
MOST_OUTPUT_TOKENS = 16_384
"""Of an answer that neither the request nor the model limits, for budgets that are strict."""

_UNITS = {
    REQUESTS: "requests",
    TOKENS: "tokens",
    CALLS: "requests under way at once",
}
_HEADERS = tuple(
    (unit, tuple(f"x-ratelimit-{what}-{unit}".encode() for what in ("limit", "remaining", "reset")))
    for unit in (REQUESTS, TOKENS)
)


def needs_of(request: ParsedRequest, model: ModelView, tokens_per_byte: float | None = None) -> Needs:
    """The tokens that a request is likely to use at a model, and the most that it can: one for each byte of what was sent, and
    an answer as long as the request allows and the model can."""
    prompt, pictures = request.prompt_bytes, pictures_in(request)
    likely = int(prompt * (tokens_per_byte or TOKENS_PER_BYTE)) + pictures * TOKENS_PER_IMAGE
    most = prompt + pictures * MOST_TOKENS_PER_IMAGE if pictures else max(prompt, request.size)
    if request.operation.name in WRITE_NOTHING:
        return Needs(likely, 0, most, 0)
    asked, able = request.max_output_tokens, model.max_tokens
    usual = USUAL_OUTPUT_TOKENS if asked is None else asked
    longest = min(one for one in (asked, able) if one is not None) if asked is not None or able is not None else None
    if longest is None:
        longest = model.context_window or MOST_OUTPUT_TOKENS
    return Needs(likely, request.choices * min(usual, longest), most, request.choices * longest)


async def take(trail: Trail, request: ParsedRequest, model: ModelView, bundle: metering.Bundle) -> None:
    """What the next try needs. Raises `Exhausted`; what was taken stands on the trail's grant, and is settled with it."""
    meter = metering.current()
    grant = trail.grant
    if grant is None:
        grant = trail.grant = Grant()
    needs = None
    if bundle.weighs:
        assert trail.ruling is not None
        needs = needs_of(request, model, trail.ruling.conditions.of(model.route).tokens_per_byte)
    if not grant.open:
        await meter.take(bundle, needs, grant)
        return
    end_try(trail)
    await meter.take(bundle, needs, grant, again=True)


async def take_turn(
    trail: Trail,
    snapshot: Snapshot,
    identity: Identity,
    tags: tuple[str, ...] = (),
    model: ModelView | None = None,
) -> None:
    """For a request that generates nothing: it counts as one, and takes neither tokens nor money. `model` is the one that would have
    answered; without any, only its caller's limits count.

    Raises what the caller is told when its limit is reached.
    """
    bundle = metering.current().bundle(snapshot, identity, tags, model)
    if bundle is None:
        return
    grant = trail.grant = Grant()
    try:
        await metering.current().take(bundle, None, grant)
    except Exhausted as exhausted:
        raise refusal(exhausted) from None


def end_try(trail: Trail) -> None:
    """The try under way failed: what it held is free, but for what its provider wants to be paid."""
    grant = trail.grant
    if grant is not None and grant.open and grant.is_tried:
        tokens = spent = 0
        if trail.paid:
            for one in trail.paid[trail.paid_counted :]:
                tokens += one.usage.input_tokens + one.usage.output_tokens
                spent += _nano_usd(one.model, cost_of(one.model, one.usage))
            trail.paid_counted = len(trail.paid)
        metering.current().end_try(grant, tokens, spent)


def settle(
    trail: Trail, told: Usage | bytes | None, guess: tuple[int, int], cost: Decimal | None = None
) -> tuple[Usage | None, Decimal | None]:
    """The request is over: count what it used, and give back the rest. Returns usage and cost as they were counted, for its record.

    Only for a trail with a grant. A failure that no provider wants money for uses nothing.
    """
    grant = trail.grant
    assert grant is not None
    usage = read_usage(told) if isinstance(told, bytes) else told
    if usage is None and (guess[0] or guess[1]):
        usage = Usage(*guess, estimated=True)
    if usage is None:
        end_try(trail)
        metering.current().settle(grant)
        return None, cost
    model = trail.model
    if cost is None:
        cost = cost_of(model, usage)
    metering.current().settle(grant, usage.input_tokens + usage.output_tokens, _nano_usd(model, cost))
    return usage, cost


def _nano_usd(model: ModelView | None, cost: Decimal | None) -> int:
    """What counts in budgets: money of other currencies does not."""
    return nano(cost) if model is not None and model.prices.currency == USD else 0


def refusal(exhausted: Exhausted) -> GatewayError:
    """For the caller. Of a budget it names the code of seed 001 as `param`; amounts are for the operator."""
    allowance = exhausted.allowance
    if exhausted.reason == STORE_AWAY:
        return BudgetStoreUnavailable(
            "The budget cannot be counted at the moment, so nothing may be spent from it; try again soon.",
            detail=f"{allowance.name}: the store that all processes count in is away",
            retry_after=exhausted.retry_after,
        )
    if exhausted.reason == UNPRICED:
        return BudgetExhausted(
            "Nobody knows what this model costs, and the budget allows no such models.",
            param="model",
            code=UNPRICED,
            status=400,
            detail=allowance.name,
        )
    if allowance.kind == BUDGET:
        exceeded = BudgetExhausted(
            _over_budget(allowance),
            param=allowance.exceeded_code,
            detail=f"{allowance.name}: {allowance.amount / NANO:.10g} USD",
        )
        exceeded.comes_back = allowance.period != "request"
        return exceeded
    if allowance.unit == CALLS:
        message = f"Too many requests at once: {allowance.amount} may be under way."
    else:
        message = (
            f"Rate limit reached: {allowance.amount} {_UNITS[allowance.unit]} per {allowance.period}. "
            f"Please try again in {_duration(exhausted.retry_after or 0)}."
        )
    return LimitReached(message, detail=allowance.name, retry_after=exhausted.retry_after)


def headers_of(grant: Grant) -> list[Header]:
    """What is left of the tightest limits, as OpenAI's clients read it; and which budgets only warn."""
    headers: list[Header] = []
    now = monotonic()
    for unit, (limit, remaining, reset) in _HEADERS:
        found = grant.tightest(unit, now)
        if found is not None:
            amount, left, seconds = found
            headers += [
                (limit, b"%d" % amount),
                (remaining, b"%d" % left),
                (reset, _duration(seconds).encode()),
            ]
    notices = grant.notices
    if notices:
        headers.append((b"x-gateway-notice", "; ".join(notices).encode("ascii", "replace")[:500]))
    return headers


def families() -> Iterator[Metric]:
    """What this process counts of limits and budgets."""
    meter = metering.current()
    refused = CounterMetricFamily(
        "gateway_allowance_refusals",
        "Requests and candidates that a limit or a budget did not let through.",
        labels=["kind", "unit", "period"],
    )
    for labels, count in list(meter.refused.items()):
        refused.add_metric(list(labels), count)
    yield refused
    yield CounterMetricFamily(
        "gateway_allowance_warnings",
        "Requests beyond limits and budgets that only warn.",
        value=sum(meter.warned.values()),
    )
    yield GaugeMetricFamily(
        "gateway_allowance_grants_open", "Requests under way that hold something.", value=meter.open_grants
    )
    yield GaugeMetricFamily(
        "gateway_allowances_shared",
        "1 while limits and budgets are counted with the other processes, 0 while Redis is away.",
        value=0 if meter.is_away else 1,
    )


def _over_budget(allowance: Allowance) -> str:
    if allowance.period == "request":
        return "This request would cost more than one request may. Ask for fewer tokens, or for a cheaper model."
    return f"You exceeded your current quota: not enough is left of the budget of this {allowance.period}."


def _duration(seconds: float) -> str:
    """Such as `12ms`, `1.5s` or `6m0s`."""
    if seconds < 1:
        return f"{max(0, math.ceil(seconds * 1000))}ms"
    whole = math.ceil(seconds)
    if whole < 60:
        return f"{whole}s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}m{rest}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{rest}s"
