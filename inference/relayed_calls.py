"""The worker's end of the relay: claims calls, runs them, and sends what they make to the web processes that asked.

A worker process has one `RelayedCalls` with two threads of its own, however many calls it serves: one that writes (and, each
second, says which calls live and looks for missed cancels), one that hears cancels. The calls run in the threads of
Celery's pool. Messages that wait while a write is under way travel together in the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from struct import pack
from typing import Any

import msgspec
import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from inference import answering, relay
from inference import loop as bridge
from inference.backends.base import Chunk, ChunkBackend, UpstreamCall, Usage
from inference.errors import EngineError, GatewayError, ModelUnavailable, UpstreamTimeout, WorkerLost
from inference.relay import Alive, Done, Failed, Message, Payload, Piece, Started, Text, Vectors
from routing import snapshot
from routing.types import ModelView

logger = logging.getLogger("gateway.relay")

BEAT_SECONDS = 1.0
MOST_WAITING = 4096
"""Messages not yet written; a generation that makes more waits, so that Redis sets the pace."""
_GIVE_UP_WRITING_SECONDS = 5.0
_ENDING_SECONDS = 2.0
"""For each thread, when the process stops."""
_PIECES_PER_MESSAGE = 256
_STALE_SECONDS = 1.0


class Running:
    """A call at work in this process."""

    __slots__ = ("cancelled", "deadline", "id", "pieces", "reply_to")

    def __init__(self, relay_id: str) -> None:
        self.id = relay_id
        self.reply_to = ""
        self.cancelled = threading.Event()
        self.deadline = float("inf")
        self.pieces = 0


Waiting = tuple[Running, int, "Message | Piece"]
"""Whose, how many pieces of that call went before, and what."""


class RelayedCalls:
    """Made in processes that consume the queue of relayed calls, and says so to the web processes while it lives."""

    def __init__(self, redis_url: str) -> None:
        # Retries bridge a restart of Redis; a write that failed half-way is numbered, so twice does no harm.
        retry = Retry(ExponentialBackoff(cap=0.5, base=0.05), 3)
        self._redis = redis.Redis.from_url(redis_url, socket_timeout=5, socket_connect_timeout=2, retry=retry)
        self._registry = Registry()
        self._running: dict[str, Running] = {}
        self._waiting: deque[Waiting] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        if self._threads:
            return
        for target in (self._write, self._hear_cancels):
            thread = threading.Thread(target=target, name=f"relay{target.__name__}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """End what runs with a `WorkerLost` to whoever asked, then the threads."""
        with self._changed:
            self._stopping = True
            for running in list(self._running.values()):
                if running.reply_to:
                    self._post(running, Failed.of(running.id, WorkerLost("The worker is stopping.")))
                running.cancelled.set()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(timeout=_ENDING_SECONDS)
        if any(thread.is_alive() for thread in self._threads):
            return  # it has a connection of this client in its hands
        with contextlib.suppress(redis.RedisError):
            self._redis.close()

    # A call

    def serve(self, relay_id: str) -> bool:
        """Claim the call and run it to its end. False when there is nothing to claim: it is or was served, withdrawn or has expired."""
        # Known before it is claimed, so that a cancel cannot fall between.
        running = Running(relay_id)
        if self._running.setdefault(relay_id, running) is not running:
            return False  # a message of a second waking, while another thread of this process has the call
        try:
            if self._stopping:
                return False  # nobody would hear of it; another worker is woken for it
            raw = self._redis.getdel(relay.payload_key(relay_id))
            if raw is None:
                return False
            payload = relay.decode_payload(raw)
            with self._changed:
                stopping = self._stopping
                if not stopping:
                    running.reply_to = payload.reply_to  # whose call this is hears from now on when this worker stops
            if stopping:
                self._redis.set(relay.payload_key(relay_id), raw, ex=relay.STREAM_SECONDS)
                return False
            if payload.seconds_left is not None:
                running.deadline = time.monotonic() + payload.seconds_left
            self._post(running, Started(relay_id))
            self._answer(running, payload)
            return True
        finally:
            del self._running[relay_id]

    def _answer(self, running: Running, payload: Payload) -> None:
        try:
            model = self._registry.model(payload)
            if payload.operation == "embeddings":
                vectors, usage = embeddings(payload, model, running.cancelled)
                packed = [pack(f"<{len(vector)}f", *vector) for vector in vectors]
                self._post(running, Vectors(running.id, packed, usage))
                return
            usage_told = None
            for chunk in chunks(payload, model, running.cancelled):
                usage_told = chunk.usage or usage_told
                if chunk.text or chunk.finish_reason or chunk.logprobs or chunk.tool_calls or chunk.reasoning:
                    self._post(running, Piece.of(chunk))
                if running.cancelled.is_set():
                    break
            if not running.cancelled.is_set():
                self._post(running, Done(running.id, running.pieces, usage_told))
            elif running.deadline <= time.monotonic():
                self._post(running, Failed.of(running.id, UpstreamTimeout("The model did not answer in time.")))
        except GatewayError as error:
            self._post(running, Failed.of(running.id, error))
        except Exception as error:
            if running.cancelled.is_set():
                return
            logger.exception("request_id=%s the local engine failed", payload.request_id)
            failure = EngineError("The local model failed.", detail=f"{type(error).__name__}: {error}")
            self._post(running, Failed.of(running.id, failure))

    # Writing

    def _post(self, running: Running, message: Message | Piece) -> None:
        with self._changed:
            number = running.pieces
            if isinstance(message, Piece):
                running.pieces += 1
                while len(self._waiting) >= MOST_WAITING and not running.cancelled.is_set() and not self._stopping:
                    self._changed.wait(BEAT_SECONDS)
            self._waiting.append((running, number, message))
            if len(self._waiting) == 1:
                self._changed.notify_all()

    def _write(self) -> None:
        beat_at = 0.0
        while True:
            with self._changed:
                if not self._waiting and not self._stopping:
                    self._changed.wait(max(0.0, beat_at - time.monotonic()))
                batch = list(self._waiting)
                self._waiting.clear()
                self._changed.notify_all()
                if self._stopping and not batch:
                    return
            now = time.monotonic()
            beats = now >= beat_at
            if beats:
                beat_at = now + BEAT_SECONDS
            try:
                self._send(batch, beats)
            except Exception:  # the thread outlives whatever one batch met; its calls do not
                logger.exception("the relay could not be written to")
                self._give_up(running for running, _, _ in batch)

    def _send(self, batch: list[Waiting], beats: bool) -> None:
        frames = _frames(batch)
        alive = [running for running in list(self._running.values()) if running.reply_to] if beats else []
        for running in alive:
            frames[running.reply_to].append(Alive([running.id]))
            if running.deadline <= time.monotonic():
                running.cancelled.set()
        if not frames and not beats:
            return
        replies = self._execute(frames, beats, alive)
        if replies is None:
            self._give_up(running for running, _, _ in batch)
            return
        gone = {stream for stream, reply in zip(frames, replies, strict=False) if reply is None}
        if gone:
            # Nobody reads there any more: the web process has ended.
            self._give_up([running for running in list(self._running.values()) if running.reply_to in gone])
        if alive:
            for running, cancelled in zip(alive, replies[-1], strict=True):
                if cancelled is not None:
                    running.cancelled.set()

    def _execute(self, frames: Mapping[str, list[Message]], beats: bool, alive: list[Running]) -> list[Any] | None:
        """The replies, or None after trying for a while."""
        until = time.monotonic() + _GIVE_UP_WRITING_SECONDS
        while True:
            try:
                with self._redis.pipeline(transaction=False) as commands:
                    for stream, messages in frames.items():
                        commands.xadd(
                            stream, {b"m": relay.encode(messages)}, maxlen=relay.STREAM_ENTRIES, nomkstream=True
                        )
                    if beats:
                        commands.set(relay.SERVED, b"1", ex=relay.SERVED_SECONDS)
                    if alive:
                        commands.mget([relay.cancelled_key(running.id) for running in alive])
                    replies: list[Any] = commands.execute()
                    return replies
            except (redis.RedisError, OSError) as error:
                if time.monotonic() > until or self._stopping:
                    logger.warning("answers cannot be relayed: %s", type(error).__name__)
                    return None
                time.sleep(0.1)

    def _give_up(self, lost: Iterable[Running]) -> None:
        for running in lost:
            running.cancelled.set()

    # Cancels

    def _hear_cancels(self) -> None:
        while not self._stopping:
            try:
                with self._redis.pubsub(ignore_subscribe_messages=True) as channel:
                    channel.subscribe(relay.CANCEL_CHANNEL)
                    while not self._stopping:
                        message = channel.get_message(timeout=BEAT_SECONDS)
                        if message is not None:
                            self._cancel(message["data"].decode())
            except (redis.RedisError, OSError) as error:
                logger.warning("cancels cannot be heard: %s", type(error).__name__)
                time.sleep(BEAT_SECONDS)

    def _cancel(self, relay_id: str) -> None:
        running = self._running.get(relay_id)
        if running is not None:
            running.cancelled.set()


def _frames(batch: list[Waiting]) -> dict[str, list[Message]]:
    """By stream, the messages in order; neighbouring pieces of one call become one message."""
    frames: dict[str, list[Message]] = defaultdict(list)
    texts: dict[str, Text] = {}
    for running, number, message in batch:
        if not isinstance(message, Piece):
            frames[running.reply_to].append(message)
            continue
        text = texts.get(running.id)
        if text is None or len(text.pieces) >= _PIECES_PER_MESSAGE:
            text = texts[running.id] = Text(running.id, number, [])
            frames[running.reply_to].append(text)
        text.pieces.append(message)
    return frames


class Registry:
    """Which model a payload means, as the database has it now or had it a second ago."""

    def __init__(self) -> None:
        self._looked_at = 0.0

    def model(self, payload: Payload) -> ModelView:
        if time.monotonic() - self._looked_at > _STALE_SECONDS:
            self.refresh()
        model = self._find(payload)
        if model is None or model.provider.fingerprint != payload.fingerprint:
            # The web process has seen an edit that this one has not.
            self.refresh()
            model = self._find(payload)
        if model is None:
            raise ModelUnavailable(
                f"The model '{payload.model_id}' is not there any more.",
                detail=f"{payload.provider_id}/{payload.model_id} is not in the worker's registry",
            )
        return model

    def refresh(self) -> None:
        snapshot.refresh()
        self._looked_at = time.monotonic()

    def _find(self, payload: Payload) -> ModelView | None:
        wanted = payload.provider_id, payload.model_id
        named = snapshot.current().by_name.get(f"{payload.provider_id}/{payload.model_id}", ())
        return next((model for model in named if (model.provider.provider_id, model.model_id) == wanted), None)


# Running --------------------------------------------------------------------------------------------------------------


def chunks(payload: Payload, model: ModelView, cancelled: threading.Event) -> Iterator[Chunk]:
    """The model's answer, in this thread. Ends early, without an error, once `cancelled` is set."""
    module = import_module(model.provider.backend.rpartition(".")[0])
    if hasattr(module, "generate"):
        yield from module.generate(_plain(payload), model, cancelled)
    else:
        yield from _from_loop(payload, model, cancelled)


