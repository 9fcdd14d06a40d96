"""Anthropic's Messages API, and whoever else speaks it: chat completions are translated, its own clients' requests pass as they are.

What differs from the OpenAI protocol is in `inference.wire.anthropic_asking` and `anthropic_answers`; connections, keys and the meaning
of a status are those of every upstream. The protocol: https://platform.claude.com/docs/en/api/messages.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import msgspec

from inference.backends import anthropic_refusals, http
from inference.backends.anthropic_relay import PassedMessages, TranslatedMessages, usage_of
from inference.backends.base import Reply, UpstreamCall
from inference.backends.openai_compatible import OpenAICompatible
from inference.errors import UnsupportedCapability, UpstreamBroken
from inference.wire.anthropic_answers import ChatEvents, Failed, NoMessage, completion_body
from inference.wire.anthropic_asking import messages_body
from inference.wire.anthropic_native import most_output, without_unsigned_thoughts
from inference.wire.anthropic_usage import Counted
from inference.wire.native import MESSAGES
from providers.connection import text
from routing.types import ProviderView

BASE_URL = "https://api.anthropic.com/v1"
VERSION = "2023-06-01"
_FIRST_WITHOUT_SAMPLING = "2026-10-21"
"""This version of the API refuses a temperature, whichever the model."""

_VERSIONS = re.compile(r"\d{4}-\d{2}-\d{2}\Z", re.ASCII)
_BETA = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}\Z", re.ASCII)
_MOST_BETAS = 24
_RELAYED = (b"retry-after", b"retry-after-ms")
_RATE_LIMIT = b"anthropic-ratelimit-"


class _Whole(msgspec.Struct):
    type: str = ""
    usage: dict[str, Any] | None = None


class _TokenCount(msgspec.Struct):
    input_tokens: int


_encode = msgspec.json.Encoder().encode
_read_whole = msgspec.json.Decoder(_Whole).decode
_read_count = msgspec.json.Decoder(_TokenCount).decode


class Anthropic(OpenAICompatible):
    """See `base.Backend`. Connection: `base_url`, `anthropic_version`, `anthropic_beta`, `headers`, `auth_header`, and those of
    `http.origin_of`; settings: those of `http.limits_of`."""

    speaks = frozenset({MESSAGES})

    def __init__(self, provider: ProviderView) -> None:
        given = provider.connection
        self._version = text(given, "anthropic_version") or VERSION
        self._betas = _safe_betas(text(given, "anthropic_beta"))
        connection = {
            **given,
            "base_url": text(given, "base_url") or text(given, "api_base") or BASE_URL,
            "anthropic_version": self._version,
            "auth_header": text(given, "auth_header") or "x-api-key",
        }
        super().__init__(replace(provider, connection=connection))

    async def send(self, call: UpstreamCall) -> Reply:
        if call.operation != "chat":
            raise UnsupportedCapability(
                f"The model '{call.model.model_id}' answers chats only, at /v1/chat/completions and /v1/messages.",
                param="model",
            )
        native = call.native if call.native is not None and call.native.api == MESSAGES else None
        if native is None:
            return await self._translated(call)
        fields = self._native_fields(native.fields, call)
        reply = await self._ask("messages", fields, call, self._client_headers(native.headers))
        return await self._passed(reply, stream=call.stream)

    async def count_tokens(self, call: UpstreamCall) -> int:
        """What the upstream counts in the question of a native call. Raises a `GatewayError` as `send` does."""
        assert call.native is not None
        fields = self._native_fields(call.native.fields, call)
        reply = await self._ask("count_tokens", fields, call, self._client_headers(call.native.headers))
        try:
            return _read_count(await http.whole_body(reply)).input_tokens
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            raise UpstreamBroken("The provider's count of tokens cannot be read.") from None

    # The request

    async def _ask(
        self, operation: str, body: bytes, call: UpstreamCall, headers: tuple[tuple[str, str], ...] = ()
    ) -> http.HttpReply:
        head = self._head(operation, "", call.key, more=headers)
        reply = await self._post(head, body, call, whole=not call.stream)
        if 200 <= reply.status < 300:
            return reply
        raise anthropic_refusals.judged(await self._refuse.refusal(reply), datetime.now(UTC))

    def _native_fields(self, given: Mapping[str, msgspec.Raw], call: UpstreamCall) -> bytes:
        fields = dict(given)
        fields["model"] = self._name(call.model.upstream_model_id)
        if call.model.max_tokens is not None:
            fields |= most_output(fields, call.model.max_tokens)
        if (messages := fields.get("messages")) is not None:
            fields["messages"] = without_unsigned_thoughts(messages)
        return _encode(fields)

    def _client_headers(self, given: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
        """The client's version of the API, so that the reply is in the form it knows, and the betas it asks for beside ours."""
        told = dict(given)
        headers = []
        if _VERSIONS.match(version := told.get("anthropic-version", "")) and version != self._version:
            headers.append(("anthropic-version", version))
        if asked := [beta for beta in _safe_betas(told.get("anthropic-beta", "")) if beta not in self._betas]:
            headers.append(("anthropic-beta", ",".join((*self._betas, *asked))))
        return tuple(headers)

    async def _translated(self, call: UpstreamCall) -> Reply:
        told = {name: msgspec.json.decode(raw) for name, raw in call.fields.items()}
        model = call.model
        samples = self._version < _FIRST_WITHOUT_SAMPLING
        body = messages_body(told, model.upstream_model_id, model.max_tokens, stream=call.stream, samples=samples)
        reply = await self._ask("messages", body, call)
        created = int(time.time())
        if not call.stream:
            return await self._completion(reply, created)
        options = told.get("stream_options")
        wants_usage = isinstance(options, dict) and options.get("include_usage") is True
        await self._check_stream(reply)
        events = ChatEvents(created, wants_usage)
        stream = TranslatedMessages(http.plain_stream(reply), events, redact=self._refuse.redacted)
        return _streaming(reply, stream)

    # The reply

    async def _completion(self, reply: http.HttpReply, created: int) -> Reply:
        body = await http.whole_body(reply)
        try:
            completion, counted = completion_body(body, created=created)
        except NoMessage:
            raise self._not_json(reply, body) from None
        except Failed:
            raise self._refuse.in_band(body) from None
        return Reply(reply.status, _relayed(reply.headers), completion, usage=usage_of(counted))

    async def _passed(self, reply: http.HttpReply, *, stream: bool) -> Reply:
        if stream:
            await self._check_stream(reply)
            passed = PassedMessages(http.plain_stream(reply), redact=self._refuse.redacted)
            answer = _streaming(reply, passed)
            answer.api = MESSAGES
            return answer
        body = await http.whole_body(reply)
        try:
            told = _read_whole(body)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            raise self._not_json(reply, body) from None
        if told.type == "error":
            raise self._refuse.in_band(body)
        counted = Counted()
        counted.take_in(told.usage)
        return Reply(reply.status, _relayed(reply.headers), body, usage=usage_of(counted), api=MESSAGES)

    async def _check_stream(self, reply: http.HttpReply) -> None:
        """Raises for what is no event stream."""
        kind = http.header(reply, b"content-type").lower()
        if b"event-stream" not in kind and (b"json" in kind or b"html" in kind):
            raise await self._no_stream(reply)


def _streaming(reply: http.HttpReply, stream: PassedMessages) -> Reply:
    answer = Reply(reply.status, _relayed(reply.headers), None, stream, None, b"text/event-stream")
    stream.reply = answer
    return answer


def _safe_betas(told: str) -> tuple[str, ...]:
    """Names that may stand in a header; what is none is left out."""
    betas = dict.fromkeys(beta.strip() for beta in told.split(","))
    return tuple(beta for beta in betas if _BETA.match(beta))[:_MOST_BETAS]


def _relayed(headers: list[tuple[bytes, bytes]]) -> tuple[tuple[bytes, bytes], ...]:
    return tuple([header for header in headers if header[0] in _RELAYED or header[0].startswith(_RATE_LIMIT)])
