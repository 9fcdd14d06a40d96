"""Generation from inside the process: the same decision, dispatch and recording as `/v1`, without HTTP.

Three ways in, each synchronous and asynchronous: `complete` takes the body of an OpenAI request, `generate` takes a prompt,
`respond` takes an `LLMRequest` and always returns an `LLMResponse`, with `error_details` filled when it failed.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from time import perf_counter, time
from typing import Any

import orjson
from django.db import close_old_connections

from inference import allowing, outcomes, prompts, recorders, roles, trace_ids
from inference import loop as bridge
from inference.asking import settle_model
from inference.attempts import Trail
from inference.backends.base import Reply, Usage
from inference.contents import Capture
from inference.deciding import rule
from inference.dispatch import outcome_of
from inference.errors import (
    GatewayError,
    GatewayOverloaded,
    InvalidRequest,
    ModelNotFound,
    UpstreamBroken,
    UpstreamTimeout,
)
from inference.limits import Limits
from inference.plane import DataPlane
from inference.recording import Recorder, entry_from_within
from inference.request_ids import new_request_id
from inference.tokens_seen import Seen, in_question, in_whole
from inference.told_usage import read_usage, usage_tail
from inference.wire.openai import OPERATIONS, ParsedRequest, parse
from inference.wire.problems import error_details
from routing import health, live_models, metering, model_choices, selections, snapshot
from routing.rollout import GATEWAY, SHADOW
from routing.types import Identity, Snapshot

_VERSION = "1.0"

_limits = Limits()
_LAST_WORDS_SECONDS = 2.0
_recorder: Recorder | None = None
"""Of a process that does not serve `/v1`, such as a worker or a command; made on first use."""


# What comes back ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Completion:
    """An OpenAI body and what is known of how it came about. Spans in seconds."""

    request_id: str
    body: dict[str, Any]
    provider_id: str
    model_id: str
    usage: Usage
    attempts: int
    total_seconds: float
    upstream_seconds: float

    @property
    def text(self) -> str:
        choice = _first_choice(self.body)
        return (choice.get("message") or {}).get("content") or choice.get("text") or ""

    @property
    def finish_reason(self) -> str:
        return _first_choice(self.body).get("finish_reason") or "unknown"


def _first_choice(body: Mapping[str, Any]) -> dict[str, Any]:
    choices = body.get("choices") or [{}]
    return choices[0] if isinstance(choices[0], dict) else {}


# Requests in OpenAI's shape ----------------------------------------------------------------------------------------


async def complete_async(
    body: Mapping[str, Any],
    *,
    operation: str = "chat",
    identity: Identity | None = None,
    provider_id: str | None = None,
    session_id: str | None = None,
    timeout_seconds: float | None = None,
    side: str = GATEWAY,
) -> Completion:
    """The whole reply to a body of `/v1/chat/completions` (or another operation). Raises `GatewayError`.

    `provider_id` pins one provider; `identity` limits the models and is written on the usage row, as is the `side`.
    """
    request = _parsed({**body, "stream": False}, operation, provider_id, session_id)
    return await bridge.run_async(_complete(request, identity, timeout_seconds, side))


def complete(body: Mapping[str, Any], *, operation: str = "chat", **options: Any) -> Completion:
    """As `complete_async`, for synchronous code that does not run on the data plane's loop.

    `asks_the_unwell` is for a probe: what is out of service for the moment is asked all the same.
    """
    request = _parsed(
        {**body, "stream": False}, operation, options.pop("provider_id", None), options.pop("session_id", None)
    )
    request.asks_the_unwell = options.pop("asks_the_unwell", False)
    identity, seconds = options.pop("identity", None), options.pop("timeout_seconds", None)
    return bridge.run(_complete(request, identity, seconds, options.pop("side", GATEWAY)))


async def stream_async(
    body: Mapping[str, Any],
    *,
    operation: str = "chat",
    identity: Identity | None = None,
    provider_id: str | None = None,
    session_id: str | None = None,
    told: Callable[[Usage], None] = lambda usage: None,
    served: Callable[[Trail], None] = lambda trail: None,
    begun: Callable[[str], None] = lambda request_id: None,
    asks_the_unwell: bool = False,
    side: str = GATEWAY,
) -> AsyncIterator[bytes]:
    """The bytes of the event stream, as an upstream sent them. To be iterated on the data plane's loop (`loop.run`).

    `begun` hears the request's id before anybody is asked, `served` before the first byte who answers, `told` at the end what was
    used. Closing the iterator ends the upstream's work. Raises `GatewayError`, also in the middle.
    """
    request = _parsed({**body, "stream": True}, operation, provider_id, session_id)
    request.asks_the_unwell = asks_the_unwell
    call = _Call(request, identity, side)
    begun(call.request_id)
    try:
        reply, first = await call.dispatch(_limits.stream_seconds)
        if first is None or reply.chunks is None:
            raise UpstreamBroken("The provider answered whole where a stream was asked for.")
        call.note(first)
        served(call.trail)
        yield first
        async for piece in reply.chunks:
            call.note(piece)
            yield piece
        call.succeed()
        told(call.usage_so_far())
    except GatewayError as error:
        if call.first_byte is not None:
            call.plane.dispatcher.broke_off(call.trail, error)
        call.fail(error)
        raise
    finally:
        await call.close()


async def _complete(
    request: ParsedRequest, identity: Identity | None, most_seconds: float | None, side: str = GATEWAY
) -> Completion:
    call = _Call(request, identity, side)
    try:
        seconds = min(most_seconds or _limits.reply_seconds, _limits.reply_seconds)
        try:
            async with asyncio.timeout(seconds):
                reply, _ = await call.dispatch(seconds)
        except TimeoutError:
            raise UpstreamTimeout("The request was not answered in time.") from None
        call.note(reply.body or b"")
        decoded = _decoded(reply.body)
        if call.usage_so_far() == Usage():
            call.guessed = in_whole(in_question(request), request.operation.name, reply.body or b"")
        call.succeed()
        return call.completion(decoded)
    except GatewayError as error:
        call.fail(error)
        raise
    finally:
        await call.close()


def _parsed(body: Mapping[str, Any], operation: str, provider_id: str | None, session_id: str | None) -> ParsedRequest:
    if operation not in OPERATIONS:
        raise InvalidRequest(f"Unknown operation '{operation}'.", param="operation")
    limit = body.get("max_cost")
    if isinstance(limit, float | Decimal):
        # As a text: JSON has neither decimals nor NaN, and what is no amount must not read as no limit.
        body = {**body, "max_cost": str(limit)}
    try:
        raw = orjson.dumps(body)
    except TypeError as error:
        raise InvalidRequest(f"The request cannot be written as JSON: {error}.") from None
    request = parse(OPERATIONS[operation], raw, _limits.json_depth, _limits.pictures)
    request.provider_id = provider_id or request.provider_id
    request.session_id = session_id or request.session_id
    request.origin = trace_ids.current()
    return request


def _decoded(body: bytes | None) -> dict[str, Any]:
    try:
        decoded = orjson.loads(body or b"")
    except orjson.JSONDecodeError:
        raise UpstreamBroken("The provider's answer is not JSON.") from None
    if not isinstance(decoded, dict):
        raise UpstreamBroken("The provider's answer is not a JSON object.")
    return decoded


class _Call:
    """One request made in the process, and its row."""

    def __init__(self, request: ParsedRequest, identity: Identity | None, side: str = GATEWAY) -> None:
        self.request_id = new_request_id()
        self.side = side
        self.request = request
        self.limited_by = identity
        self.identity = identity if side != SHADOW else None
        """Whose request it is: a copy is nobody's, though it goes where the client's own may go alone."""
        self.trail = Trail(
            identity=self.identity,
            side=side,
            trace_id=request.origin.trace_id,
            parent_span_id=request.origin.parent_span_id,
        )
        self.started = perf_counter()
        self.first_byte: float | None = None
        self.previous = self.last = b""
        self.seen = Seen()
        self.guessed = Usage()
        self.status, self.error_code, self.outcome = 499, "client_disconnected", "client_disconnected"
        self.capture: Capture | None = None
        self.plane = bridge.plane(_make_plane)

    async def dispatch(self, seconds: float) -> tuple[Reply, bytes | None]:
        self.plane.recorder.refuse_if_full()
        if bridge.is_serving():
            registry = snapshot.current()
        else:
            registry = await asyncio.to_thread(_read_registry)
            await health.start()
        self.plane.dispatcher.follow(registry)
        await settle_model(self.request, self.limited_by)
        ruling = rule(self.request, self.limited_by, registry)
        if (contents := self.plane.recorder.contents) is not None and self.side == GATEWAY:
            self.capture = contents.begin(self.request_id, time(), self.request, self.identity, ruling)
        return await self.plane.dispatcher.send(
            self.request,
            ruling,
            self.trail,
            request_id=self.request_id,
            deadline=self.plane.loop.time() + seconds,
        )

    def note(self, piece: bytes) -> None:
        self.previous, self.last = self.last, piece
        if self.capture is not None:
            self.capture.hear(piece)
        slot = self.trail.slot
        if self.request.stream:
            tokens = self.seen.hear(piece)
            if self.first_byte is None:
                self.first_byte = perf_counter() - self.started
            if slot is not None:
                slot.saw(tokens)
        if (
            slot is not None
            and (b'"usage"' in piece or b"[DONE]" in piece)
            and (used := self.usage_so_far()) != Usage()
        ):
            slot.told(200, used.counts)

    def succeed(self) -> None:
        self.status, self.error_code, self.outcome = 200, "", "ok"

    def fail(self, error: GatewayError) -> None:
        self.status, self.error_code, self.outcome = error.status, error.code[:64], outcome_of(error)

    def completion(self, body: dict[str, Any]) -> Completion:
        usage = self.usage_so_far()
        assert self.trail.model is not None
        return Completion(
            request_id=self.request_id,
            body=body,
            provider_id=self.trail.model.provider.provider_id,
            model_id=self.trail.model.model_id,
            usage=usage,
            attempts=self.trail.attempts,
            total_seconds=perf_counter() - self.started,
            upstream_seconds=self.trail.upstream,
        )

    def usage_so_far(self) -> Usage:
        reply = self.trail.reply
        if reply is not None and reply.usage is not None:
            return reply.usage
        tail = usage_tail(self.previous + self.last)
        return (read_usage(tail) if tail else None) or self.guessed

    async def close(self) -> None:
        trail, model = self.trail, self.trail.model
        usage = self.usage_so_far()
        duration = perf_counter() - self.started
        try:
            await self.plane.dispatcher.release(trail)
        finally:
            told: Usage | None = usage if usage != Usage() else None
            guess = (in_question(self.request), self.seen.tokens) if self.seen.tokens else (0, 0)
            cost = None
            if trail.grant is not None:
                told, cost = allowing.settle(trail, told, guess)
            if self.side == GATEWAY:
                self.plane.metrics.ended(trail.ruling, model, self.outcome)
                self.plane.metrics.duration[self.request.operation.name].observe(duration)
            if self.capture is not None and self.plane.recorder.contents is not None:
                self.plane.recorder.contents.end(self.capture)
            self.plane.recorder.add(
                entry_from_within(
                    self.request_id,
                    time() - duration,
                    self.request,
                    self.identity,
                    trail,
                    status=self.status,
                    error_code=self.error_code,
                    owner=outcomes.owner_of(self.outcome),
                    usage=told,
                    guess=guess,
                    cost=cost,
                    duration=duration,
                    first_byte=self.first_byte,
                    overhead=max(0.0, duration - trail.upstream),
                ),
                trail.slot,
            )


def _read_registry() -> Snapshot:
    """A process that does not serve has nobody who keeps its snapshot fresh: it asks for the revision each time."""
    try:
        return snapshot.refresh()
    finally:
        close_old_connections()


def _forget_after_fork() -> None:
    """The recorder's thread stays with the parent."""
    global _recorder
    _recorder = None


