"""Ollama's own API, for tools that speak no other: the same models, keys, limits and books as `/v1`.

Tools that can send no key are served in the name of one client key, where the operator says which (`Limits.ollama_key`). A page of
somebody else's in a browser on a trusted network could use that as well, so what comes from one is not served so.
"""

from __future__ import annotations

from functools import partial
from time import perf_counter, time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from inference import loaded_models
from inference.backends.base import Reply, Usage
from inference.endpoints import headers as h
from inference.endpoints import ollama_models
from inference.endpoints.dialect import Translated
from inference.endpoints.exchange import Exchange, Receive, Send
from inference.endpoints.small import Asked, Small, whole_body
from inference.errors import InvalidKey, ModelNotFound, PermissionDenied
from inference.offered import named
from inference.wire import ollama
from inference.wire.ollama import LATEST, Question
from inference.wire.ollama_events import CONTENT_TYPE, Lines
from inference.wire.openai import CHAT
from routing.snapshot import current

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from inference.endpoints.headers import Header
    from inference.limits import Limits
    from inference.plane import DataPlane
    from inference.wire.native import Native
    from inference.wire.openai import ParsedRequest
    from routing.types import Snapshot

    Endpoint = Callable[[DataPlane, dict[str, Any], Receive, Send], Coroutine[Any, Any, None]]

_MOST_BYTES = 1024 * 1024
"""Of a body that only names a model."""
_OWN_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})


def stand_in(limits: Limits, scope: dict[str, Any]) -> str | None:
    """The key in whose name a request without any credential is served; None where it is not."""
    if limits.ollama_key is None:
        return None
    for name, value in scope["headers"]:
        if name in h.CREDENTIALS or (name == b"origin" and _is_foreign(value.decode("latin-1"))):
            return None
    return limits.ollama_key.reveal()


def _is_foreign(origin: str) -> bool:
    """Whether a web page of another machine sent it; applications and extensions have schemes of their own."""
    try:
        parts = urlsplit(origin)
        return parts.scheme in ("", "http", "https") and parts.hostname not in _OWN_HOSTS
    except ValueError:
        return True


def looks_for_ollama(scope: dict[str, Any]) -> bool:
    """Whether a client that is no browser asks if anybody is there."""
    if scope["path"] != GREETING or scope["method"] not in ("GET", "HEAD"):
        return False
    return not any(name == b"accept" and b"text/html" in value for name, value in scope["headers"])


def known_name(name: str, snapshot: Snapshot) -> str:
    """The registry's name for what a client means: a name without a tag is one with `:latest`, and the other way round."""
    if name in snapshot.by_name or name in snapshot.policies:
        return name
    other = name.removesuffix(LATEST) if name.endswith(LATEST) else f"{name}{LATEST}"
    return other if other in snapshot.by_name or other in snapshot.policies else name


# What asks a model -------------------------------------------------------------------------------------------------


class _Loads(Exception):
    """Nothing is asked: the client wants a model in memory, or out of it."""


class _Dialect:
    """See `dialect.Dialect`."""

    stream_type = CONTENT_TYPE

    def __init__(self, read: Callable[[bytes], Question]) -> None:
        self.native: Native | None = None
        self.asked: Question | None = None
        self._read = read
        self._began = perf_counter()
        self._lines: Lines | None = None

    def question(self, body: bytes) -> bytes:
        asked = self.asked = self._read(body)
        self.native = asked.native
        self._lines = Lines(asked, perf_counter, time, self._began)
        return asked.body

    def headers(self, request_id: bytes) -> list[Header]:
        return []

    def answer(self, body: bytes) -> bytes:
        assert self.asked is not None
        seconds = perf_counter() - self._began
        if self.asked.operation.streams:
            return ollama.whole_answer(body, self.asked, time(), seconds)
        return ollama.vectors(body, self.asked, seconds)

    def refusal(self, body: bytes, status: int) -> bytes:
        return ollama.error_body(body)

    def piece(self, piece: bytes) -> bytes:
        assert self._lines is not None
        return self._lines.feed(piece)

    def end(self) -> bytes:
        assert self._lines is not None
        return self._lines.end()


