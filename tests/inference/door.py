"""Calls an ASGI application as a server would, and keeps what it sent."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import orjson

from inference.asgi import Application
from inference.limits import Limits
from inference.metrics import Metrics
from inference.recording import Recorder, Row
from tests.inference.registry import CLIENT_KEY


@dataclass
class Answer:
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    pieces: list[bytes] = field(default_factory=list)
    ended: bool = False

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        return self.json["error"]

    @property
    def events(self) -> list[Any]:
        """The data of each event; comments are left out and the end marker stays text."""
        lines = [line for line in self.body.split(b"\n") if line.startswith(b"data: ")]
        return [line[6:].decode() if line == b"data: [DONE]" else orjson.loads(line[6:]) for line in lines]


class Client:
    """One request's connection: `leave()` closes it, `said` is set at each thing that the application sends, `missed` once it was
    told that the client is gone."""

    def __init__(self, body: bytes, *, pieces: list[bytes] | None = None) -> None:
        self.answer = Answer()
        self.said = asyncio.Event()
        self.missed = asyncio.Event()
        self._left = asyncio.Event()
        self._pieces = pieces if pieces is not None else [body]

    def leave(self) -> None:
        self._left.set()

    async def receive(self) -> dict[str, Any]:
        if self._pieces:
            piece = self._pieces.pop(0)
            return {"type": "http.request", "body": piece, "more_body": bool(self._pieces)}
        await self._left.wait()
        self.missed.set()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            assert not self.answer.status, "the reply began twice"
            self.answer.status = message["status"]
            self.answer.headers = {name.decode(): value.decode("latin-1") for name, value in message["headers"]}
        else:
            assert self.answer.status, "a body came before its head"
            assert not self.answer.ended, "something came after the end"
            self.answer.pieces.append(message.get("body", b""))
            self.answer.ended = not message.get("more_body", False)
        self.said.set()

    async def until_said(self) -> None:
        self.said.clear()
        await asyncio.wait_for(self.said.wait(), 60)


class Door:
    """An application with its rows and counters in reach."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.rows: list[Row] = []
        self.metrics = Metrics()
        self.app = Application(limits or Limits(), Recorder(self.rows.extend, self.metrics), counters=self.metrics)

    async def __aenter__(self) -> Door:
        await self.app.startup(follow_registry=False)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.app.shutdown()

    def open(
        self,
        path: str,
        body: Any = None,
        *,
        method: str = "POST",
        headers: dict[str, str] | None = None,
        key: str | None = CLIENT_KEY,
        pieces: list[bytes] | None = None,
        client: tuple[str, int] | None = None,
    ) -> tuple[Client, asyncio.Task[None]]:
        raw = body if isinstance(body, bytes) else b"" if body is None else orjson.dumps(body)
        connection = Client(raw, pieces=pieces)
        sent = dict(headers or {})
        if key is not None:
            sent["authorization"] = f"Bearer {key}"
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in sent.items()],
        }
        if client is not None:
            scope["client"] = client
        task = asyncio.get_running_loop().create_task(self.app(scope, connection.receive, connection.send))
        return connection, task

    async def call(self, path: str, body: Any = None, **more: Any) -> Answer:
        client, task = self.open(path, body, **more)
        await asyncio.wait_for(task, 60)
        return client.answer

    async def get(self, path: str, **more: Any) -> Answer:
        return await self.call(path, method="GET", **more)

    async def chat(self, text: str = "Hello there", model: str = "fake-chat", **more: Any) -> Answer:
        return await self.call("/v1/chat/completions", chat_body(text, model, **more))


def chat_body(text: str = "Hello there", model: str = "fake-chat", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}