def embeddings(payload: Payload, model: ModelView, cancelled: threading.Event) -> tuple[list[list[float]], Usage]:
    module = import_module(model.provider.backend.rpartition(".")[0])
    if hasattr(module, "embed"):
        found: tuple[list[list[float]], Usage] = module.embed(_plain(payload), model, cancelled)
        return found

    async def ask() -> tuple[list[list[float]], Usage]:
        async with _backend(model) as backend:
            return await backend.embed(_call(payload, model))

    return bridge.run(ask())


def _plain(payload: Payload) -> dict[str, Any]:
    fields = {name: msgspec.json.decode(raw) for name, raw in payload.fields.items()}
    who = {"client": payload.client, "priority": payload.priority}
    return {"operation": payload.operation, "fields": fields, **who}


def _from_loop(payload: Payload, model: ModelView, cancelled: threading.Event) -> Iterator[Chunk]:
    """For backends that are coroutines: they run on the process's loop, and their chunks come over here."""
    arrived: queue.SimpleQueue[Chunk | BaseException | None] = queue.SimpleQueue()

    async def produce() -> None:
        try:
            async with _backend(model) as backend:
                async for chunk in backend.chunks(_call(payload, model)):
                    arrived.put(chunk)
            arrived.put(None)
        except BaseException as error:
            arrived.put(error)

    producing = asyncio.run_coroutine_threadsafe(produce(), bridge.loop())
    try:
        while not cancelled.is_set():
            try:
                item = arrived.get(timeout=0.1)
            except queue.Empty:
                continue
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        producing.cancel()


@contextlib.asynccontextmanager
async def _backend(model: ModelView) -> Any:
    table = answering.plane().table
    table.follow(snapshot.current())
    shared = table.take(model.provider)
    try:
        if not isinstance(shared.backend, ChunkBackend):
            raise EngineError(
                "This provider's type cannot run in a worker.", detail=f"{model.provider.backend} makes no chunks"
            )
        yield shared.backend
    finally:
        table.give_back(shared)


def _call(payload: Payload, model: ModelView) -> UpstreamCall:
    return UpstreamCall(
        payload.operation, model, payload.fields, payload.stream, payload.request_id, session_id=payload.session_id
    )
