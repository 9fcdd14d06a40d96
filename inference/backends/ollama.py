"""Ollama in its own protocol: https://github.com/ollama/ollama/blob/main/docs/api.md.

A request of Ollama's own clients goes on in their words and its answer comes back so; every other one is a chat completion, a
completion or a question for embeddings, said in Ollama's. What OpenAI's protocol has no word for may stand in a body all the same:
`options`, `keep_alive`, `think`, `format` and the members beside them, and single options such as `num_ctx` and `top_k`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec

from inference.backends import http, refusals
from inference.backends.base import Chunk, ChunkBackend, Reply, UpstreamCall, Usage
from inference.backends.inflate import InflatedReply
from inference.errors import ConfigurationError, GatewayError, UpstreamBroken
from inference.wire import native, ollama_upstream, sse
from inference.wire.ollama import renamed
from inference.wire.ollama_upstream import Told
from providers import openai_api
from providers.connection import secrets_in, text
from providers.ollama import STYLE
from routing.types import ProviderView, UpstreamKey

MAX_LINE_BYTES = 32 * 1024 * 1024
_APIS = {
    native.OLLAMA_CHAT: "chat",
    native.OLLAMA_GENERATE: "completions",
    native.OLLAMA_EMBED: "embeddings",
    native.OLLAMA_EMBEDDINGS: "embedding",
}
"""Each with the operation whose path it is."""
_MOST_PREPARED = 256
_AFTER_DONE_SECONDS = 1.0

_Stream = http.HttpReply | InflatedReply

_encode = msgspec.json.Encoder().encode
_read_told = msgspec.json.Decoder(Told).decode


class Ollama(ChunkBackend):
    """See `base.Backend`. Connection: `base_url`, `headers`, `auth_header` and those of `http.origin_of`; `keep_alive`, `num_ctx`,
    `think` and `options` are what a request gets that says nothing of them, a model's own parameters of these names first."""

    speaks = frozenset(_APIS)

    def __init__(self, provider: ProviderView) -> None:
        super().__init__(provider)
        url = text(provider.connection, "base_url") or text(provider.connection, "api_base")
        if not url:
            raise ConfigurationError("The provider has no base URL.", detail="base_url is missing", param="base_url")
        origin, parsed = http.origin_of(url, provider.connection)
        self._limits = http.limits_of(provider.settings)
        self._client = http.client_for(origin)
        self._target = openai_api.target(parsed, {**provider.connection, "url_style": STYLE})
        self._headers = openai_api.headers(provider.connection)
        secrets = [*(key.secret for key in provider.keys), *secrets_in(provider.connection)]
        self._refuse = refusals.Reader([secret.reveal() for secret in secrets])
        self._prepared: dict[tuple[str, int | None], object] = {}

    async def send(self, call: UpstreamCall) -> Reply:
        own = call.native
        if own is None or own.api not in self.speaks:
            return await super().send(call)
        embeds = call.operation == "embeddings"
        asked = ollama_upstream.native_body(own.fields, call, self.provider.connection, embeds=embeds)
        reply = await self._ask(_APIS[own.api], asked, call)
        name = own.fields.get("model", msgspec.Raw(b'""'))
        if call.stream:
            return self._passed_stream(reply, own.api, name)
        return await self._passed_whole(reply, own.api, name)

    async def chunks(self, call: UpstreamCall) -> AsyncIterator[Chunk]:
        asked = ollama_upstream.body_of(call, self.provider.connection)
        reply = await self._ask(call.operation, asked, call)
        stream = http.plain_stream(reply)
        called = 0
        try:
            async for _, told in self._lines(stream) if call.stream else self._only_line(reply):
                numbered = enumerate(told.calls, called)
                calls = [ollama_upstream.openai_call(one, number, call.request_id) for number, one in numbered]
                called += len(calls)
                yield Chunk(
                    text=told.text,
                    reasoning=told.thought,
                    tool_calls=calls or None,
                    logprobs={"content": told.logprobs} if told.logprobs else None,
                    finish_reason=told.finish_reason(called=called > 0) if told.done else None,
                    usage=_usage(told) if told.done else None,
                )
        finally:
            await stream.aclose()

    async def embed(self, call: UpstreamCall) -> tuple[list[list[float]], Usage]:
        reply = await self._ask("embeddings", ollama_upstream.embed_body(call, self.provider.connection), call)
        told = self._read(await http.whole_body(reply))
        if told.embeddings is None:
            raise UpstreamBroken("The provider's answer holds no embeddings.")
        return told.embeddings, _usage(told) or Usage()

    async def list_models(self) -> list[dict[str, Any]]:
        key = self.provider.keys[0] if self.provider.keys else None
        reply = await self._client.send(self._head("models", key), limits=self._limits)
        if not 200 <= reply.status < 300:
            raise await self._refuse.refusal(reply)
        try:
            told = msgspec.json.decode(await http.whole_body(reply))
        except (msgspec.DecodeError, RecursionError) as error:
            raise UpstreamBroken("The provider's list of models is not JSON.") from error
        listed = told.get("models") if isinstance(told, dict) else None
        if not isinstance(listed, list):
            raise UpstreamBroken("The provider's list of models cannot be read.")
        named = [(one, one.get("model") or one.get("name")) for one in listed if isinstance(one, dict)]
        return [{**one, "id": str(name)} for one, name in named if name]

    async def aclose(self) -> None:
        await self._client.aclose()

    # The request

    async def _ask(self, operation: str, body: Mapping[str, Any], call: UpstreamCall) -> http.HttpReply:
        reply = await self._client.send(
            self._head(operation, call.key),
            _encode(body),
            request_id=call.request_id,
            traceparent=call.traceparent,
            whole=not call.stream,
            limits=self._limits,
            deadline=call.deadline,
        )
        if not 200 <= reply.status < 300:
            raise await self._refuse.refusal(reply)
        return reply

    def _head(self, operation: str, key: UpstreamKey | None) -> object:
        known = (operation, None if key is None else key.key_id)
        prepared = self._prepared.get(known)
        if prepared is None:
            headers = {**self._headers, "accept": "application/x-ndjson, application/json"}
            if key is not None:
                name, value = openai_api.credential(self.provider.connection, key.secret)
                headers[name] = value
            if operation != "models":
                headers["content-type"] = "application/json"
            if len(self._prepared) >= _MOST_PREPARED:
                self._prepared.clear()
            method = "GET" if operation == "models" else "POST"
            target = self._target(operation, "")
            prepared = self._prepared[known] = self._client.prepare(method, target, http.wire_headers(headers))
        return prepared

    # The reply

    async def _passed_whole(self, reply: http.HttpReply, api: str, name: msgspec.Raw) -> Reply:
        line = await http.whole_body(reply)
        told = self._read(line)
        if not told.says_something and _APIS[api] in ("chat", "completions"):
            raise UpstreamBroken("The provider's answer holds no text.")
        return Reply(body=renamed(line, name), usage=_usage(told), api=api)

    def _passed_stream(self, reply: http.HttpReply, api: str, name: msgspec.Raw) -> Reply:
        stream = http.plain_stream(reply)
        answer = Reply(content_type=sse.CONTENT_TYPE, api=api, source=stream)
        answer.chunks = self._events(answer, stream, name)
        return answer

    async def _events(self, answer: Reply, stream: _Stream, name: msgspec.Raw) -> AsyncIterator[bytes]:
        async for line, told in self._lines(stream):
            if told.done:
                answer.usage = _usage(told)
            yield sse.event_of(renamed(line, name))

    async def _lines(self, stream: _Stream) -> AsyncIterator[tuple[bytes, Told]]:
        """An answer's objects up to its last. Raises `UpstreamFailed` for an error among them, and
        `UpstreamBroken` when they end too early."""
        async for line in _split(stream):
            told = self._read(line)
            yield line, told
            if told.done:
                await _drained(stream)
                return
        raise UpstreamBroken("The provider's answer ended before it was complete.", detail="no line with done")

    async def _only_line(self, reply: http.HttpReply) -> AsyncIterator[tuple[bytes, Told]]:
        """A whole answer, on however many lines it is written."""
        body = await http.whole_body(reply)
        told = self._read(body)
        if not told.done:
            raise UpstreamBroken("The provider's answer is not complete.", detail="no done in a whole answer")
        yield body, told

    def _read(self, line: bytes) -> Told:
        try:
            told = _read_told(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise UpstreamBroken(
                "The provider's answer cannot be read.", detail=f"a line of {len(line)} bytes"
            ) from error
        if told.error is not None:
            raise self._refuse.in_band(line)
        return told


async def _split(stream: _Stream) -> AsyncIterator[bytes]:
    """Whole lines, wherever reads cut them, without the empty ones."""
    held: list[bytes] = []
    size = 0
    async for piece in stream:
        *lines, rest = piece.split(b"\n")
        for line in lines:
            whole, held, size = b"".join([*held, line]), [], 0
            if whole.strip():
                yield whole
        held.append(rest)
        size += len(rest)
        if size > MAX_LINE_BYTES:
            raise UpstreamBroken(
                "The provider sent a line that is too large.", detail=f"line over {MAX_LINE_BYTES} bytes"
            )
    if (last := b"".join(held)).strip():
        yield last


async def _drained(stream: _Stream) -> None:
    """Everything was said; the connection gets a moment to end well, so that it can be used again."""
    with contextlib.suppress(GatewayError, TimeoutError):
        async with asyncio.timeout(_AFTER_DONE_SECONDS):
            async for _ in stream:
                pass


def _usage(told: Told) -> Usage | None:
    """None where nothing was counted."""
    if told.prompt_eval_count is None and told.eval_count is None:
        return None
    return Usage(input_tokens=told.prompt_eval_count or 0, output_tokens=told.eval_count or 0)
