"""Local GGUF models through llama.cpp, as they run in a worker.

A worker calls `configure(...)` once and then, from any number of threads,

* `generate(payload, model, cancelled)`: an iterator of `Chunk`s. `payload` is plain JSON: `{"operation": "chat" or
  "completions", "fields": {…}}`, the fields being the client's, decoded; `client` and `priority` say whose turn it is when the
  engine is full. The last chunk holds the usage. Setting `cancelled`, or
  closing the iterator, stops the generation between two tokens; the iterator then just ends.
* `embed(payload, model, cancelled)`: the vectors, of length 1, and the usage.
* `preload(models)`, `local_models().resident()`, `close()`.

Failures are `inference.errors`: `InvalidRequest`, `UnsupportedCapability` and `ContextLengthExceeded` are the caller's,
`ConfigurationError`, `ModelUnavailable`, `OutOfMemory` and `WorkerLost` ours. None of them ends the worker.

`LlamaCpp` is the same as a backend, for a process that may hold models itself.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from inference.backends.base import Chunk, ChunkBackend, UpstreamCall, Usage
from inference.engine.preflight import Preflight
from inference.engine.protocol import Done, Piece
from inference.engine.requests import GenerateRequest, embed_request, generate_requests
from inference.engine.spec import BUILTIN_DEMO
from inference.engine.specs import spec_of
from inference.engine.supervised import Cancelled
from inference.errors import GatewayError, UnsupportedCapability
from inference.residency import Residency
from providers.connection import flag
from routing.types import ModelView

_DEMO_SAMPLING = {"temperature": 0}
"""The built-in model is too small to be surprised: what it knows, it knows word for word."""


class _Holder:
    """The process's one residency; made at first use when nobody configured it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.residency: Residency | None = None


_held = _Holder()


def configure(
    *,
    memory_budget_mb: int | None = None,
    data_dir: Path | None = None,
    engine: str | None = None,
    folders: Sequence[Path] = (),
) -> Residency:
    """Set the memory that all models together may take, where the preflight keeps its result, optionally the one engine, and
    the folders that model files may lie in (none: anywhere).

    Models that were loaded before are unloaded.
    """
    close()
    with _held.lock:
        _held.residency = Residency(
            choose=Preflight(data_dir, only=engine).choose, memory_budget_mb=memory_budget_mb, folders=folders
        )
        return _held.residency


def local_models() -> Residency:
    with _held.lock:
        if _held.residency is None:
            _held.residency = Residency(choose=Preflight().choose)
        return _held.residency


def close() -> None:
    """Unload everything; requests in flight fail."""
    with _held.lock:
        residency, _held.residency = _held.residency, None
    if residency is not None:
        residency.close()


def is_local(model: ModelView) -> bool:
    """Whether its backend is this one or one that is made of it: a worker could load it."""
    return model.provider.runs_in == "worker" and model.provider.backend.startswith("inference.backends.")


def preload(models: Iterable[ModelView]) -> dict[str, GatewayError]:
    """Load those that ask for it; return the failures by route, since one bad model must not keep a worker from starting."""
    failures: dict[str, GatewayError] = {}
    for model in models:
        try:
            spec = spec_of(model)
            if spec.preload:
                local_models().preload(spec)
        except GatewayError as error:
            failures[model.route] = error
    return failures


def generate(payload: Mapping[str, Any], model: ModelView, cancelled: threading.Event | None = None) -> Iterator[Chunk]:
    operation, fields = payload["operation"], payload["fields"]
    requests = generate_requests(operation, fields, _defaults(model), most_tokens=model.max_tokens)
    choices = fields.get("n") or 1
    tally = _Tally(choices)
    who = {name: payload.get(name, 0) for name in ("client", "priority")}
    with local_models().lease(spec_of(model)) as engine:
        offsets = dict.fromkeys(range(len(requests)), 0)
        for echo in _echoes(fields, requests):
            offsets[echo.index] = len(echo.text)
            yield echo
        try:
            for index, event in engine.generate(requests, cancelled, **who):
                if isinstance(event, Piece):
                    logprobs = _logprobs(operation, event, offsets[index])
                    yield Chunk(event.text, index, logprobs=logprobs, tool_calls=event.tool_calls)
                    offsets[index] += len(event.text)
                else:
                    tally.add(index, event)
                    last = tally.count == len(requests)
                    yield Chunk(index=index, finish_reason=event.finish_reason, usage=tally.usage() if last else None)
        except Cancelled:
            return


