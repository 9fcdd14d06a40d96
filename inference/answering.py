"""What a worker answers a job with: the decision and dispatch of `/v1`, streamed, and put together to one answer.

Unlike `inference.client` it records nothing: what the answer cost is told as an `Entry`, for the job to write in the
transaction that ends it.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from time import perf_counter, time
from typing import Any

import orjson

from inference import allowing, attempts, outcomes, recorders
from inference.asking import settle_model
from inference.attempts import Trail
from inference.backends.base import Chunk, Usage
from inference.backends.table import BackendTable
from inference.client import Completion
from inference.contents import Capture
from inference.deciding import rule
from inference.dispatch import outcome_of
from inference.errors import GatewayError, UpstreamBroken, UpstreamFailed, UpstreamTimeout
from inference.limits import Limits
from inference.plane import DataPlane
from inference.recording import Entry, Recorder, entry_from_within
from inference.tokens_seen import in_media, in_question, in_whole
from inference.told_usage import read_usage, usage_tail
from inference.wire import openai, sse
from inference.wire.errors import redact
from inference.wire.openai import ParsedRequest
from routing import snapshot
from routing.types import Identity

holds_models = False
"""Whether local engines run in this very process. Set by `tasks`, once, when a worker knows its queues."""

OnEvents = Callable[[list[bytes]], Awaitable[None]]
Said = Callable[[bytes, bool], bytes]
"""Of a whole answer and whether it is in the words of `ParsedRequest.native`: what its client is told. Raises `UpstreamBroken`."""

_DONE = b"[DONE]"
_LAST_EVENT = re.compile(rb'"type"\s*:\s*"(?:error|response\.(?:completed|incomplete|failed|cancelled))"')


_plane: DataPlane | None = None
_recorder: Recorder | None = None


def plane() -> DataPlane:
    """What this worker answers with, on the running loop: a plane of its own, since in it local engines are not relayed."""
    global _plane
    if _plane is None or _plane.loop is not asyncio.get_running_loop():
        _plane = DataPlane(Limits(), _own_recorder(), table=BackendTable(inside_worker=holds_models))
    return _plane


def _own_recorder() -> Recorder:
    """Jobs write their rows themselves: it keeps what is under way, should this worker be killed, and counts and logs what is over."""
    global _recorder
    if _recorder is None:
        _recorder = recorders.for_this_process()
        atexit.register(_recorder.stop)
    _recorder.start()
    return _recorder


def tell(entry: Entry) -> None:
    """Of a request whose row is written."""
    if _recorder is not None:
        _recorder.written_elsewhere(entry)


def _forget_after_fork() -> None:
    global _plane, _recorder
    _plane = _recorder = None


os.register_at_fork(after_in_child=_forget_after_fork)


class Question:
    """One request and what became of it."""

    def __init__(self, request: ParsedRequest, identity: Identity | None, request_id: str, run: int = 0) -> None:
        self.request = request
        self.identity = identity
        self.request_id = request_id
        self.trail = Trail(
            identity=identity,
            trace_id=request.origin.trace_id,
            parent_span_id=request.origin.parent_span_id,
            run=attempts.RUN + run,
        )
        self.usage: Usage | None = None
        self.events = 0
        self.was_cancelled = False
        self.replied_in = ""
        """The protocol of the answer, where it is not a chat completion: see `inference.wire.native`."""
        self.first_byte: float | None = None
        self.llm_seconds = 0.0
        self._at = time()
        self._began = perf_counter()
        self._ended: float | None = None
        self._capture: Capture | None = None
        self._failed = ""
        """In the words of `inference.outcomes`."""

    @property
    def seconds(self) -> float:
        return (self._ended or perf_counter()) - self._began

    async def streamed(self, on_events: OnEvents, seconds: float | None = None) -> dict[str, Any]:
        """A chat completion put together of the stream, after `on_events` was given the data of each event as it came."""
        async with self._dispatched(seconds) as (reply, first):
            assert first is not None
            assert reply.chunks is not None
            self.first_byte = perf_counter() - self._began
            self.replied_in = reply.api
            collected = CollectedResponse() if reply.api else Collected()
            self._heard(first)
            if events := collected.feed(first):
                self._saw(len(events))
                await on_events(events)
            async for piece in reply.chunks:
                self._heard(piece)
                if events := collected.feed(piece):
                    self._saw(len(events))
                    await on_events(events)
            completion = collected.whole(self.request_id)
            self.usage = reply.usage or read_usage(usage_tail(orjson.dumps(completion)) or b"") or self._guessed()
            if self.trail.slot is not None and not self.usage.estimated:
                self.trail.slot.told(reply.status, self.usage.counts)
            return completion

    async def whole(self, seconds: float | None = None, said: Said = lambda body, native: body) -> tuple[int, bytes]:
        """Status and body of an answer that does not stream, of whatever operation the request is, as `said` has it."""
        async with self._dispatched(seconds) as (reply, _):
            body = reply.body or b""
            self._heard(body)
            tail = usage_tail(body) if reply.usage is None else None
            usage = reply.usage or (read_usage(tail) if tail is not None else None)
            operation = self.request.operation.name
            estimated = in_media if operation in openai.MEDIA else in_whole
            self.usage = usage or estimated(in_question(self.request), operation, body)
            if self.trail.slot is not None and not self.usage.estimated:
                self.trail.slot.told(reply.status, self.usage.counts)
            return reply.status, said(body, bool(reply.api))

    def _heard(self, piece: bytes) -> None:
        if self._capture is not None:
            self._capture.hear(piece)

    def _saw(self, events: int) -> None:
        self.events += events
        if self.trail.slot is not None:
            self.trail.slot.saw(self.events)

    def forget(self) -> None:
        """What this run used is in the ledger: the spool need not know of it any more."""
        if _recorder is not None:
            _recorder.ended(self.trail)

    @contextlib.asynccontextmanager
    async def _dispatched(self, seconds: float | None) -> AsyncIterator[Any]:
        serving = plane()
        registry = snapshot.current()
        limit = serving.limits.stream_seconds
        deadline = serving.loop.time() + min(limit, seconds or limit)
        serving.dispatcher.follow(registry)
        await settle_model(self.request, self.identity)
        began = perf_counter()
        ruling = rule(self.request, self.identity, registry)
        contents = serving.recorder.contents
        if contents is not None:
            self._capture = contents.begin(self.request_id, self._at, self.request, self.identity, ruling)
        try:
            async with asyncio.timeout_at(deadline):
                yield await serving.dispatcher.send(
                    self.request,
                    ruling,
                    self.trail,
                    request_id=self.request_id,
                    deadline=deadline,
                )
        except TimeoutError:
            self._failed = "upstream_timeout"
            raise UpstreamTimeout("The request was not answered in time.") from None
        except GatewayError as error:
            self._failed = outcome_of(error)
            if self.first_byte is not None:
                serving.dispatcher.broke_off(self.trail, error)
            raise
        except asyncio.CancelledError:
            self._failed = "cancelled"
            self.was_cancelled = True
            raise
        finally:
            self._ended = perf_counter()
            self.llm_seconds = self._ended - began
            if self._capture is not None and contents is not None:
                contents.end(self._capture)
            try:
                await serving.dispatcher.release(self.trail)
            finally:
                if self.trail.grant is not None:
                    used = self.usage or self._guessed()
                    allowing.settle(self.trail, used if used != Usage() else None, (0, 0))
            if (model := self.trail.model) is not None:
                serving.metrics.ended(self.trail.ruling, model, self._failed or outcomes.OK)

    def _guessed(self) -> Usage:
        """When nobody told: about one token per event, and the question as it was sent. Nothing before the first event."""
        return Usage(in_question(self.request), self.events, estimated=True) if self.events else Usage()

    def completion(self, body: dict[str, Any]) -> Completion:
        model = self.trail.model
        assert model is not None
        return Completion(
            request_id=self.request_id,
            body=body,
            provider_id=model.provider.provider_id,
            model_id=model.model_id,
            usage=self.usage or self._guessed(),
            attempts=self.trail.attempts,
            total_seconds=self.seconds,
            upstream_seconds=self.llm_seconds,
        )

    def entry(self, status: int, error_code: str = "") -> Entry:
        return entry_from_within(
            self.request_id,
            self._at,
            self.request,
            self.identity,
            self.trail,
            status=status,
            error_code=error_code,
            owner=outcomes.owner_of(self._failed) if error_code else "",
            usage=self.usage or self._guessed(),
            guess=(0, 0),
            cost=None,
            duration=self.seconds,
            first_byte=self.first_byte,
            overhead=max(0.0, self.seconds - max(self.llm_seconds, self.trail.upstream)),
        )


class Collected:
    """An event stream taken apart into its events, and put together to one answer."""

    def __init__(self) -> None:
        self._rest = b""
        self._chunks: list[Chunk] = []
        self._usage: dict[str, Any] | None = None
        self._model = ""
        self._created = int(time())
        self._complete = False

    def feed(self, piece: bytes) -> list[bytes]:
        """The data of the events that `piece` completes. Raises when the upstream says in the stream that it failed."""
        *parts, self._rest = sse.split(self._rest + piece)
        events = [data for part in parts if (data := sse.data_of(part))]
        said = []
        for data in events:
            if data == _DONE:
                self._complete = True
                continue
            self._take(_object(data))
            said.append(data)
        return said

    def whole(self, request_id: str) -> dict[str, Any]:
        """A chat completion; with the upstream's usage when it told."""
        if not self._complete:
            raise UpstreamBroken("The provider's stream ended before its answer was complete.")
        rendering = openai.Rendering("chat", f"chatcmpl-{request_id}", self._model, self._created)
        completion: dict[str, Any] = orjson.loads(rendering.whole(self._chunks))
        if self._usage is not None:
            completion["usage"] = self._usage
        return completion

    def _take(self, event: dict[str, Any]) -> None:
        if event.get("error"):
            error = event["error"]
            message = error.get("message") if isinstance(error, dict) else error
            raise UpstreamFailed(f"The provider failed: {redact(str(message))[:500]}")
        self._model = event.get("model") or self._model
        self._usage = event.get("usage") or self._usage
        for choice in event.get("choices") or ():
            delta = choice.get("delta") or {}
            self._complete = self._complete or choice.get("finish_reason") is not None
            self._chunks.append(
                Chunk(
                    text=delta.get("content") or "",
                    index=choice.get("index") or 0,
                    finish_reason=choice.get("finish_reason"),
                    logprobs=choice.get("logprobs"),
                    tool_calls=delta.get("tool_calls"),
                    reasoning=delta.get("reasoning_content"),
                )
            )


