"""Walk the candidates: one attempt after the other until one answers, and never after the first byte.

A stream counts as answered when its first bytes are here: an upstream that says 200 and then fails has sold nothing yet, so
the next candidate is tried. What happens is written on a `Trail` while it happens, so that it can be told however a
request ends. The deadline over all attempts is kept by the caller, who cancels.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter, time

import msgspec
import orjson

from inference.backends.base import Reply, UpstreamCall
from inference.backends.table import BackendTable, Shared
from inference.errors import (
    ConfigurationError,
    EngineError,
    GatewayError,
    GatewayOverloaded,
    InvalidRequest,
    ModelNotFound,
    UnsupportedCapability,
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
from inference.wire import sse
from inference.wire.errors import redact
from inference.wire.openai import ParsedRequest
from routing.decide import decide
from routing.types import Candidate, Identity, ModelView, RequestFacts, RouteDecision, Snapshot, UpstreamKey

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


@dataclass(slots=True, eq=False)
class Trail:
    """What happened to a request so far. Spans in seconds."""

    model: ModelView | None = None
    key: UpstreamKey | None = None
    attempts: int = 0
    fallback: bool = False
    upstream: float = 0.0
    """Spent waiting for providers until one answered."""
    reply: Reply | None = None
    shared: Shared | None = None

    @property
    def route(self) -> str:
        return self.model.route if self.model is not None else ""


class _Decisions:
    """Decisions already made under the snapshot in force. What they depend on is the key here, and the second, since keys expire."""

    __slots__ = ("made", "second", "snapshot")

    def __init__(self) -> None:
        self.snapshot: Snapshot | None = None
        self.second = 0
        self.made: dict[tuple[str, str, str | None, tuple[str, ...] | None], Sequence[Candidate]] = {}


_MOST_DECISIONS = 10_000
_decisions = _Decisions()


def candidates_for(request: ParsedRequest, identity: Identity | None, snapshot: Snapshot) -> Sequence[Candidate]:
    """Who may serve, best first. Raises the caller's error when nobody may."""
    now = time()
    decisions = _decisions
    if decisions.snapshot is not snapshot or decisions.second != int(now) or len(decisions.made) > _MOST_DECISIONS:
        decisions.snapshot, decisions.second, decisions.made = snapshot, int(now), {}
    patterns = None if identity is None else identity.allowed_models
    question = (request.model, request.operation.name, request.provider_id, patterns)
    candidates = decisions.made.get(question)
    if candidates is None:
        candidates = decisions.made[question] = _decide(request, identity, snapshot, now)
    return candidates


def _decide(request: ParsedRequest, identity: Identity | None, snapshot: Snapshot, now: float) -> Sequence[Candidate]:
    facts = RequestFacts(
        model=request.model,
        operation=request.operation.name,
        stream=request.stream,
        provider_id=request.provider_id,
        identity=identity,
        session_id=request.session_id,
    )
    decision = decide(facts, snapshot, now=now)
    if not decision.candidates:
        raise refusal(facts, decision)
    return decision.candidates


def refusal(facts: RequestFacts, decision: RouteDecision) -> GatewayError:
    """Why nobody may serve, as far as the caller may know: a model that is not allowed looks like one that is not there."""
    reasons = {dropped.reason for dropped in decision.dropped} - {"model_not_allowed"}
    detail = "; ".join(f"{dropped.route}: {dropped.reason}" for dropped in decision.dropped) or decision.reason
    if "no_usable_key" in reasons:
        return GatewayOverloaded(
            f"No provider of the model '{facts.model}' has a key that can be used at the moment.",
            code="no_healthy_target",
            detail=detail,
            retryable=False,
        )
    if "unsupported_operation" in reasons:
        return UnsupportedCapability(
            f"The model '{facts.model}' does not serve {facts.operation}.", param="model", detail=detail
        )
    if "provider_pinned" in reasons:
        return ModelNotFound(
            f"The provider '{facts.provider_id}' does not offer the model '{facts.model}'.",
            param="provider_id",
            detail=detail,
        )
    message = f"The model '{facts.model}' does not exist or you do not have access to it."
    if decision.nearest:
        message += f" Did you mean: {', '.join(decision.nearest)}?"
    return ModelNotFound(message, param="model", detail=detail)


