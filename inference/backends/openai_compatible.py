"""Upstreams that speak the OpenAI protocol: requests and replies pass through, only the model's name is exchanged.

Unknown fields reach the upstream, unknown members reach the client. What this backend adds is the key, the meaning of a
status, and the request for usage in streams. The protocol: https://platform.openai.com/docs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Coroutine, Iterable
from typing import Any

import msgspec

from inference import output_limits
from inference.backends import http, media, refusals, responses_relay
from inference.backends.base import Reply, UpstreamCall
from inference.backends.exchange import Body
from inference.backends.sse_relay import RelayedStream
from inference.errors import ConfigurationError, GatewayError, UpstreamBroken
from inference.told_usage import usage_tail
from inference.wire import recalled
from inference.wire.native import RESPONSES, Native
from providers import openai_api
from providers.connection import flag, secrets_in, text
from providers.secrets import Secret
from routing.types import ProviderView, UpstreamKey

_STREAMING = ("chat", "completions")
_RELAYED = frozenset(
    {b"openai-processing-ms", b"openai-version", b"openai-organization", b"retry-after", b"retry-after-ms"}
)
_RATE_LIMIT = b"x-ratelimit-"
_TRUE = msgspec.Raw(b"true")
_FALSE = msgspec.Raw(b"false")
_ONLY_USAGE = msgspec.Raw(b'{"include_usage":true}')
_MOST_PREPARED = 4096
_MOST_DIGITS = 18
_LONGEST_USER = 64
_NO_SUCH_PATH = (404, 405, 501)

_encode = msgspec.json.Encoder().encode
_read_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class OpenAICompatible:
    """See `base.Backend`. Connection: `base_url` (or `api_base`), `headers`, `auth_header`, `url_style`, `api_version`,
    `organization`, `project`, `responses_api` (the upstream has `/responses`), and those of `http.origin_of`; settings: those of `http.limits_of` and `stream_usage`
    (`inject` asks the upstream for the usage of every stream, anything else leaves that to the client)."""

    speaks: frozenset[str] = frozenset()

    def __init__(self, provider: ProviderView) -> None:
        connection = provider.connection
        url = text(connection, "base_url") or text(connection, "api_base")
        if not url:
            raise ConfigurationError("The provider has no base URL.", detail="base_url is missing", param="base_url")
        origin, parsed = http.origin_of(url, connection)
        self._provider = provider
        self._limits = http.limits_of(provider.settings)
        self._client = http.client_for(origin)
        self._target = openai_api.target(parsed, connection)
        self._headers = openai_api.headers(connection)
        self._wants_thoughts = recalled.wants_thoughts(provider.provider_type, parsed.host)
        self._wants_signatures = recalled.wants_signatures(provider.provider_type, parsed.host)
        self._asks_for_usage = provider.settings.get("stream_usage", "inject") == "inject"
        secrets = [*(key.secret for key in provider.keys), *secrets_in(connection)]
        self._refuse = refusals.Reader([secret.reveal() for secret in secrets])
        self._prepared: dict[tuple[object, ...], object] = {}
        self._names: dict[str, msgspec.Raw] = {}
        self._only_chat: set[str] = set()
        """Models that turned out not to answer at `/responses`."""
        if flag(connection, "responses_api", default=False):
            self.speaks = frozenset({RESPONSES})

    async def send(self, call: UpstreamCall) -> Reply:
        if call.operation in media.OPERATIONS:
            return await self._pass_through(call)
        if call.native is not None and call.native.api in self.speaks:
            answer = await self._in_its_own_words(call)
            if answer is not None:
                return answer
        body, strip_usage = self._body(call)
        head = self._head(call.operation, call.model.upstream_model_id, call.key)
        reply = await self._post(head, body, call, whole=not call.stream)
        if not 200 <= reply.status < 300:
            raise await self._refuse.refusal(reply)
        if call.stream:
            return await self._streamed(reply, strip_usage)
        return await self._whole(reply)

    async def _pass_through(self, call: UpstreamCall) -> Reply:
        """Pictures, sound, moderations and rerankings; see `inference.backends.media`."""
        name, content_type = call.model.upstream_model_id, media.content_type_of(call)
        head = self._head(call.operation, name, call.key, content_type, media.ANY_KIND)
        reply = await self._post(head, media.body_of(call), call, whole=False)
        if not 200 <= reply.status < 300:
            raise await self._refuse.refusal(reply)
        return await media.reply_of(call, reply, self._refuse, _relayed)

    async def _in_its_own_words(self, call: UpstreamCall) -> Reply | None:
        """The Responses API; None when this upstream, or this model of it, turns out to have none and can be asked otherwise."""
        assert call.native is not None
        name = call.model.upstream_model_id
        translatable = call.native.untranslatable is None
        if translatable and name in self._only_chat:
            return None
        body = responses_relay.body_of(call, self._name(name), self._provider.provider_type)
        head = self._head(responses_relay.OPERATION, name, call.key)
        reply = await self._post(head, body, call, whole=not call.stream)
        if reply.status in _NO_SUCH_PATH and translatable:
            await reply.aclose()
            if len(self._only_chat) < _MOST_PREPARED:
                self._only_chat.add(name)
            return None
        if not 200 <= reply.status < 300:
            raise await self._refuse.refusal(reply)
        if not call.stream:
            return await self._whole_response(reply)
        kind = http.header(reply, b"content-type").lower()
        if b"event-stream" not in kind and (b"json" in kind or b"html" in kind):
            raise await self._no_stream(reply)
        events = responses_relay.Events(http.plain_stream(reply), self._refuse.redacted)
        answer = Reply(reply.status, _relayed(reply.headers), None, events, None, b"text/event-stream", RESPONSES)
        events.reply = answer
        return answer

    async def _whole_response(self, reply: http.HttpReply) -> Reply:
        body = await http.whole_body(reply)
        try:
            members = _read_members(body)
        except (msgspec.DecodeError, RecursionError) as error:
            raise self._not_json(reply, body) from error
        if bytes(members.get("error", b"null")) != b"null":
            if "output" not in members:
                raise self._refuse.in_band(body)
            body = self._refuse.redacted(body)
        usage = responses_relay.usage_of(body)
        return Reply(reply.status, _relayed(reply.headers), body, usage=usage, api=RESPONSES)

    def keep_secret(self, secrets: Iterable[Secret]) -> None:
        """Keep these out of what is relayed as well, such as a token that came later than the configuration."""
        known = [*(key.secret for key in self._provider.keys), *secrets_in(self._provider.connection), *secrets]
        self._refuse = refusals.Reader([secret.reveal() for secret in known])

    async def list_models(self) -> list[dict[str, Any]]:
        key = self._provider.keys[0] if self._provider.keys else None
        reply = await self._client.send(self._head("models", "", key), limits=self._limits)
        if not 200 <= reply.status < 300:
            raise await self._refuse.refusal(reply)
        return _listed(await http.whole_body(reply))

    async def aclose(self) -> None:
        await self._client.aclose()

    # The request

    def _post(
        self, head: object, body: Body, call: UpstreamCall, *, whole: bool
    ) -> Coroutine[Any, Any, http.HttpReply]:
        """No frame of its own, since every request passes here."""
        return self._client.send(
            head,
            body,
            request_id=call.request_id,
            traceparent=call.traceparent,
            whole=whole,
            limits=self._limits,
            deadline=call.deadline,
        )

    def _head(
        self,
        operation: str,
        model: str,
        key: UpstreamKey | None,
        content_type: str = "application/json",
        more: tuple[tuple[str, str], ...] = (),
    ) -> object:
        """Everything of a request but its body and id, made once for each key. `more` headers win over the provider's."""
        target = self._target(operation, model)
        known = (operation, target, None if key is None else key.key_id, content_type, more)
        prepared = self._prepared.get(known)
        if prepared is None:
            headers = self._headers | dict(more)
            if key is not None:
                name, value = openai_api.credential(self._provider.connection, key.secret)
                headers[name] = value
            if operation != "models":
                headers["content-type"] = content_type
            if len(self._prepared) >= _MOST_PREPARED:
                self._prepared.clear()
            prepared = self._prepared[known] = self._client.prepare(
                "GET" if operation == "models" else "POST", target, http.wire_headers(headers)
            )
        return prepared

    def _body(self, call: UpstreamCall) -> tuple[bytes, bool]:
        """The body, and whether we asked for usage that the client did not ask for."""
        fields = dict(call.fields)
        fields["model"] = self._name(call.model.upstream_model_id)
        if call.model.max_tokens is not None:
            _cap_output(fields, call.model.max_tokens)
        if call.native is not None:  # translated from another protocol, whose clients know no limits of OpenAI's
            _shorten_user(fields)
            if call.operation == "chat":
                self._recall(fields, call.native, call.model.upstream_model_id)
                if output_limits.names(call.model)[0] == output_limits.NEWER:
                    _name_the_newer_limit(fields)
        strip_usage = False
        if call.stream:
            fields["stream"] = _TRUE
            if self._asks_for_usage and call.operation in _STREAMING:
                strip_usage = _ask_for_usage(fields)
        elif "stream" in fields:
            fields["stream"] = _FALSE
        return _encode(fields), strip_usage

    def _recall(self, fields: dict[str, msgspec.Raw], native: Native, model: str) -> None:
        if self._wants_thoughts:
            fields["messages"] = recalled.with_thoughts(fields["messages"], native.thoughts)
        if self._wants_signatures:
            fields["messages"] = recalled.with_signatures(fields["messages"], model)
        if recalled.answers_tools(model):
            fields["messages"] = recalled.with_tools_answered(fields["messages"])

    def _name(self, model: str) -> msgspec.Raw:
        name = self._names.get(model)
        if name is None:
            if len(self._names) >= _MOST_PREPARED:
                self._names.clear()
            name = self._names[model] = msgspec.Raw(_encode(model))
        return name

    # The reply

    async def _whole(self, reply: http.HttpReply) -> Reply:
        body = await http.whole_body(reply)
        try:
            members = _read_members(body)
        except (msgspec.DecodeError, RecursionError) as error:
            raise self._not_json(reply, body) from error
        if (
            "error" in members
            and bytes(members["error"]) != b"null"
            and "choices" not in members
            and "data" not in members
        ):
            raise self._refuse.in_band(body)
        return Reply(reply.status, _relayed(reply.headers), body)

    async def _streamed(self, reply: http.HttpReply, strip_usage: bool) -> Reply:
        kind = http.header(reply, b"content-type").lower()
        if b"event-stream" not in kind and (b"json" in kind or b"html" in kind):
            raise await self._no_stream(reply)
        stream = RelayedStream(http.plain_stream(reply), strip_usage=strip_usage, redact=self._refuse.redacted)
        answer = Reply(reply.status, _relayed(reply.headers), None, stream, None, b"text/event-stream")
        stream.reply = answer
        return answer

    async def _no_stream(self, reply: http.HttpReply) -> GatewayError:
        body = await http.whole_body(reply)
        try:
            failed = "error" in _read_members(body)
        except (msgspec.DecodeError, RecursionError):
            return self._not_json(reply, body)
        if failed:
            return self._refuse.in_band(body)
        whole = UpstreamBroken("The provider did not stream its answer.", detail="a whole body for a stream request")
        whole.used = usage_tail(body) or b""
        return whole

    def _not_json(self, reply: http.HttpReply, body: bytes) -> UpstreamBroken:
        kind = http.header(reply, b"content-type").decode("latin-1")[:80]
        what = f"{len(body)} bytes of {kind or 'no content type'}"
        broken = UpstreamBroken("The provider's answer is not a JSON object.", detail=self._refuse.redacted_text(what))
        broken.used = usage_tail(body) or b""
        return broken


