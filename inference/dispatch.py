"""Walk the candidates: one attempt after the other until one answers, and never after the first byte.

A stream counts as answered when its first bytes are here: an upstream that says 200 and then fails has sold nothing yet, so
the next candidate is tried. What happens is written on a `Trail` while it happens, so that it can be told however a
request ends. The deadline over all attempts is kept by the caller, who cancels.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from time import perf_counter, time
from typing import Any, NamedTuple

import msgspec
import orjson

from inference import allowing
from inference.attempts import Paid, Trail
from inference.backends.base import Reply, UpstreamCall
from inference.backends.table import BackendTable, Shared
from inference.deciding import Ruling
from inference.errors import (
    ConfigurationError,
    EngineError,
    GatewayError,
    InvalidRequest,
    NotAllowed,
    UpstreamBroken,
    UpstreamError,
    UpstreamFailed,
    UpstreamRateLimited,
    UpstreamRefusedOurKey,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from inference.limits import Limits
from inference.metrics import Metrics
from inference.outcomes import UPSTREAM_RATE_LIMITED
from inference.refusing import nobody_left, refusal
from inference.told_usage import read_usage, usage_tail
from inference.wire import sse
from inference.wire.errors import redact
from inference.wire.openai import ParsedRequest
from providers import capabilities
from routing import health, metering
from routing.health import Health
from routing.metering import BUDGET_EXHAUSTED, UNPRICED, Bundle, Exhausted
from routing.rollout import GATEWAY
from routing.types import Dropped, ModelView, Snapshot, UpstreamKey

_OVER_QUICKLY = (UpstreamFailed, UpstreamUnreachable, UpstreamRateLimited)
"""Failures after which the same provider may be asked once more. A silent one is not: that would double the wait."""

_SPENT = "insufficient_quota"
"""The code of a 429 that waiting does not cure: the account's money is used up."""

_TELLING = (
    UpstreamRateLimited,
    EngineError,
    UpstreamTimeout,
    UpstreamFailed,
    UpstreamBroken,
    UpstreamUnreachable,
    UpstreamError,
    ConfigurationError,
)
"""When every candidate failed, the caller is told the failure that says most about when to come back."""


_NOT_TRANSLATABLE = "not_translatable"
"""Of a candidate that would need the request in words which cannot say it."""

_ALIVE = (400, 404, 409, 413, 415, 422)
"""Refusals of a request by which an upstream shows that it is well."""


class PassedOver(Exception):
    """A candidate that cannot be asked after all."""

    def __init__(self, reason: str, back_at: float | None = None, code: str = "") -> None:
        self.reason = reason
        self.back_at = back_at
        """Epoch second from which it can be asked again, where that is known."""
        self.code = code
        """Of a budget that is used up."""


class _Call(NamedTuple):
    """What all tries have in common."""

    request: ParsedRequest
    request_id: str
    deadline: float
    patience: float | None
    """Seconds that the policy gives each."""


