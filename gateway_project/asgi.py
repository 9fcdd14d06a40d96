"""The door of the web process: the path decides between the data plane and Django.

`/v1/…` and Ollama's paths go to a raw ASGI callable without Django, but for what `/v1` keeps between requests; that and everything
else is the control plane's. Before either is asked, a parallel run may have the request served by the legacy side. The lifespan belongs to the data plane: the registry is read before the
first request and what was recorded is written after the last.
"""

from __future__ import annotations

import asyncio
import logging
import os
from functools import partial
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway_project.settings")
django.setup()

from django.conf import settings  # noqa: E402

from gateway_project.body_lengths import ControlPlane  # noqa: E402
from inference import (  # noqa: E402
    alert_events,
    old_paths,
    process_beats,
    process_facts,
    recorders,
    response_keeper,
    shared_metrics,
    upload_guard,
)
from inference.asgi import OLLAMA_PATHS, RERANK_PATHS, Application  # noqa: E402
from inference.endpoints.ollama import looks_for_ollama  # noqa: E402
from inference.forwarding import goes_to_legacy  # noqa: E402
from inference.limits import Limits  # noqa: E402
from inference.metrics import metrics  # noqa: E402
from inference.shadowing import Shadowing  # noqa: E402
from providers.secrets import Secret  # noqa: E402
from routing import permits, snapshot  # noqa: E402
from routing.rollout import GATEWAY, LEGACY  # noqa: E402
from routing.types import RolloutView  # noqa: E402

logger = logging.getLogger("gateway")

control_plane = ControlPlane()
data_plane = Application(
    Limits(
        body_bytes=settings.GATEWAY_MAX_BODY_BYTES,
        body_seconds=settings.GATEWAY_BODY_TIMEOUT_SECONDS,
        reply_seconds=settings.GATEWAY_REQUEST_TIMEOUT_SECONDS,
        keep_alive_seconds=settings.GATEWAY_KEEP_ALIVE_COMMENT_SECONDS,
        ollama_key=Secret(settings.GATEWAY_OLLAMA_KEY) if settings.GATEWAY_OLLAMA_KEY else None,
    ),
    recorders.for_this_process(),
    keeper=response_keeper.for_this_process(),
)
shadowing = Shadowing(settings.REDIS_URL)
_OF_THE_DATA_PLANE = frozenset({"/v1", permits.TAKEN_AT, *OLLAMA_PATHS, *RERANK_PATHS})
_KEPT = ("/v1/files", "/v1/batches", upload_guard.MESSAGE_BATCHES, "/v1/responses/resp_")
"""Where `/v1` keeps things: the database is the control plane's."""


def application(scope: dict[str, Any], receive: Any, send: Any) -> Any:
    """Returns the coroutine of whoever serves: a frame of our own would cost every request."""
    if scope["type"] == "http":
        rollout = snapshot.rollout()
        forwarded = rollout is not None and rollout.parts and goes_to_legacy(rollout, scope)
        way = rollout if forwarded else None
        if rollout is not None and rollout.shadow_share:
            copied = shadowing.listen(rollout, LEGACY if forwarded else GATEWAY, scope)
            if copied is not None:
                return copied.serve(partial(_serve, way), receive, send)
        return _serve(way, scope, receive, send)
    if scope["type"] == "lifespan":
        return _lifespan(receive, send)
    return _close_websocket(receive, send)


def _serve(forward_under: RolloutView | None, scope: dict[str, Any], receive: Any, send: Any) -> Any:
    if forward_under is not None:
        return data_plane.forward(forward_under, scope, receive, send)
    path = scope["path"]
    if (path.startswith("/v1/") or path in _OF_THE_DATA_PLANE) and not path.startswith(_KEPT):
        return data_plane(scope, receive, send)
    if path == "/" and looks_for_ollama(scope):
        return data_plane(scope, receive, send)
    if scope["method"] == "POST" and path.startswith(_KEPT):
        is_large = upload_guard.is_large(path)
        most_bytes = settings.GATEWAY_MAX_FILE_BYTES if is_large else settings.GATEWAY_MAX_BODY_BYTES
        return upload_guard.serve(control_plane, scope, receive, send, most_bytes)
    return control_plane(scope, receive, send)


async def _lifespan(receive: Any, send: Any) -> None:
    await receive()
    try:
        await data_plane.startup()
    except Exception as error:
        logger.exception("the data plane did not start")
        await send({"type": "lifespan.startup.failed", "message": f"{type(error).__name__}: {error}"})
        return
    old_paths.counting.start()
    alert_events.watch_meter()
    alert_events.events.start()
    shared_metrics.join(settings.DATA_DIR / "metrics", metrics.collect)
    process_facts.begin_web(lambda: data_plane.inflight)
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await shadowing.aclose()
    await data_plane.shutdown()
    await asyncio.to_thread(old_paths.counting.stop)
    await asyncio.to_thread(alert_events.events.stop)
    await asyncio.to_thread(shared_metrics.leave)
    await asyncio.to_thread(process_beats.end)
    await send({"type": "lifespan.shutdown.complete"})


async def _close_websocket(receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.close", "code": 1000})
