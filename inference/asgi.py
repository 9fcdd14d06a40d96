"""The data plane's door: a raw ASGI callable for `/v1`, for Ollama's paths, and for what the playground asks. The path decides, and
there is no Django below.

`startup()` and `shutdown()` are run by the server's lifespan, in `gateway_project.asgi`.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Coroutine
from functools import partial
from time import perf_counter, time
from typing import Any
from urllib.parse import unquote

from inference import allowing
from inference import loop as bridge
from inference.admission import admit, presented_key
from inference.endpoints import headers as h
from inference.endpoints import models, ollama
from inference.endpoints.exchange import ClientLeft, Receive, Send
from inference.endpoints.small import NOBODY, Asked, Small
from inference.endpoints.table import GENERATING, OLLAMA_PATHS, RERANK_PATHS
from inference.errors import GatewayError, InvalidKey
from inference.forwarding import Forwarder
from inference.limits import Limits
from inference.metrics import Metrics, health_families, metrics, snapshot_families
from inference.plane import DataPlane
from inference.recording import Recorder
from inference.request_ids import new_request_id
from inference.response_keeping import Keeper
from inference.wire import anthropic, errors
from inference.wire.openai import no_websocket, unknown_path, wrong_method
from routing import calibration, client_addresses, health, snapshot
from routing.types import Identity, RolloutView, Snapshot

__all__ = ["OLLAMA_PATHS", "RERANK_PATHS", "Application"]

_MODELS = "/v1/models"
_MESSAGES = "/v1/messages"

_COLLECT_EVERY = (20_000, 20, 20)


class Application:
    """The ASGI callable. One per process; its plane is made on the loop that serves it."""

    def __init__(
        self, limits: Limits, recorder: Recorder, *, counters: Metrics = metrics, keeper: Keeper | None = None
    ) -> None:
        self._limits = limits
        self._recorder = recorder
        self._counters = counters
        self._keeper = keeper
        self._plane: DataPlane | None = None
        self._forwarder: Forwarder | None = None
        self._refresher: asyncio.Task[None] | None = None

    def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
        """The coroutine of whoever answers: a frame of our own would be passed through at every step of every request."""
        plane = self._plane or self._open()
        path = scope["path"]
        endpoint = GENERATING.get(path) or GENERATING.get(path.rstrip("/"))
        if endpoint is None:
            return _answer_small(plane, scope, receive, send)
        if scope["method"] == "POST":
            return endpoint(plane, scope, receive, send)
        small = ollama.REFUSED if path.rstrip("/") in ollama.ENDPOINTS else None
        error = no_websocket(path) if _is_handshake(scope) else wrong_method(scope["method"], path, "POST")
        return _refuse(scope, send, error, allow=b"POST", small=small)

    def forward(
        self, rollout: RolloutView, scope: dict[str, Any], receive: Receive, send: Send
    ) -> Coroutine[Any, Any, None]:
        """The coroutine that has the legacy side serve a request, whichever plane's it would have been here."""
        if self._forwarder is None:
            self._forwarder = Forwarder(self._open())
        return self._forwarder.serve(rollout, scope, receive, send)

    @property
    def inflight(self) -> int:
        return self._plane.watch.inflight if self._plane is not None else 0

    async def startup(self, *, follow_registry: bool = True) -> None:
        """Read the registry, then follow it; start the recorder. Raises when the registry cannot be read at all."""
        self._open()
        if follow_registry:
            await asyncio.to_thread(snapshot.read)
            await health.start()
            self._refresher = asyncio.get_running_loop().create_task(snapshot.keep_fresh())
        self._recorder.start()
        # What start-up made lives as long as the process, and a request makes no cycles: keep the collector from walking
        # the one again and again, and from looking for the other a hundred times a second.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_COLLECT_EVERY)

    async def shutdown(self) -> None:
        """After the last request: write what is queued, close what is open."""
        if self._refresher is not None:
            self._refresher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._refresher
            self._refresher = None
        if self._forwarder is not None:
            self._forwarder.close()
            self._forwarder = None
        if self._plane is not None:
            bridge.leave(self._plane)
            await self._plane.aclose()
            self._plane = None
        await health.stop()
        await asyncio.to_thread(self._recorder.stop)
        await asyncio.to_thread(calibration.stop)  # after the recorder, which teaches it

    def _open(self) -> DataPlane:
        if self._plane is None:
            plane = self._plane = DataPlane(self._limits, self._recorder, counters=self._counters, keeper=self._keeper)
            self._counters.sources = [
                self._recorder.families,
                partial(snapshot_families, snapshot.current),
                health_families,
                allowing.families,
            ]
            self._counters.inflight = lambda: plane.watch.inflight
            bridge.serve_on(plane)
        return self._plane