os.register_at_fork(after_in_child=_forget_after_fork)


def _make_plane() -> DataPlane:
    global _recorder
    if _recorder is None:
        _recorder = recorders.for_this_process()
        atexit.register(_recorder.stop)
        atexit.register(_stop_sharing)
    _recorder.start()
    return DataPlane(_limits, _recorder)


def _stop_sharing() -> None:
    """What was seen of the routes in a short life is told as well."""
    if not bridge.is_serving():
        with contextlib.suppress(TimeoutError):
            bridge.run(health.stop(), timeout=_LAST_WORDS_SECONDS)
        with contextlib.suppress(TimeoutError):
            bridge.run(metering.stop(), timeout=_LAST_WORDS_SECONDS)


# Requests as a prompt ----------------------------------------------------------------------------------------------


def generate(prompt: str | Sequence[Any], model: str = "", **options: Any) -> LLMResponse:
    """The answer to a prompt: `options` are `provider_id`, `session_id`, `identity`, `system_prompt`, `heavy` (which asks for
    one of the policies heavy and light in place of a model) and OpenAI's parameters.

    Raises `GatewayError`: an error is never text in the content.
    """
    return bridge.run(_respond(*_request_of(prompt, model, options)))


async def generate_async(prompt: str | Sequence[Any], model: str = "", **options: Any) -> LLMResponse:
    return await bridge.run_async(_respond(*_request_of(prompt, model, options)))