class Dispatcher:
    """For one event loop, whose backends it uses."""

    def __init__(self, table: BackendTable, limits: Limits, metrics: Metrics) -> None:
        self._table = table
        self._limits = limits
        self._metrics = metrics

    def follow(self, snapshot: Snapshot) -> None:
        self._table.follow(snapshot)

    async def send(
        self,
        request: ParsedRequest,
        candidates: Sequence[Candidate],
        trail: Trail,
        *,
        request_id: str,
        deadline: float,
    ) -> tuple[Reply, bytes | None]:
        """The reply, and of a stream its first bytes. The caller releases the trail whatever happens.

        `deadline` is on the loop's clock and goes to the backends. Raises the `GatewayError` that tells most.
        """
        failures: list[GatewayError] = []
        for candidate in candidates:
            tried: set[int] = set()
            retries = self._limits.retries_on_last_candidate if len(candidates) == 1 else 0
            while True:
                try:
                    return await self._attempt(request, candidate.model, trail, tried, request_id, deadline)
                except GatewayError as error:
                    await self.release(trail)
                    if not error.retryable:
                        raise
                    failures.append(error)
                failure = failures[-1]
                about_the_key = isinstance(failure, UpstreamRefusedOurKey | UpstreamRateLimited)
                if about_the_key and _has_another_key(candidate.model, tried):
                    continue
                pause = self._pause(failure) if retries else None
                if pause is None:
                    break
                retries -= 1
                tried.clear()
                await asyncio.sleep(pause)
            trail.fallback = True
        trail.fallback = len(candidates) > 1
        raise most_telling(failures)

    async def release(self, trail: Trail) -> None:
        """End the upstream's work, if it is not over, and give the backend back."""
        reply, shared = trail.reply, trail.shared
        trail.reply = trail.shared = None
        try:
            if reply is not None and reply.chunks is not None:
                await reply.aclose()
        finally:
            if shared is not None:
                self._table.give_back(shared)

    async def _attempt(
        self,
        request: ParsedRequest,
        model: ModelView,
        trail: Trail,
        tried: set[int],
        request_id: str,
        deadline: float,
    ) -> tuple[Reply, bytes | None]:
        provider = model.provider
        trail.model = model
        trail.attempts += 1
        key = trail.key = choose_key(provider.keys, tried) if provider.keys else None
        call = UpstreamCall(
            request.operation.name,
            model,
            request.fields,
            request.stream,
            request_id,
            key,
            deadline,
            request.session_id,
        )
        outcome = "error"
        began = perf_counter()
        try:
            shared = trail.shared = self._table.take(provider)
            reply = trail.reply = await shared.backend.send(call)
            first = None if reply.chunks is None else await first_bytes(reply)
            outcome = "ok"
            return reply, first
        except GatewayError as error:
            outcome = outcome_of(error)
            if isinstance(error, UpstreamRejected) and key is not None:
                error.body = error.body.replace(key.secret.reveal().encode(), b"[redacted]")
            raise
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            outcome = "invalid_request"
            raise InvalidRequest(f"The request body is not valid JSON: {error}.") from None
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            trail.upstream += perf_counter() - began
            self._metrics.attempts[provider.provider_id, outcome] += 1

    def _pause(self, error: GatewayError) -> float | None:
        if not isinstance(error, _OVER_QUICKLY) or error.code == _SPENT:
            return None
        if error.retry_after is not None:
            return error.retry_after if error.retry_after <= self._limits.longest_retry_pause_seconds else None
        return self._limits.retry_pause_seconds * (1 + random.random())


async def first_bytes(reply: Reply) -> bytes:
    """Wait for the upstream to say something; a stream that ends or fails before is a failure that can be got around."""
    assert reply.chunks is not None
    try:
        first = await anext(reply.chunks)
    except StopAsyncIteration:
        raise UpstreamBroken("The provider ended its answer before it began.") from None
    if not sse.begins_as_stream(first):
        raise UpstreamBroken("The provider's answer is not an event stream.")
    if first[:5] == b"data:" and sse.begins_with_error(first):
        raise UpstreamFailed(f"The provider failed: {_in_band_message(first)}", retryable=True)
    return first


def _in_band_message(first: bytes) -> str:
    payload = first.partition(b"\n\n")[0].removeprefix(b"data:").strip()
    try:
        said = orjson.loads(payload)["error"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return "it sent an error instead of an answer."
    message = said.get("message") if isinstance(said, dict) else said
    return redact(str(message))[:500]


def choose_key(keys: Sequence[UpstreamKey], tried: set[int]) -> UpstreamKey:
    """One of the provider's live keys, by weight, those not yet tried for this request first."""
    if len(keys) == 1 and keys[0].expires_at is None:
        tried.add(keys[0].key_id)
        return keys[0]
    now = time()
    live = [key for key in keys if key.expires_at is None or key.expires_at > now]
    if not live:
        raise ConfigurationError("Every key of the provider has expired.", code="no_usable_key")
    fresh = [key for key in live if key.key_id not in tried] or live
    chosen = random.choices(fresh, [max(key.weight, 0) or 1e-9 for key in fresh])[0]
    tried.add(chosen.key_id)
    return chosen


def _has_another_key(model: ModelView, tried: set[int]) -> bool:
    keys = model.provider.keys
    if len(keys) < 2:
        return False
    now = time()
    return any(key.key_id not in tried and (key.expires_at is None or key.expires_at > now) for key in keys)


def outcome_of(error: GatewayError) -> str:
    """A word for the counters. A rejection's `code` is the upstream's text, and text is no label."""
    if isinstance(error, UpstreamRateLimited):
        return UpstreamRateLimited.code
    return "upstream_rejected" if isinstance(error, UpstreamRejected) else error.code


def most_telling(failures: Sequence[GatewayError]) -> GatewayError:
    """The failure to show; the soonest Retry-After among equals."""

    def rank(error: GatewayError) -> tuple[int, float]:
        kind = next((place for place, kind in enumerate(_TELLING) if isinstance(error, kind)), len(_TELLING))
        return kind, error.retry_after if error.retry_after is not None else float("inf")

    return min(failures, key=rank)