class Dispatcher:
    """For one event loop, whose backends it uses."""

    def __init__(
        self,
        table: BackendTable,
        limits: Limits,
        metrics: Metrics,
        began: Callable[[str, ParsedRequest, Trail], None] = lambda request_id, request, trail: None,
    ) -> None:
        self._table = table
        self._limits = limits
        self._metrics = metrics
        self._began = began

    def follow(self, snapshot: Snapshot) -> None:
        self._table.follow(snapshot)

    def send(
        self,
        request: ParsedRequest,
        ruling: Ruling,
        trail: Trail,
        *,
        request_id: str,
        deadline: float,
    ) -> Coroutine[Any, Any, tuple[Reply, bytes | None]]:
        """The reply, and of a stream its first bytes. The caller releases the trail whatever happens.

        `deadline` is on the loop's clock and goes to the backends. Raises the `GatewayError` that tells most.
        """
        trail.ruling = ruling
        trail.asked = (request.prompt_bytes, request.max_output_tokens)
        call = _Call(request, request_id, deadline, ruling.decision.timeouts.attempt_seconds)
        walk = self._walk(call, ruling, trail)
        total = ruling.decision.timeouts.total_seconds
        return walk if total is None else self._within(total, walk, trail)

    async def release(self, trail: Trail) -> None:
        """End the upstream's work, if it is not over, and give the backend back."""
        reply, shared = trail.reply, trail.shared
        trail.reply = trail.shared = None
        if trail.streaming:
            assert trail.model is not None
            self._metrics.attempts[trail.model.provider.provider_id, trail.streaming] += 1
            trail.streaming = ""
        try:
            if reply is not None and reply.chunks is not None:
                await reply.aclose()
        finally:
            if shared is not None:
                self._table.give_back(shared)
                health.current().ended(trail.route)

    def broke_off(self, trail: Trail, error: GatewayError) -> None:
        """The upstream failed after it had begun to answer: too late for another, but not to be forgotten."""
        if trail.streaming:
            trail.streaming = outcome_of(error)
        if trail.model is not None and error.retryable:
            health.current().failed(trail.model, error.code)
            trail.failed("broke_off", error, trail.upstream)

    async def _within(
        self, seconds: float, walk: Coroutine[Any, Any, tuple[Reply, bytes | None]], trail: Trail
    ) -> tuple[Reply, bytes | None]:
        try:
            async with asyncio.timeout(seconds):
                return await walk
        except TimeoutError:
            was_asked = trail.shared is not None  # and not waited for between two tries
            await self.release(trail)
            error = UpstreamTimeout(f"Nobody answered within the {seconds:g} seconds that the policy allows.")
            if was_asked and trail.model is not None:
                health.current().failed(trail.model, error.code)
            error.attempts = trail.shown()
            raise error from None

    async def _walk(self, call: _Call, ruling: Ruling, trail: Trail) -> tuple[Reply, bytes | None]:
        candidates, last = ruling.candidates, len(ruling.candidates) - 1
        failures: list[GatewayError] = []
        away: list[Dropped] = []
        for place, candidate in enumerate(candidates):
            model = candidate.model
            tried: set[int] = set()
            trail.fallback = place > 0 or candidate.role == "fallback"
            try:
                if candidate.needs_permit and not await health.current().permit(model):
                    raise PassedOver("breaker_half_open")
                try:
                    return await self._attempt(call, model, trail, tried, candidate.role)
                except GatewayError as error:
                    await self._take_in(error, failures, trail)
                if candidate.needs_permit:  # one permit is for one call
                    continue
                retries = ruling.retries if place == last or ruling.retries_each else 0
                answer = await self._ask_again(call, model, ruling, trail, tried, failures, retries)
                if answer is not None:
                    return answer
            except PassedOver as skipped:
                health.current().not_called(model.route)
                trail.passed_over(model, skipped.reason)
                back_at = skipped.back_at or ruling.conditions.of(model.route).retry_at
                away.append(Dropped(model.route, skipped.reason, "", back_at, skipped.code))
        if failures:
            failure = most_telling(failures)
        elif (untold := _untold(call.request, away)) is not None:
            failure = untold
        elif away:
            failure = nobody_left(ruling.facts, away, time())
        else:
            failure = refusal(ruling.facts, ruling.decision, ruling.at)
        failure.attempts = trail.shown()
        raise failure

    async def _ask_again(
        self,
        call: _Call,
        model: ModelView,
        ruling: Ruling,
        trail: Trail,
        tried: set[int],
        failures: list[GatewayError],
        retries: int,
    ) -> tuple[Reply, bytes | None] | None:
        """The same candidate's answer, with another key or at another time; None when it is of no use to ask it again."""
        retried = 0
        while True:
            failure = failures[-1]
            about_the_key = isinstance(failure, UpstreamRefusedOurKey | UpstreamRateLimited)
            if about_the_key and _has_another_key(model, tried):
                reason = "next_key"
            else:
                again = retried < retries and not _is_given_up(model)
                pause = self._pause(failure, ruling, retried) if again else None
                if pause is None:
                    return None
                reason, retried = "retry", retried + 1
                tried.clear()
                await asyncio.sleep(pause)
            try:
                return await self._attempt(call, model, trail, tried, reason)
            except GatewayError as error:
                await self._take_in(error, failures, trail)

    async def _take_in(self, error: GatewayError, failures: list[GatewayError], trail: Trail) -> None:
        """Raises what nobody else would answer better."""
        await self.release(trail)
        if trail.grant is not None:
            allowing.end_try(trail)
        if not error.retryable or isinstance(error, NotAllowed):
            raise error
        failures.append(error)

    async def _attempt(
        self, asked: _Call, model: ModelView, trail: Trail, tried: set[int], reason: str
    ) -> tuple[Reply, bytes | None]:
        provider, request = model.provider, asked.request
        native = request.native
        if native is not None and native.untranslatable is not None and not self._table.speaks(provider, native.api):
            raise PassedOver(_NOT_TRANSLATABLE)
        known = health.current()
        key = choose_key(provider.keys, tried, known) if provider.keys else None
        assert trail.ruling is not None
        bundle = metering.current().bundle(trail.ruling.snapshot, trail.identity, request.tags, model)
        if bundle is not None and trail.side == GATEWAY:
            await self._allow(bundle, request, model, trail)
        trail.model, trail.key = model, key
        route = trail.route = model.route
        trail.attempts += 1
        fields = request.fields
        if native is not None:
            thinks = capabilities.thinks(model.upstream_model_id, model.capabilities)
            fields = native.completed(fields, local=provider.local, thinks=thinks)
        call = UpstreamCall(
            request.operation.name,
            model,
            fields,
            request.stream,
            asked.request_id,
            key,
            asked.deadline,
            request.session_id,
            trail.traceparent,
            native,
            request.form,
            client=trail.identity.key_id if trail.identity is not None else 0,
            priority=1 if trail.run else 0,
        )
        self._began(asked.request_id, request, trail)
        outcome, first = "error", None
        began = perf_counter()
        try:
            shared = trail.shared = self._table.take(provider)
            known.began(route)
            if asked.patience is None:
                reply = trail.reply = await shared.backend.send(call)
                first = None if reply.chunks is None else await first_bytes(reply)
            else:
                reply, first = await _answer_within(asked.patience, shared, call, trail)
            outcome = "ok"
            seconds = perf_counter() - began
            known.succeeded(model, seconds, None if key is None else key.key_id)
            if trail.log is not None:
                trail.answered(reason, reply.status, seconds, first is not None)
            return reply, first
        except GatewayError as error:
            outcome = outcome_of(error)
            if isinstance(error, UpstreamRejected) and key is not None:
                error.body = error.body.replace(key.secret.reveal().encode(), b"[redacted]")
            self._tell(known, error, trail, reason, perf_counter() - began)
            raise
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            outcome = "invalid_request"
            raise InvalidRequest(f"The request body is not valid JSON: {error}.") from None
        except asyncio.CancelledError:
            outcome = "cancelled"
            trail.cancelled(reason, outcome, perf_counter() - began)
            raise
        finally:
            trail.upstream += perf_counter() - began
            if outcome == "ok" and first is not None:
                trail.streaming = outcome
            else:
                self._metrics.attempts[provider.provider_id, outcome] += 1

    async def _allow(self, bundle: Bundle, request: ParsedRequest, model: ModelView, trail: Trail) -> None:
        """Take from limits and budgets what the try needs. What counts for the model alone only passes it over."""
        try:
            await allowing.take(trail, request, model, bundle)
        except Exhausted as exhausted:
            allowance = exhausted.allowance
            if allowance.targets or exhausted.reason == UNPRICED:
                back_at = None if exhausted.retry_after is None else time() + exhausted.retry_after
                code = allowance.exceeded_code if exhausted.reason == BUDGET_EXHAUSTED else ""
                raise PassedOver(exhausted.reason, back_at, code) from None
            health.current().not_called(model.route)
            raise allowing.refusal(exhausted) from None

    def _tell(self, known: Health, error: GatewayError, trail: Trail, reason: str, seconds: float) -> None:
        """Write the failure down, and tell those who keep account of the provider's health."""
        model, key = trail.model, trail.key
        assert model is not None
        trail.failed(reason, error, seconds)
        if error.used and (usage := read_usage(error.used)) is not None and any(usage.counts):
            trail.paid = [*(trail.paid or ()), Paid(model, usage, error.status)]
        if isinstance(error, UpstreamRefusedOurKey | UpstreamRateLimited) and key is not None:
            code = _SPENT if error.code == _SPENT else outcome_of(error)
            known.key_failed(model, key.key_id, code, error.retry_after)
            if len(model.provider.keys) > 1:  # another key may find the provider well
                return
        if error.retryable:
            known.failed(model, outcome_of(error))
        elif isinstance(error, UpstreamRejected) and error.status in _ALIVE:
            known.succeeded(model, seconds, None if key is None else key.key_id)

    def _pause(self, error: GatewayError, ruling: Ruling, retried: int) -> float | None:
        if not isinstance(error, _OVER_QUICKLY) or error.code == _SPENT:
            return None
        if error.retry_after is not None:
            return error.retry_after if error.retry_after <= self._limits.longest_retry_pause_seconds else None
        return ruling.pause(retried)