def _cap_output(fields: dict[str, msgspec.Raw], most: int) -> None:
    """No answer is longer than the registry lets the model's be; what is no number, the upstream shall refuse."""
    for name in (output_limits.OLDER, output_limits.NEWER):
        asked = fields.get(name)
        if asked is not None:
            digits = bytes(asked)
            if digits.isdigit() and (len(digits) > _MOST_DIGITS or int(digits) > most):
                fields[name] = msgspec.Raw(b"%d" % most)


def _name_the_newer_limit(fields: dict[str, msgspec.Raw]) -> None:
    limit = fields.pop(output_limits.OLDER, None)
    if limit is not None:
        fields.setdefault(output_limits.NEWER, limit)


def _shorten_user(fields: dict[str, msgspec.Raw]) -> None:
    """Claude Code names its users in more characters than OpenAI takes; a digest tells them apart as well."""
    user = bytes(fields.get("user", b""))
    if user[:1] == b'"' and len(user) > _LONGEST_USER + 2:
        fields["user"] = msgspec.Raw(b'"%b"' % hashlib.sha256(user).hexdigest().encode())


def _ask_for_usage(fields: dict[str, msgspec.Raw]) -> bool:
    """Ask in the client's name; True when the client did not ask itself."""
    given = fields.get("stream_options")
    if given is None or bytes(given) == b"null":
        fields["stream_options"] = _ONLY_USAGE
        return True
    try:
        options = _read_members(given)
    except msgspec.DecodeError:
        return False  # the upstream shall say what is wrong with it
    if bytes(options.get("include_usage", _FALSE)) == b"true":
        return False
    fields["stream_options"] = msgspec.Raw(_encode({**options, "include_usage": _TRUE}))
    return True


def _relayed(headers: list[tuple[bytes, bytes]]) -> tuple[tuple[bytes, bytes], ...]:
    return tuple([header for header in headers if header[0] in _RELAYED or header[0].startswith(_RATE_LIMIT)])


def _listed(body: bytes) -> list[dict[str, Any]]:
    """The models of `{"data": [...]}`, of a bare list (Together) or of `{"models": [...]}`."""
    try:
        told = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise UpstreamBroken("The provider's list of models is not JSON.") from error
    listed = (told.get("data") or told.get("models") or []) if isinstance(told, dict) else told
    if not isinstance(listed, list):
        raise UpstreamBroken("The provider's list of models cannot be read.")
    models = []
    for item in listed:
        if isinstance(item, str):
            models.append({"id": item})
        elif isinstance(item, dict) and (name := item.get("id") or item.get("name") or item.get("model")):
            models.append({**item, "id": str(name)})
    return models