class _Exchange(Translated):
    """One that finds out from the body which operation it is, and what a model's name means."""

    __slots__ = ("_own", "_stand_in")

    def __init__(
        self,
        plane: DataPlane,
        scope: dict[str, Any],
        receive: Receive,
        send: Send,
        read: Callable[[bytes], Question],
    ) -> None:
        own = self._own = _Dialect(read)
        super().__init__(plane, CHAT, scope, receive, send, lambda request_id: own)
        self._stand_in = stand_in(plane.limits, scope)

    def _presented(self, snapshot: Snapshot) -> str:
        try:
            return super()._presented(snapshot)
        except InvalidKey:
            if self._stand_in is None:
                raise
            return self._stand_in

    def _parsed(self, body: bytes) -> ParsedRequest:
        said = self._own.question(body)
        asked = self._own.asked
        assert asked is not None
        self._operation = asked.operation
        if asked.loads:
            raise _Loads
        request = Exchange._parsed(self, said)
        request.native = asked.native
        request.model = known_name(request.model, current())
        return request

    async def _serve(self) -> None:
        try:
            await super()._serve()
        except _Loads:
            await self._say_loaded()

    async def _say_loaded(self) -> None:
        """Asks nobody, so it is in no books."""
        asked, identity = self._own.asked, self.identity
        assert asked is not None
        if named(known_name(asked.model, current()), identity, current()) is None:
            raise _not_found(asked.model)
        self.identity = self.trail.identity = None
        await self._reply_whole(Reply(body=ollama.loaded(asked, time()), usage=Usage(), api=asked.native.api))


def _endpoint(read: Callable[[bytes], Question]) -> Endpoint:
    def endpoint(plane: DataPlane, scope: dict[str, Any], receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
        return _Exchange(plane, scope, receive, send, read).run()

    return endpoint


ENDPOINTS: dict[str, Callable[..., Any]] = {
    "/api/chat": _endpoint(ollama.chat),
    "/api/generate": _endpoint(ollama.generate),
    "/api/embed": _endpoint(ollama.embed),
    "/api/embeddings": _endpoint(ollama.embeddings),
}


# What the registry answers -----------------------------------------------------------------------------------------


async def _tags(asked: Asked) -> bytes:
    return ollama_models.listing(asked.identity, asked.snapshot)


async def _show(asked: Asked) -> bytes:
    name = ollama.model_named(await whole_body(asked.receive, _MOST_BYTES))
    found = named(known_name(name, asked.snapshot), asked.identity, asked.snapshot)
    if found is None:
        raise _not_found(name)
    return ollama_models.shown(found, name, asked.snapshot)


async def _loaded(asked: Asked) -> bytes:
    return ollama_models.loaded(await loaded_models.held(), asked.identity, asked.snapshot, time())


async def _greeting(asked: Asked) -> bytes:
    return b"Ollama is running"


async def _version(asked: Asked) -> bytes:
    return ollama_models.VERSION


async def _managed(verb: str, asked: Asked) -> bytes:
    raise PermissionDenied(
        f"Models cannot be {verb} here: they are managed in the gateway's admin, under Providers.",
        detail="one of Ollama's paths that change models",
    )


def _not_found(name: str) -> ModelNotFound:
    return ModelNotFound(f"model '{name[:200]}' not found", param="model")


def _refusal(body: bytes, status: int, request_id: str) -> bytes:
    return ollama.error_body(body)


REFUSED = Small("POST", _version, _refusal)
"""How a request that no endpoint takes is refused on Ollama's paths."""
_small = partial(Small, refusal=_refusal, stand_in=stand_in)

GREETING = "/"
"""Where Ollama's clients look first whether anybody is there; some compare the words. Browsers get the control plane's page."""

SMALL: dict[str, Small] = {
    GREETING: Small("GET", _greeting, _refusal, needs_key=False, content_type=b"text/plain; charset=utf-8"),
    "/api/tags": _small("GET", _tags),
    "/api/show": _small("POST", _show),
    "/api/ps": _small("GET", _loaded),
    "/api/version": Small("GET", _version, _refusal, needs_key=False),
    "/api/pull": _small("POST", partial(_managed, "pulled")),
    "/api/push": _small("POST", partial(_managed, "pushed")),
    "/api/create": _small("POST", partial(_managed, "created")),
    "/api/copy": _small("POST", partial(_managed, "copied")),
    "/api/delete": _small("DELETE", partial(_managed, "deleted")),
}
