"""What is passed through to an upstream that speaks OpenAI's API: pictures, sound, moderations and rerankings.

A request goes on as it came, but for the model's name; a form in slices of the buffer that it came in. What kind of reply it is,
the upstream's content type says: events and sound are handed on as they come, everything else is read whole. Only JSON is looked
into, for an error or for what it tells of usage.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Mapping

import msgspec

from inference.backends import http, refusals
from inference.backends.base import Reply, UpstreamCall
from inference.backends.exchange import Body
from inference.backends.inflate import InflatedReply
from inference.backends.sse_relay import RelayedStream
from inference.errors import GatewayError, UpstreamBroken
from inference.told_usage import read_usage, usage_tail
from inference.wire import media
from inference.wire.openai import MEDIA, is_ours

OPERATIONS = frozenset(MEDIA)
ANY_KIND = (("accept", "*/*"),)
"""Headers that win over the provider's: sound is neither JSON nor events."""
_KINDS_OF_TEXT = (b"text/", b"application/x-subrip")
_PLAIN_TEXT = frozenset({b"text/plain", b"text/vtt", b"text/srt", b"application/x-subrip"})
_JSON = b"application/json"
_SOUND_OR_PICTURE = re.compile(rb"(?:audio|image|video)/(?!svg)[a-z0-9.+-]+")
_AS_IT_SAYS: Header = (b"x-content-type-options", b"nosniff")
"""Whoever opens an answer in a browser opens no page of the gateway's own."""

_encode = msgspec.json.Encoder().encode
_read_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode

Header = tuple[bytes, bytes]
Relayed = Callable[[list[Header]], tuple[Header, ...]]


def content_type_of(call: UpstreamCall) -> str:
    """Of what is sent."""
    return "application/json" if call.form is None else call.form.content_type


def body_of(call: UpstreamCall) -> Body:
    """As the client sent it, under the name that the upstream knows, without what speaks to the gateway."""
    name = call.model.upstream_model_id
    if call.form is not None:
        return call.form.with_values({"model": name}, filter(is_ours, (part.name for part in call.form.parts)))
    fields: Mapping[str, msgspec.Raw] = {**call.fields, "model": msgspec.Raw(_encode(name))}
    return _encode(fields)


async def reply_of(call: UpstreamCall, reply: http.HttpReply, refuse: refusals.Reader, relayed: Relayed) -> Reply:
    """Raises a `GatewayError` for whatever is no answer to the call."""
    kind = http.header(reply, b"content-type")
    plain = kind.partition(b";")[0].strip().lower()
    headers = relayed(reply.headers)
    if plain == b"text/event-stream":
        events = Events(http.plain_stream(reply), strip_usage=False, redact=refuse.redacted)
        events.reply = Reply(reply.status, headers, None, events, None, b"text/event-stream")
        return events.reply
    if b"json" in plain or (not plain and call.operation != "speech"):
        return await _json(reply, headers, refuse)
    if plain == b"text/html":
        await reply.aclose()
        raise UpstreamBroken("The provider's answer is a web page.", detail="text/html")
    if plain.startswith(_KINDS_OF_TEXT):
        told = kind if plain in _PLAIN_TEXT else b"text/plain; charset=utf-8"
        return Reply(reply.status, (*headers, _AS_IT_SAYS), await http.whole_body(reply), None, None, told)
    length = http.header(reply, b"content-length")
    known = length.isdigit() and not http.header(reply, b"content-encoding")
    return Reply(
        reply.status,
        (*headers, _AS_IT_SAYS),
        chunks=_Pieces(http.plain_stream(reply)),
        content_type=kind if _SOUND_OR_PICTURE.fullmatch(plain) else b"application/octet-stream",
        opaque=True,
        length=int(length) if known else None,
    )


async def _json(reply: http.HttpReply, headers: tuple[tuple[bytes, bytes], ...], refuse: refusals.Reader) -> Reply:
    """A list is an answer too: some servers rank so."""
    body = await http.whole_body(reply)
    try:
        members = {} if body.lstrip()[:1] == b"[" else _read_members(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise UpstreamBroken("The provider's answer is not JSON.", detail=f"{len(body)} bytes") from error
    if "error" in members and bytes(members["error"]) != b"null" and not _ANSWERS & members.keys():
        failed: GatewayError = refuse.in_band(body)
        raise failed
    tail = usage_tail(body)
    return Reply(reply.status, headers, body, None, None if tail is None else read_usage(tail), _JSON)


_ANSWERS = {"data", "results", "text"}


class _Pieces:
    """A body on its way through, unread."""

    __slots__ = ("_source",)

    def __init__(self, source: http.HttpReply | InflatedReply) -> None:
        self._source = source

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        return await self._source.__anext__()

    async def aclose(self) -> None:
        await self._source.aclose()


class Events(RelayedStream):
    """As events of pictures, sound and transcripts end: by one that is named for it, or by `[DONE]`."""

    __slots__ = ()

    def _look_at(self, events: bytes) -> bytes:
        if media.holds_error(events):
            self.failed = True
            return self._redact(events)
        if media.is_complete(events):
            self.finished = True
        tail = usage_tail(events)
        if tail is not None and (usage := read_usage(tail)) is not None:
            self.usage = usage
            if self.reply is not None:
                self.reply.usage = usage
        return events