def _untold(request: ParsedRequest, away: Sequence[Dropped]) -> GatewayError | None:
    """What a chat completion cannot say of the request, when that alone kept every candidate from being asked."""
    native = request.native
    if native is None or not away or any(dropped.reason != _NOT_TRANSLATABLE for dropped in away):
        return None
    return native.untranslatable


async def _answer_within(
    seconds: float, shared: Shared, call: UpstreamCall, trail: Trail
) -> tuple[Reply, bytes | None]:
    """As long as the policy gives one attempt: a stream's is over with its first bytes."""
    try:
        async with asyncio.timeout(seconds):
            reply = trail.reply = await shared.backend.send(call)
            return reply, None if reply.chunks is None else await first_bytes(reply)
    except TimeoutError:
        raise UpstreamTimeout(f"The provider did not answer within {seconds:g} seconds.") from None


async def first_bytes(reply: Reply) -> bytes:
    """Wait for the upstream to say something; a stream that ends or fails before is a failure that can be got around."""
    assert reply.chunks is not None
    try:
        first = await anext(reply.chunks)
        while not reply.opaque and not sse.after_comments(
            first
        ):  # some say that they work on it, and then that they failed
            first += await anext(reply.chunks)
    except StopAsyncIteration:
        raise UpstreamBroken("The provider ended its answer before it began.") from None
    if reply.opaque:
        return first
    if not sse.begins_as_stream(first):
        raise UpstreamBroken("The provider's answer is not an event stream.")
    event = sse.after_comments(first)
    if event[:5] == b"data:" and sse.begins_with_error(event):
        failed = UpstreamFailed(f"The provider failed: {_in_band_message(event)}", retryable=True)
        failed.used = usage_tail(first) or b""
        raise failed
    return first


