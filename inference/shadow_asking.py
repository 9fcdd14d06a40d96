"""How either side is asked for the second answer: this one from inside the process, the legacy one as a request is forwarded.

A side that fails has answered too: its failure is what is compared. What an answer counts against the cap comes with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from hashlib import blake2b
from time import perf_counter

from inference import client, overheard, shadow_budget, shadow_texts
from inference.backends.base import Usage
from inference.backends.inflate import inflate_whole, is_compressed
from inference.errors import GatewayError, UpstreamTimeout
from inference.forwarding import LegacySide
from inference.shadow_pairs import Answer
from inference.shadow_texts import Asked, Unreadable
from inference.wire import hops
from routing.rollout import SHADOW
from routing.types import Identity, ModelView, RolloutView, Snapshot

MOST_BYTES = 256 * 1024
"""Of a body that is read to be compared."""

MARK = b"x-gateway-shadow"
"""The header that a copy carries to the legacy side, with the sender's name: it shows what it is, and is not copied again."""


@dataclass(frozen=True, slots=True)
class Question:
    """A request as it came, to be asked once more. Its headers are in memory only, and never stored."""

    path: str
    target: bytes
    query: bytes
    headers: Sequence[tuple[bytes, bytes]]
    address: str
    scheme: str
    request_id: str
    body: bytes
    asked: Asked


@dataclass(frozen=True, slots=True)
class Heard:
    """An answer, and what it counts against the cap; None when nobody knows whether it will be billed."""

    answer: Answer
    counts: Decimal | None


def sender(rollout: RolloutView) -> bytes:
    """What this gateway calls itself in a copy, so that one which comes back here is found out."""
    return b"gw-" + blake2b(key=rollout.digest_key, digest_size=6).hexdigest().encode()


def model_of(registry: Snapshot, name: str) -> ModelView | None:
    """Whose prices tell what a request for that name costs: the best model that answers to it."""
    known = registry.by_name.get(name)
    return known[0] if known else None


async def of_gateway(asked: Asked, registry: Snapshot, seconds: float, identity: Identity | None = None) -> Heard:
    """The gateway's answer, whole. Its usage row belongs to no client and says that it was a copy; `identity` is whose request it
    copies, whose prompts may go no further than the client's own."""
    began = perf_counter()
    try:
        completion = await client.complete_async(
            asked.body,
            operation=asked.operation,
            identity=identity,
            provider_id=asked.provider_id,
            timeout_seconds=seconds,
            side=SHADOW,
        )
        text = shadow_texts.text_of(completion.body)
    except GatewayError as error:
        return _failed(error, perf_counter() - began)
    except Unreadable:
        return _unreadable(200, perf_counter() - began)
    model = model_of(registry, f"{completion.provider_id}/{completion.model_id}")
    usage = completion.usage if completion.usage != Usage() else _guess(asked, text)
    return Heard(told(text, 200, usage, model, completion.total_seconds), _counted(model, usage))


class LegacyWay:
    """The way to the legacy side under the roll-out in force; for one event loop."""

    def __init__(self) -> None:
        self._rollout: RolloutView | None = None
        self._side: LegacySide | None = None

    async def ask(self, rollout: RolloutView, question: Question, registry: Snapshot, seconds: float) -> Heard:
        """The legacy side's answer, read to its end."""
        began = perf_counter()
        try:
            async with asyncio.timeout(seconds):
                status, raw, stream = await self._fetch(self._reached(rollout, seconds), rollout, question)
        except TimeoutError:
            return _failed(UpstreamTimeout("The legacy system did not answer in time."), perf_counter() - began)
        except GatewayError as error:
            return _failed(error, perf_counter() - began)
        return read(
            status, raw, stream, question.asked, model_of(registry, question.asked.model), perf_counter() - began
        )

    def close(self) -> None:
        if self._side is not None:
            self._side.client.close()
            self._side = None

    def _reached(self, rollout: RolloutView, seconds: float) -> LegacySide:
        if self._side is None or self._rollout != rollout:
            made = LegacySide(rollout, seconds)
            self.close()
            self._rollout, self._side = rollout, made
        return self._side

    async def _fetch(self, side: LegacySide, rollout: RolloutView, question: Question) -> tuple[int, bytes, bool]:
        headers = hops.onward(
            question.headers,
            client=question.address or None,
            scheme=question.scheme,
            request_id=question.request_id,
            replaced=[*side.added, (b"accept-encoding", b"identity"), (MARK, sender(rollout))],
            own_cookies=rollout.own_cookies,
        )
        headers.append((b"content-length", b"%d" % len(question.body)))
        target = hops.target(side.base_path, question.target, question.query)
        reply = await side.client.send("POST", target, headers, question.body)
        try:
            pieces, size = [], 0
            async for piece in reply:
                size += len(piece)
                if size > MOST_BYTES:
                    break
                pieces.append(piece)
        finally:
            reply.abort()
        raw = await inflated(b"".join(pieces), hops.value_of(reply.headers, b"content-encoding"))
        return reply.status, raw, is_stream(hops.value_of(reply.headers, b"content-type"))


def read(status: int, raw: bytes, stream: bool, asked: Asked, model: ModelView | None, seconds: float) -> Heard:
    """What a reply over HTTP says, good or bad."""
    if status >= 400:
        code = overheard.error_code(raw) or f"http_{status}"
        return Heard(Answer("", status, code, seconds), Decimal(0))
    try:
        said = shadow_texts.said(raw, stream=stream)
    except Unreadable:
        return _unreadable(status, seconds)
    usage = _guess(asked, said.text) if said.usage.estimated else said.usage
    return Heard(told(said.text, status, usage, model, seconds), _counted(model, usage))


def told(text: str, status: int, usage: Usage, model: ModelView | None, seconds: float) -> Answer:
    return Answer(
        text=text,
        status=status,
        error="",
        seconds=seconds,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cost=shadow_budget.known_cost(
            model,
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cached_tokens=usage.cached_tokens,
        ),
        estimated=usage.estimated,
    )


async def inflated(raw: bytes, encoding: bytes) -> bytes:
    """The body without its compression, however it came; raises `GatewayError`."""
    return await inflate_whole(raw, encoding, MOST_BYTES) if is_compressed(encoding) else raw


def is_stream(content_type: bytes) -> bool:
    return content_type.lower().startswith(b"text/event-stream")


def _counted(model: ModelView | None, usage: Usage) -> Decimal:
    return shadow_budget.cost(
        model, input_tokens=usage.input_tokens, output_tokens=usage.output_tokens, cached_tokens=usage.cached_tokens
    )


def _guess(asked: Asked, text: str) -> Usage:
    return Usage(asked.size // 4, len(text.encode()) // 4, estimated=True)


def _failed(error: GatewayError, seconds: float) -> Heard:
    """A refusal costs nothing; what was not heard to its end may be billed all the same."""
    cost = None if isinstance(error, UpstreamTimeout) else Decimal(0)
    return Heard(Answer("", error.status, error.code, seconds), cost)


def _unreadable(status: int, seconds: float) -> Heard:
    return Heard(Answer("", status, "unreadable", seconds), None)