def _request_of(
    prompt: str | Sequence[Any], model: str, options: dict[str, Any]
) -> tuple[LLMRequest, Identity | None, str | None]:
    options = dict(options)
    identity, session_id = options.pop("identity", None), options.pop("session_id", None)
    context = {"request_id": options.pop("request_id", None) or str(uuid.uuid4()), "session_id": session_id}
    tools = options.pop("tools", None)
    model = roles.model_of(options.pop("heavy", None), model)
    config = {"model_identifier": model, **{name: value for name, value in options.items() if value is not None}}
    return LLMRequest(prompt_content=prompt, config=config, initial_context=context, tools=tools), identity, None


def chat(prompt: str | Sequence[Any], model: str | None = None, **options: Any) -> LLMResponse:
    """As `generate`, and routing chooses where no model is named: the one that was selected for the `session_id`, else by the
    default policy. `options` are also `preferred_model`, `max_cost` (USD), `require_vision`, `task`, `history`.

    Raises `GatewayError`.
    """
    return LLMResponse.from_completion(complete(*_prompted(prompt, model, options), **options))


async def chat_async(prompt: str | Sequence[Any], model: str | None = None, **options: Any) -> LLMResponse:
    return LLMResponse.from_completion(await complete_async(*_prompted(prompt, model, options), **options))