def _is_handshake(scope: dict[str, Any]) -> bool:
    """Of a websocket; by its key, since the server takes every `upgrade` out of the head."""
    return any(name == b"sec-websocket-key" for name, _ in scope["headers"])


async def _answer_small(plane: DataPlane, scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """The endpoints that ask no upstream, and everything that is not there."""
    path = scope["path"]
    began = perf_counter()
    read = {name: value for name, value in scope["headers"] if name in h.READ}
    small = _small_at(path, read)
    try:
        if small is None:
            raise unknown_path(path)
        if scope["method"] != small.method and (scope["method"], small.method) != ("HEAD", "GET"):
            raise wrong_method(scope["method"], path, small.method)
        registry = snapshot.current()
        identity = _admitted(plane, scope, read, small, registry) if small.needs_key else NOBODY
        body = await small.answer(Asked(scope, receive, read, identity, registry))
    except ClientLeft:
        return
    except GatewayError as error:
        allow = small.method.encode() if small is not None and error.status == 405 else None
        await _refuse(scope, send, error, allow=allow, small=small)
        return
    headers = [(b"content-type", small.content_type), *_common_headers(read, began)]
    await _send_whole(send, 200, headers, body)


def _small_at(path: str, read: dict[bytes, bytes]) -> Small | None:
    if path == _MODELS or path.startswith(_MODELS + "/"):
        return _MODELS_FOR_ANTHROPIC if b"anthropic-version" in read else _MODELS_ENDPOINT
    return ollama.SMALL.get(path)


def _admitted(
    plane: DataPlane, scope: dict[str, Any], read: dict[bytes, bytes], small: Small, registry: Snapshot
) -> Identity:
    try:
        key = presented_key(read.get(b"authorization"), read.get(b"x-api-key"), read.get(b"api-key"))
    except InvalidKey:
        own = small.stand_in(plane.limits, scope)
        if own is None:
            raise
        key = own
    address = client_addresses.of_scope(scope, read.get(b"x-forwarded-for"), registry.trusted_proxies)
    now = time()
    identity = admit(key, registry, now=now, address=address)
    plane.recorder.key_shown(identity, now, address)
    return identity


async def _models(asked: Asked) -> bytes:
    name = _model_name(asked.scope)
    return models.one(name, asked.identity, asked.snapshot) if name else models.listing(asked.identity, asked.snapshot)


async def _models_for_anthropic(asked: Asked) -> bytes:
    if name := _model_name(asked.scope):
        return models.one_for_anthropic(name, asked.identity, asked.snapshot)
    return models.page(asked.identity, asked.snapshot, asked.scope.get("query_string") or b"")


_MODELS_ENDPOINT = Small("GET", _models)
_MODELS_FOR_ANTHROPIC = Small("GET", _models_for_anthropic, anthropic.error_body)


def _model_name(scope: dict[str, Any]) -> str:
    """What follows `/v1/models/`, slashes included; from the raw path, so that `%2F` is a slash of the name as well."""
    raw = scope.get("raw_path")
    path = unquote(raw.decode("latin-1")) if raw else scope["path"]
    return path.partition(_MODELS)[2].strip("/")


async def _refuse(
    scope: dict[str, Any], send: Send, error: GatewayError, *, allow: bytes | None = None, small: Small | None = None
) -> None:
    began = perf_counter()
    read = {name: value for name, value in scope["headers"] if name in h.READ}
    headers = [*errors.headers_of(error), *_common_headers(read, began)]
    if allow is not None:
        headers.append((b"allow", allow))
    body = errors.body_of(error)
    if small is None and (b"anthropic-version" in read or scope["path"].startswith(_MESSAGES)):
        small = _MODELS_FOR_ANTHROPIC
    if small is not None:
        body = small.refusal(body, error.status, dict(headers)[b"x-gateway-request-id"].decode())
    await _send_whole(send, error.status, headers, body)


def _common_headers(read: dict[bytes, bytes], began: float) -> list[h.Header]:
    own = new_request_id().encode()
    shown = h.shown_request_id(read, own)
    elapsed = (perf_counter() - began) * 1000
    theirs = [(b"request-id", own)] if b"anthropic-version" in read else []
    return [
        *theirs,
        (b"x-request-id", shown),
        (b"openai-processing-ms", b"%d" % elapsed),
        h.OPENAI_VERSION,
        (b"x-gateway-request-id", own),
        (b"x-gateway-route", b""),
        (b"x-gateway-attempts", b"0"),
        (b"x-gateway-fallback", b"0"),
        (b"x-gateway-overhead-ms", b"%.3f" % elapsed),
        (b"x-gateway-revision", h.number(snapshot.current().revision)),
        (b"x-trace-id", h.trace_id(read, shown)),
    ]


async def _send_whole(send: Send, status: int, headers: list[h.Header], body: bytes) -> None:
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