def _in_band_message(first: bytes) -> str:
    payload = first.partition(b"\n\n")[0].removeprefix(b"data:").strip()
    try:
        said = orjson.loads(payload)["error"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return "it sent an error instead of an answer."
    message = said.get("message") if isinstance(said, dict) else said
    return redact(str(message))[:500]


def choose_key(keys: Sequence[UpstreamKey], tried: set[int], known: Health) -> UpstreamKey:
    """One of the provider's live keys, by weight, those not yet tried for this request first; never one that is used up.

    Raises `PassedOver` when none is left.
    """
    if len(keys) == 1 and keys[0].expires_at is None:
        tried.add(keys[0].key_id)
        return keys[0]
    now = time()
    live = [key for key in keys if key.expires_at is None or key.expires_at > now]
    if not live:
        raise PassedOver("no_usable_key")
    usable = [key for key in live if not known.key_is_exhausted(key.key_id, now)]
    if not usable:
        raise PassedOver("keys_exhausted")
    fresh = [key for key in usable if key.key_id not in tried] or usable
    chosen = random.choices(fresh, [max(key.weight, 0) or 1e-9 for key in fresh])[0]
    tried.add(chosen.key_id)
    return chosen


def _is_given_up(model: ModelView) -> bool:
    """Its breaker opened, by what this very request saw or another one."""
    return health.current().conditions().of(model.route).breaker == "open"


def _has_another_key(model: ModelView, tried: set[int]) -> bool:
    keys = model.provider.keys
    if len(keys) < 2:
        return False
    now, known = time(), health.current()
    return any(
        key.key_id not in tried
        and (key.expires_at is None or key.expires_at > now)
        and not known.key_is_exhausted(key.key_id, now)
        for key in keys
    )


def outcome_of(error: GatewayError) -> str:
    """A word for the counters. A rejection's `code` is the upstream's text, and text is no label; a provider's limit is not ours."""
    if isinstance(error, UpstreamRateLimited):
        return UPSTREAM_RATE_LIMITED
    return "upstream_rejected" if isinstance(error, UpstreamRejected) else error.code


def most_telling(failures: Sequence[GatewayError]) -> GatewayError:
    """The failure to show; the soonest Retry-After among equals."""

    def rank(error: GatewayError) -> tuple[int, float]:
        kind = next((place for place, kind in enumerate(_TELLING) if isinstance(error, kind)), len(_TELLING))
        return kind, error.retry_after if error.retry_after is not None else float("inf")

    return min(failures, key=rank)