def embed(
    payload: Mapping[str, Any], model: ModelView, cancelled: threading.Event | None = None
) -> tuple[list[list[float]], Usage]:
    """Raises `Cancelled` when `cancelled` is set before the vectors are there."""
    fields = payload["fields"]
    request = embed_request(fields, truncates=flag(_defaults(model), "truncate_inputs", default=False))
    with local_models().lease(spec_of(model)) as engine:
        dimension = engine.start().dimension
        wanted = fields.get("dimensions")
        if wanted is not None and wanted != dimension:
            raise UnsupportedCapability(
                f"This model's embeddings have {dimension} dimensions and no other.", param="dimensions"
            )
        found = engine.embed(request, cancelled)
    vectors = [np.frombuffer(vector, "<f4").tolist() for vector in found.vectors]
    return vectors, Usage(input_tokens=found.input_tokens)


def _defaults(model: ModelView) -> dict[str, Any]:
    """Sampling parameters of the registry, which a request's own override."""
    merged = {**model.provider.settings, **model.provider.connection, **model.parameters}
    return {**_DEMO_SAMPLING, **merged} if merged.get("model_path", merged.get("path")) == BUILTIN_DEMO else merged


def _echoes(fields: Mapping[str, Any], requests: list[GenerateRequest]) -> Iterator[Chunk]:
    if not fields.get("echo"):
        return
    for index, request in enumerate(requests):
        if not isinstance(request.prompt, str):
            raise UnsupportedCapability("`echo` needs prompts that are texts.", param="echo")
        yield Chunk(request.prompt, index)


def _logprobs(operation: str, piece: Piece, offset: int) -> dict[str, Any] | None:
    """Chat's form as it is; for completions the older one of parallel lists."""
    if piece.logprobs is None:
        return None
    if operation == "chat":
        return {"content": piece.logprobs}
    offsets = []
    for entry in piece.logprobs:
        offsets.append(offset)
        offset += len(entry["token"])
    return {
        "tokens": [entry["token"] for entry in piece.logprobs],
        "token_logprobs": [entry["logprob"] for entry in piece.logprobs],
        "top_logprobs": [{top["token"]: top["logprob"] for top in entry["top_logprobs"]} for entry in piece.logprobs],
        "text_offset": offsets,
    }


class _Tally:
    """Adds up choices: a prompt that several choices share is counted once, as OpenAI does."""

    def __init__(self, choices: int) -> None:
        self._choices = choices
        self._done: dict[int, Done] = {}

    def add(self, index: int, done: Done) -> None:
        self._done[index] = done

    @property
    def count(self) -> int:
        return len(self._done)

    def usage(self) -> Usage:
        first = [done for index, done in self._done.items() if index % self._choices == 0]
        return Usage(
            input_tokens=sum(done.input_tokens for done in first),
            output_tokens=sum(done.output_tokens for done in self._done.values()),
            cached_tokens=sum(done.cached_tokens for done in first),
        )


class LlamaCpp(ChunkBackend):
    """Holds models in this very process. The web process uses the relay to a worker instead."""

    async def list_models(self) -> list[dict[str, Any]]:
        return [{"id": "demo", "object": "model", "model_path": BUILTIN_DEMO}]

    async def chunks(self, call: UpstreamCall) -> AsyncIterator[Chunk]:
        cancelled = threading.Event()
        loop = asyncio.get_running_loop()
        arrived: asyncio.Queue[Chunk | Exception | None] = asyncio.Queue()

        def work() -> None:
            try:
                for chunk in generate(_payload(call), call.model, cancelled):
                    loop.call_soon_threadsafe(arrived.put_nowait, chunk)
                loop.call_soon_threadsafe(arrived.put_nowait, None)
            except Exception as error:  # whatever it is, somebody waits for it
                loop.call_soon_threadsafe(arrived.put_nowait, error)

        working = loop.run_in_executor(None, work)
        try:
            while (item := await arrived.get()) is not None:
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            cancelled.set()
            await asyncio.shield(working)

    async def embed(self, call: UpstreamCall) -> tuple[list[list[float]], Usage]:
        cancelled = threading.Event()
        try:
            return await asyncio.to_thread(embed, _payload(call), call.model, cancelled)
        finally:
            cancelled.set()


def _payload(call: UpstreamCall) -> dict[str, Any]:
    return {
        "operation": call.operation,
        "client": call.client,
        "priority": call.priority,
        "fields": {name: msgspec.json.decode(raw) for name, raw in call.fields.items()},
    }
