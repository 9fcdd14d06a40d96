"""The gateway's data plane on a real socket: uvicorn as in production, in a thread, over a snapshot built by hand."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import uvicorn

from gateway_project.server import BoundedHttp
from inference.asgi import Application
from inference.limits import Limits
from inference.metrics import Metrics
from inference.recording import Recorder, Row


class Gateway:
    def __init__(
        self, limits: Limits | None = None, http: type[BoundedHttp] = BoundedHttp, keep_alive_seconds: int = 75
    ) -> None:
        self.rows: list[Row] = []
        self.metrics = Metrics()
        self.recorder = Recorder(self.rows.extend, self.metrics)
        self.app = Application(limits or Limits(), self.recorder, counters=self.metrics)
        self._http = http
        self._keep_alive_seconds = keep_alive_seconds
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @contextlib.contextmanager
    def serving(self) -> Iterator[Gateway]:
        config = uvicorn.Config(
            self._asgi,
            host="127.0.0.1",
            port=0,
            http=self._http,
            loop="uvloop",
            ws="none",
            lifespan="on",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=self._keep_alive_seconds,
            timeout_graceful_shutdown=2,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, name="gateway", daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive(), "the gateway did not start"
            time.sleep(0.01)
        self.port = server.servers[0].sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.should_exit = True
            thread.join(60)
            assert not thread.is_alive(), "the gateway did not stop"

    async def _asgi(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await self.app(scope, receive, send)
            return
        await receive()
        await self.app.startup(follow_registry=False)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.app.shutdown()
        await send({"type": "lifespan.shutdown.complete"})

    def wait_for_rows(self, count: int, seconds: float = 60.0) -> list[Row]:
        """The recorder writes a quarter of a second after the reply."""
        end = time.monotonic() + seconds
        while len(self.rows) < count and time.monotonic() < end:
            time.sleep(0.02)
        return self.rows