def chat_with_image(
    prompt: str,
    image_url: str | None = None,
    *,
    image: bytes | str | Path | None = None,
    model: str | None = None,
    **options: Any,
) -> LLMResponse:
    """As `chat`, about a picture: by its URL, or its bytes or file. Only models that see are asked. Raises `GatewayError`."""
    parts = prompts.with_image(prompt, image_url=image_url, image=image)
    return chat(parts, model, **{"require_vision": True, **options})


async def chat_with_image_async(
    prompt: str,
    image_url: str | None = None,
    *,
    image: bytes | str | Path | None = None,
    model: str | None = None,
    **options: Any,
) -> LLMResponse:
    parts = await asyncio.to_thread(prompts.with_image, prompt, image_url=image_url, image=image)
    return await chat_async(parts, model, **{"require_vision": True, **options})


def _prompted(prompt: str | Sequence[Any], model: str | None, options: dict[str, Any]) -> tuple[dict[str, Any]]:
    """The body; what is left in `options` is said beside it."""
    beside = {name: options.pop(name) for name in _BESIDE_THE_BODY if name in options}
    named = roles.model_of(options.pop("heavy", None), model or "")
    told = prompts.body(prompt, named, **options)
    options.clear()
    options.update(beside)
    return (told,)


_BESIDE_THE_BODY = ("identity", "provider_id", "session_id", "timeout_seconds")


# Which models there are ---------------------------------------------------------------------------------------------


def list_models(identity: Identity | None = None) -> list[dict[str, Any]]:
    """The models that can be asked for now: `id` (provider/model), `name`, `status`, `model_type`, `provider_id`,
    `capabilities`, `stale`."""
    try:
        found = model_choices.listed(identity).models
    finally:
        close_old_connections()
    return [
        {
            "id": live.model.route,
            "name": live.model.model_id,
            "status": live.status,
            "model_type": live.model.model_type,
            "provider_id": live.model.provider.provider_id,
            "capabilities": list(live_models.capabilities_of(live.model)),
            "stale": live.reading is not None and live.reading.stale,
        }
        for live in found
    ]


async def list_models_async(identity: Identity | None = None) -> list[dict[str, Any]]:
    return await asyncio.to_thread(list_models, identity)


def select_model(
    model_name: str | None = None,
    capability: str | None = None,
    *,
    session_id: str | None = None,
    identity: Identity | None = None,
) -> str:
    """Choose the model that requests without one mean from now on, of the session or of all that have none; returns its name.

    Raises `ModelNotFound`, `InvalidRequest`, and `GatewayOverloaded` when the choice cannot be kept.
    """
    try:
        chosen = model_choices.choose(identity, model_name=model_name, capability=capability, session_id=session_id)
    except model_choices.NothingChosen as error:
        raise InvalidRequest(str(error), param="model_name") from None
    except live_models.NoSuchChoice as error:
        raise ModelNotFound(str(error), param="model_name") from None
    except selections.SelectionsAway as error:
        raise GatewayOverloaded("The choice cannot be kept at the moment.", detail=str(error)) from error
    finally:
        close_old_connections()
    return chosen.choice.model.model_id


