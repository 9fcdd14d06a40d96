"""Chat in the shapes of a source system: whole, as its stream of events, its oldest form, and what would be chosen.

Each answer names its trace. A failure is a status with a structured error, or an event of the stream once that has begun; it
is never text in the content.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import orjson
from django.http import StreamingHttpResponse
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response

from inference import chat_requests, client, trace_ids
from inference import loop as bridge
from inference.answering import Collected
from inference.api.streams import frame
from inference.api.views import GeneratingView
from inference.attempts import Trail
from inference.backends.base import Usage
from inference.chat_requests import CAPABILITIES, ChatRequest
from inference.errors import GatewayError
from inference.recording import cost_of
from inference.refusing import refusal
from inference.wire import problems, sse
from providers.pricing import USD
from routing import health, snapshot, strategies
from routing.decide import decide
from routing.types import Identity, ModelView, RequestFacts, RouteDecision, Snapshot

PROGRESS_EVERY = 50
"""Chunks of a stream between two `progress` events."""
KEEP_ALIVE_SECONDS = 10.0


class ChatIn(serializers.Serializer):
    """Members beyond these go to the model as they are, such as tools and response_format."""

    messages = serializers.JSONField(help_text="A list of messages; /send takes one text as well.")
    model = serializers.CharField(required=False)
    node_name = serializers.CharField(required=False, help_text="A node whose policy decides, where there is one.")
    capabilities = serializers.ListField(child=serializers.CharField(), required=False)
    strategy = serializers.CharField(required=False)
    max_cost_tier = serializers.CharField(required=False, help_text="LOW, MEDIUM, HIGH or PREMIUM.")
    temperature = serializers.FloatField(required=False)
    max_tokens = serializers.IntegerField(required=False)
    stream = serializers.BooleanField(required=False)
    conversation_id = serializers.CharField(required=False)
    mode = serializers.CharField(required=False, help_text="Of /send: stands for capabilities that are wished.")


class TokensOut(serializers.Serializer):
    prompt = serializers.IntegerField()
    completion = serializers.IntegerField()
    total = serializers.IntegerField()


class ChatOut(serializers.Serializer):
    content = serializers.CharField()
    model_used = serializers.CharField()
    provider = serializers.CharField()
    tokens_used = TokensOut()
    cost_usd = serializers.FloatField(allow_null=True, help_text="null where the price is not known.")
    latency_ms = serializers.IntegerField()
    trace_id = serializers.CharField()
    conversation_id = serializers.CharField(allow_null=True)
    timestamp = serializers.DateTimeField()
    finish_reason = serializers.CharField()
    tool_calls = serializers.ListField(child=serializers.DictField(), required=False)
    warning = serializers.CharField(required=False)


class SelectionOut(serializers.Serializer):
    selected_model = serializers.CharField()
    provider = serializers.CharField()
    reasoning = serializers.CharField()
    confidence_score = serializers.FloatField()
    estimated_cost = serializers.FloatField(allow_null=True)
    alternatives = serializers.ListField(child=serializers.CharField())
    capabilities = serializers.DictField(child=serializers.BooleanField())


class ChatView(GeneratingView):
    """What all of them share. Their trace goes out with every answer; see `gateway_project.requests`."""

    def perform_content_negotiation(self, request: Request, force: bool = False) -> Any:
        """Clients of streams ask for `text/event-stream`; errors are JSON all the same."""
        return super().perform_content_negotiation(request, force=True)

    def answer(self, request: Request, asked: ChatRequest) -> Any:
        question = _Question(asked, request.auth)
        if asked.stream:
            return _streamed(question, request)
        completion = client.complete(question.body, identity=request.auth, session_id=asked.conversation_id)
        model = _model(completion.provider_id, completion.model_id)
        message = (completion.body.get("choices") or [{}])[0].get("message") or {}
        told = {
            "content": completion.text,
            "model_used": completion.model_id,
            "provider": completion.provider_id,
            "tokens_used": _tokens(completion.usage),
            "cost_usd": _cost(model, completion.usage),
            "latency_ms": round(completion.total_seconds * 1000),
            "trace_id": trace_of(request),
            "conversation_id": asked.conversation_id,
            "timestamp": timezone.now(),
            "finish_reason": completion.finish_reason,
        }
        if message.get("tool_calls"):
            told["tool_calls"] = message["tool_calls"]
        if question.warning:
            told["warning"] = question.warning
        return Response(told)


class CompleteView(ChatView):
    @extend_schema(request=ChatIn, responses=ChatOut)
    def post(self, request: Request) -> Any:
        """Chat and wait for the whole answer; the model is chosen by node, capabilities and strategy."""
        return self.answer(request, chat_requests.read(request.data, strategies.names()))


class StreamView(ChatView):
    @extend_schema(request=ChatIn, responses={(200, "text/event-stream"): OpenApiTypes.STR})
    def post(self, request: Request) -> Any:
        """The same as events: metadata, content, progress, error, done."""
        return self.answer(request, replace(chat_requests.read(request.data, strategies.names()), stream=True))


class SendView(ChatView):
    @extend_schema(request=ChatIn, responses=ChatOut)
    def post(self, request: Request) -> Any:
        """The oldest form: `messages` may be one text, and `mode` says what is wished of the model."""
        return self.answer(request, chat_requests.read_legacy(request.data))


class SelectModelView(ChatView):
    @extend_schema(
        request=ChatIn,
        responses=SelectionOut,
        parameters=[OpenApiParameter("node_name", str), OpenApiParameter("strategy", str)],
    )
    def post(self, request: Request) -> Response:
        """Which model would be chosen, without asking it."""
        told = dict(request.query_params.items()) | (dict(request.data) if isinstance(request.data, dict) else {})
        if isinstance(request.data, list):
            told["capabilities"] = request.data  # as that system's framework reads a body of one list
        asked = chat_requests.read(told, strategies.names(), needs_messages=False)
        held = snapshot.refresh()
        facts = asked.facts(_name(asked, held), identity=request.auth)
        decision = _decided(facts, held)
        if not decision.candidates:
            raise refusal(facts, decision, time.time())
        first = decision.candidates[0]
        return Response(
            {
                "selected_model": first.model.model_id,
                "provider": first.model.provider.provider_id,
                "reasoning": decision.reason,
                "confidence_score": decision.confidence,
                "estimated_cost": None if first.estimate is None else float(first.estimate),
                "alternatives": [candidate.model.model_id for candidate in decision.candidates[1:]],
                "capabilities": chat_requests.shows(first.model.capabilities),
            }
        )


class CapabilitiesView(ChatView):
    permission_classes = [AllowAny]

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        """The capabilities and strategies that can be asked for."""
        return Response(
            {
                "capabilities": [
                    {"name": name, "description": description, "category": category}
                    for name, (description, category) in CAPABILITIES.items()
                ],
                "strategies": [
                    {"name": name, "description": strategies.find(name).label} for name in strategies.names()
                ],
            }
        )


def trace_of(request: Request) -> str:
    return trace_ids.trace_of(request.headers, getattr(request, "request_id", ""))


class _Question:
    """A request with its body for `/v1`, once it is known which of its wishes can be met."""

    def __init__(self, asked: ChatRequest, identity: Identity | None) -> None:
        held = snapshot.refresh()
        name, self.warning = _name(asked, held), ""
        if asked.wished and asked.capabilities:
            facts = asked.facts(name, identity=identity)
            if not _decided(facts, held).candidates:
                missing = ", ".join(sorted(asked.capabilities))
                self.warning = f"No model has all of what the mode wishes ({missing}); another one serves."
                asked = replace(asked, capabilities=frozenset())
        if not asked.strategy and not name and not held.defaults.default_policy:
            asked = replace(asked, strategy=chat_requests.STANDARD_STRATEGY)
        self.asked, self.identity, self.body = asked, identity, asked.body(name)


def _name(asked: ChatRequest, held: Snapshot) -> str:
    return chat_requests.name_for(asked, held)


def _decided(facts: RequestFacts, held: Snapshot) -> RouteDecision:
    return decide(facts, held, health.read(), now=time.time())


# The stream -------------------------------------------------------------------------------------------------------------


def _streamed(question: _Question, request: Request) -> StreamingHttpResponse:
    """The first piece is awaited here: what fails before it is an HTTP status like any other."""
    stream = _Stream(question, trace_of(request))
    first = bridge.run(stream.begin())
    return StreamingHttpResponse(
        stream.events(first),
        content_type="text/event-stream; charset=utf-8",
        headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )


class _Stream:
    def __init__(self, question: _Question, trace_id: str) -> None:
        self._question = question
        self._trace_id = trace_id
        self._trail = Trail()
        self._usage = Usage()
        self._collected = Collected()
        self._chunks = 0
        self._pieces = client.stream_async(
            question.body,
            identity=question.identity,
            session_id=question.asked.conversation_id,
            told=self._hear_usage,
            served=self._hear_trail,
        )

    async def begin(self) -> bytes:
        return await anext(self._pieces)

    async def events(self, first: bytes) -> AsyncIterator[bytes]:
        """On whichever loop the answer is written; the model's stream stays on the data plane's."""
        try:
            yield _event("metadata", self._metadata())
            for event in self._content(first):
                yield event
            async for piece in self._rest():
                if piece is None:
                    yield sse.KEEP_ALIVE
                    continue
                for event in self._content(piece):
                    yield event
            yield _event("done", self._done())
        except GatewayError as error:
            yield _event("error", self._error(error))
        finally:
            await bridge.run_async(self._close())

    async def _rest(self) -> AsyncIterator[bytes | None]:
        """The pieces; None where nothing came for a while."""
        while True:
            waiting = asyncio.ensure_future(bridge.run_async(self._next()))
            try:
                while not (await asyncio.wait({waiting}, timeout=KEEP_ALIVE_SECONDS))[0]:
                    yield None
            finally:
                if not waiting.done():
                    waiting.cancel()
            piece = waiting.result()
            if piece is None:
                return
            yield piece

    async def _next(self) -> bytes | None:
        return await anext(self._pieces, None)

    async def _close(self) -> None:
        await self._pieces.aclose()

    def _hear_usage(self, usage: Usage) -> None:
        self._usage = usage

    def _hear_trail(self, trail: Trail) -> None:
        self._trail = trail

    # What is told

    def _content(self, piece: bytes) -> list[bytes]:
        told = []
        for data in self._collected.feed(piece):
            for choice in orjson.loads(data).get("choices") or ():
                delta = choice.get("delta") or {}
                said = {"token": delta["content"]} if delta.get("content") else {}
                if delta.get("tool_calls"):
                    said["tool_calls"] = delta["tool_calls"]
                if not said:
                    continue
                self._chunks += 1
                told.append(_event("content", {"type": "content", **said, **self._served()}))
                if self._chunks % PROGRESS_EVERY == 0:
                    # A chunk is about a token; what the upstream counts is told at the end.
                    progress = {"type": "progress", "tokens_generated": self._chunks, "chunk_count": self._chunks}
                    told.append(_event("progress", progress))
        return told

    def _metadata(self) -> dict[str, Any]:
        ruling = self._trail.ruling
        first = ruling.candidates[0] if ruling is not None and ruling.candidates else None
        told = {
            "type": "metadata",
            **self._served(),
            "reasoning": ruling.decision.reason if ruling is not None else "",
            "estimated_cost": None if first is None or first.estimate is None else float(first.estimate),
            "conversation_id": self._question.asked.conversation_id,
        }
        return told | ({"warning": self._question.warning} if self._question.warning else {})

    def _done(self) -> dict[str, Any]:
        whole = self._collected.whole("")  # raises for a stream that just ended
        choices = whole["choices"]
        return {
            "type": "done",
            "total_tokens": self._usage.input_tokens + self._usage.output_tokens,
            "tokens_used": _tokens(self._usage),
            "cost_usd": _cost(self._trail.model, self._usage),
            "chunk_count": self._chunks,
            "finish_reason": choices[0]["finish_reason"] if choices else None,
            **self._served(),
        }

    def _error(self, error: GatewayError) -> dict[str, Any]:
        return {
            "type": "error",
            "error": error.message,
            "error_details": problems.error_details(error),
            **self._served(),
        }

    def _served(self) -> dict[str, Any]:
        model = self._trail.model
        return {
            "model": model.model_id if model is not None else None,
            "provider": model.provider.provider_id if model is not None else None,
            "trace_id": self._trace_id,
        }


def _event(kind: str, told: dict[str, Any]) -> bytes:
    return frame(kind, orjson.dumps(told))


# Figures ----------------------------------------------------------------------------------------------------------------


def _tokens(usage: Usage) -> dict[str, int]:
    return {
        "prompt": usage.input_tokens,
        "completion": usage.output_tokens,
        "total": usage.input_tokens + usage.output_tokens,
    }


def _model(provider_id: str, model_id: str) -> ModelView | None:
    found = snapshot.current().by_name.get(f"{provider_id}/{model_id}", ())
    return found[0] if found else None


def _cost(model: ModelView | None, usage: Usage) -> float | None:
    """USD; None where the price is not known, or is in another currency."""
    if model is None or model.prices.currency != USD:
        return None
    told = cost_of(model, usage)
    return None if told is None else float(told)