class CollectedResponse:
    """The same of an upstream that answers in the words of the Responses API, whose last event holds all of it."""

    def __init__(self) -> None:
        self._rest = b""
        self._response: dict[str, Any] | None = None

    def feed(self, piece: bytes) -> list[bytes]:
        """The data of the events that `piece` completes. Raises when the upstream says in the stream that it failed."""
        *parts, self._rest = sse.split(self._rest + piece)
        said = [data for part in parts if (data := sse.data_of(part)) and data != _DONE]
        for data in said:
            if _LAST_EVENT.search(data) is not None:
                self._take(_object(data))
        return said

    def whole(self, request_id: str) -> dict[str, Any]:
        if self._response is None:
            raise UpstreamBroken("The provider's stream ended before its answer was complete.")
        return self._response

    def _take(self, event: dict[str, Any]) -> None:
        response = event.get("response")
        if event.get("type") in ("error", "response.failed"):
            error = (response or {}).get("error") or event.get("error") or event
            raise UpstreamFailed(f"The provider failed: {redact(str(error.get('message') or error))[:500]}")
        if event.get("type") in ("response.completed", "response.incomplete", "response.cancelled"):
            self._response = response


def _object(body: bytes) -> dict[str, Any]:
    try:
        decoded = orjson.loads(body)
    except orjson.JSONDecodeError:
        decoded = None
    if not isinstance(decoded, dict):
        raise UpstreamBroken("The provider's answer is not a JSON object.")
    return decoded