async def select_model_async(model_name: str | None = None, capability: str | None = None, **options: Any) -> str:
    return await asyncio.to_thread(select_model, model_name, capability, **options)


# The source systems' request and response objects ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LLMRequest:
    """`config` holds `model_identifier` and the parameters; unknown ones go to the model. `provider_id` there is a pin; `heavy`
    (true or false, there or beside `config`) asks for one of the policies heavy and light where no model is named."""

    prompt_content: str | Sequence[Any]
    config: Mapping[str, Any]
    initial_context: Mapping[str, Any] = field(default_factory=dict)
    stream: bool = False
    tools: Sequence[Mapping[str, Any]] | None = None
    extensions: Mapping[str, Any] = field(default_factory=dict)
    version: str = _VERSION

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> LLMRequest:
        """Raises `InvalidRequest`, naming the member at fault in `param`."""
        config = told.get("config")
        if not isinstance(config, Mapping):
            raise InvalidRequest("'config' must be an object.", param="config")
        named = roles.model_of(told.get("heavy", config.get("heavy")), config.get("model_identifier") or "")
        if not isinstance(named, str) or not named:
            raise InvalidRequest("'config.model_identifier' is required.", param="config.model_identifier")
        prompt = told.get("prompt_content")
        if not isinstance(prompt, str | list) or not prompt:
            raise InvalidRequest("'prompt_content' must be a text or a list of content items.", param="prompt_content")
        for name, kind in (("initial_context", Mapping), ("extensions", Mapping), ("tools", list)):
            if told.get(name) is not None and not isinstance(told[name], kind):
                raise InvalidRequest(f"'{name}' is of the wrong type.", param=name)
        _check_ranges(config)
        return cls(
            prompt_content=prompt,
            config={**config, "model_identifier": named},
            initial_context=told.get("initial_context") or {},
            stream=bool(told.get("stream", False)),
            tools=told.get("tools"),
            extensions=told.get("extensions") or {},
            version=str(told.get("version") or _VERSION),
        )

    @property
    def request_id(self) -> str:
        return str(self.initial_context.get("request_id") or "")

    @property
    def session_id(self) -> str | None:
        return self.initial_context.get("session_id") or self.initial_context.get("conversation_id")

    @property
    def provider_id(self) -> str | None:
        return self.config.get("provider_id")

    def chat_body(self) -> dict[str, Any]:
        """As `/v1/chat/completions` takes it."""
        body: dict[str, Any] = {"model": self.config["model_identifier"], "messages": self._messages()}
        for name, value in self.config.items():
            if value is None or name in _NOT_PARAMETERS:
                continue
            body[_RENAMED.get(name, name)] = value
        if self.tools:
            body["tools"] = list(self.tools)
        if self.stream:
            body["stream"] = True
        return body

    def _messages(self) -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = []
        if self.config.get("system_prompt"):
            messages.append({"role": "system", "content": self.config["system_prompt"]})
        messages += [_turn(turn) for turn in self.initial_context.get("conversation_history") or ()]
        content = self.prompt_content
        messages.append({"role": "user", "content": content if isinstance(content, str) else _content_items(content)})
        return messages


_NOT_PARAMETERS = {"model_identifier", "heavy", "system_prompt", "timeout_seconds", "provider_id"}
_RENAMED = {"stop_sequences": "stop"}
_RANGES = {
    "temperature": (0, 2),
    "top_p": (0, 1),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
    "max_tokens": (1, float("inf")),
    "timeout_seconds": (0.001, float("inf")),
}


def _check_ranges(config: Mapping[str, Any]) -> None:
    for name, (least, most) in _RANGES.items():
        value = config.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise InvalidRequest(f"'config.{name}' must be a number from {least} to {most}.", param=f"config.{name}")


def _turn(turn: Any) -> dict[str, Any]:
    """A turn of the history: `{role, content}`, with the roles of the source systems."""
    if not isinstance(turn, Mapping):
        raise InvalidRequest("'conversation_history' must hold objects.", param="initial_context.conversation_history")
    role = {"ai": "assistant", "model": "assistant", "human": "user"}.get(turn.get("role", ""), turn.get("role"))
    content = turn.get("content", turn.get("text_content", ""))
    kept = {name: turn[name] for name in ("name", "tool_calls", "tool_call_id") if turn.get(name)}
    return {"role": role or "user", "content": content, **kept}


def _content_items(items: Sequence[Any]) -> list[Any]:
    """Content items in OpenAI's shape; the source systems' `{type: text, text_content}` becomes `{type: text, text}`."""
    converted = []
    for item in items:
        if isinstance(item, str):
            converted.append({"type": "text", "text": item})
        elif isinstance(item, Mapping) and "text_content" in item:
            converted.append({"type": "text", "text": item["text_content"]})
        else:
            converted.append(item)
    return converted


@dataclass(frozen=True, slots=True)
class LLMResponse:
    request_id: str
    generated_content: str | list[Any] | None
    finish_reason: str
    """stop, length, tool_calls, content_filtered, error or unknown."""
    tool_use_requests: list[dict[str, Any]] | None = None
    usage: Mapping[str, int] | None = None
    error_details: Mapping[str, Any] | None = None
    performance_metrics: Mapping[str, float] | None = None
    provider_id: str = ""
    model_id: str = ""
    version: str = _VERSION

    def to_dict(self) -> dict[str, Any]:
        return {
            "version": self.version,
            "request_id": self.request_id,
            "generated_content": self.generated_content,
            "finish_reason": self.finish_reason,
            "tool_use_requests": self.tool_use_requests,
            "usage": dict(self.usage) if self.usage is not None else None,
            "error_details": dict(self.error_details) if self.error_details is not None else None,
            "performance_metrics": dict(self.performance_metrics) if self.performance_metrics is not None else None,
            "provider_id": self.provider_id,
            "model_id": self.model_id,
        }

    @classmethod
    def from_completion(cls, completion: Completion, request_id: str = "") -> LLMResponse:
        message = _first_choice(completion.body).get("message") or {}
        total = completion.total_seconds * 1000
        upstream = completion.upstream_seconds * 1000
        return cls(
            request_id=request_id or completion.request_id,
            generated_content=completion.text or (None if message.get("tool_calls") else ""),
            finish_reason=_FINISH_REASONS.get(completion.finish_reason, "unknown"),
            tool_use_requests=message.get("tool_calls") or None,
            usage={
                "prompt_tokens": completion.usage.input_tokens,
                "completion_tokens": completion.usage.output_tokens,
                "total_tokens": completion.usage.input_tokens + completion.usage.output_tokens,
            },
            performance_metrics={
                "total_duration_ms": total,
                "llm_latency_ms": upstream,
                "gateway_overhead_ms": max(0.0, total - upstream),
            },
            provider_id=completion.provider_id,
            model_id=completion.model_id,
        )

    @classmethod
    def from_error(cls, error: GatewayError, request_id: str, seconds: float = 0.0) -> LLMResponse:
        return cls(
            request_id=request_id,
            generated_content=None,
            finish_reason="error",
            error_details=error_details(error),
            performance_metrics={
                "total_duration_ms": seconds * 1000,
                "llm_latency_ms": 0.0,
                "gateway_overhead_ms": seconds * 1000,
            },
        )


_FINISH_REASONS = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filtered",
}


def respond(request: LLMRequest, identity: Identity | None = None) -> LLMResponse:
    """Never raises for a failed generation: the response says what went wrong, and its content is None."""
    return bridge.run(_respond_always(request, identity))


async def respond_async(request: LLMRequest, identity: Identity | None = None) -> LLMResponse:
    return await bridge.run_async(_respond_always(request, identity))


async def _respond_always(request: LLMRequest, identity: Identity | None) -> LLMResponse:
    began = perf_counter()
    request_id = request.request_id or str(uuid.uuid4())
    try:
        return await _respond(request, identity, request_id)
    except GatewayError as error:
        return LLMResponse.from_error(error, request_id, perf_counter() - began)


async def _respond(request: LLMRequest, identity: Identity | None, request_id: str | None = None) -> LLMResponse:
    body = replace(request, stream=False).chat_body()
    parsed = _parsed(body, "chat", request.provider_id, request.session_id)
    completion = await _complete(parsed, identity, request.config.get("timeout_seconds"))
    return LLMResponse.from_completion(completion, request_id or request.request_id)
