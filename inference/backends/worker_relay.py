"""Stands in, in a web process, for a backend that runs in a worker: hands the call over and relays what comes back.

All calls of an event loop share one `Desk`: one Redis stream, one task that reads it and gives each call its messages, one
task that looks each second whether workers are still there. See `inference.relay` for what travels.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import socket
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from struct import unpack
from typing import Any
from weakref import WeakKeyDictionary

import msgspec
import redis
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from inference import relay
from inference.backends.base import Chunk, ChunkBackend, UpstreamCall, Usage
from inference.errors import EngineError, GatewayError, GatewayOverloaded, WorkerLost
from inference.relay import Done, Failed, Message, Payload, Piece, Started, Text, Times, Vectors
from routing.types import ProviderView

logger = logging.getLogger("gateway.relay")

MOST_WAITING_PIECES = 16_384
"""Of one call whose client does not read. Beyond it the call is given up, so that a slow reader cannot fill the memory."""
MOST_OF_ONE_KEY = 16
"""Calls of one client key that one web process hands to the workers at a time; half of what a worker takes."""
_REDIS_SECONDS = 2.0
_ENTRIES_PER_READ = 500

Wake = Callable[[str], None]


class WorkerRelay(ChunkBackend):
    def __init__(self, provider: ProviderView) -> None:
        super().__init__(provider)
        self._desk: Desk | None = None

    async def chunks(self, call: UpstreamCall) -> AsyncIterator[Chunk]:
        async with self._relayed(call) as relayed:
            while True:
                message = await relayed.next()
                if isinstance(message, Piece):
                    yield message.chunk()
                elif isinstance(message, Done):
                    if message.usage is not None:
                        yield Chunk(usage=message.usage)
                    return
                else:
                    raise EngineError(
                        "The worker answered another question.", detail=f"{type(message).__name__} to a chat"
                    )

    async def embed(self, call: UpstreamCall) -> tuple[list[list[float]], Usage]:
        async with self._relayed(call) as relayed:
            message = await relayed.next()
            if not isinstance(message, Vectors):
                raise EngineError(
                    "The worker answered another question.", detail=f"{type(message).__name__} to an embedding"
                )
            return [list(unpack(f"<{len(vector) // 4}f", vector)) for vector in message.vectors], message.usage

    async def list_models(self) -> list[dict[str, Any]]:
        """What the real backend lists, which needs no worker."""
        module, _, name = self.provider.backend.rpartition(".")
        listing: list[dict[str, Any]] = await getattr(import_module(module), name)(self.provider).list_models()
        return listing

    async def aclose(self) -> None:
        desk, self._desk = self._desk, None
        if desk is not None:
            await desk.leave()

    @contextlib.asynccontextmanager
    async def _relayed(self, call: UpstreamCall) -> AsyncIterator[RelayedCall]:
        if self._desk is None:
            self._desk = Desk.of_this_loop().join()
        desk = self._desk
        async with desk.place_of(call.client):
            relayed = await desk.open(self._payload(call, desk.stream))
            try:
                yield relayed
            finally:
                relayed.close()

    @staticmethod
    def _payload(call: UpstreamCall, reply_to: str) -> Payload:
        loop = asyncio.get_running_loop()
        provider = call.model.provider
        return Payload(
            id=secrets.token_hex(16),
            reply_to=reply_to,
            operation=call.operation,
            provider_id=provider.provider_id,
            model_id=call.model.model_id,
            fingerprint=provider.fingerprint,
            fields=call.fields,
            stream=call.stream,
            request_id=call.request_id,
            session_id=call.session_id,
            seconds_left=max(0.0, call.deadline - loop.time()) if call.deadline is not None else None,
            client=call.client,
            priority=call.priority,
        )


class RelayedCall:
    """The messages of one call, in order. `close` when done with it: what is not over by then is cancelled."""

    def __init__(self, desk: Desk, relay_id: str, now: float) -> None:
        self.id = relay_id
        self.opened_at = self.heard_at = now
        self.woken_at = float("inf")
        """When a worker was last woken for it; never, while it is not handed over."""
        self.claimed = False
        self.over = False
        self._desk = desk
        self._received = 0
        self._inbox: deque[Piece | Done | Vectors | GatewayError] = deque()
        self._waiting: asyncio.Future[None] | None = None

    async def next(self) -> Piece | Done | Vectors:
        while not self._inbox:
            self._waiting = self._desk.loop.create_future()
            await self._waiting
        item = self._inbox.popleft()
        if isinstance(item, GatewayError):
            raise item
        return item

    def close(self) -> None:
        self._desk.close(self)

    def take(self, message: Message) -> None:
        if self.over:
            return
        if isinstance(message, Text):
            self._take_text(message)
        elif isinstance(message, Failed):
            self._end(message.exception())
        elif isinstance(message, Vectors):
            self._end(message)
        elif isinstance(message, Done):
            lost = message.number != self._received
            self._end(_part_lost() if lost else message)
        self._wake()

    def fail(self, error: GatewayError) -> None:
        """Give up: the consumer meets the error, and `close` cancels what may still run."""
        if not self.over:
            self._inbox.append(error)
            self._wake()

    def _take_text(self, message: Text) -> None:
        if message.number > self._received:
            self.fail(_part_lost())
            return
        fresh = message.pieces[self._received - message.number :] if message.number < self._received else message.pieces
        self._received += len(fresh)
        self._inbox.extend(fresh)
        if len(self._inbox) > MOST_WAITING_PIECES:
            self._inbox.clear()
            self.fail(
                GatewayOverloaded(
                    "The answer was not read as fast as it was made.", code="client_too_slow", retryable=False
                )
            )

    def _end(self, item: Done | Vectors | GatewayError) -> None:
        self.over = True
        self._inbox.append(item)

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_result(None)


class Desk:
    """One per event loop that relays."""

    _of_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, Desk] = WeakKeyDictionary()

    def __init__(self, url: str, wake: Wake, times: Times) -> None:
        self.loop = asyncio.get_running_loop()
        self.stream = relay.stream_key(f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}")
        self._wake = wake
        self._times = times
        self._calls: dict[str, RelayedCall] = {}
        self._users = 0
        self._places: defaultdict[int, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(MOST_OF_ONE_KEY))
        self._last = b"0"
        self._begin = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []
        self._errands: set[asyncio.Task[None]] = set()
        # No second try of its own: a call that cannot be handed over at once goes to another provider.
        options: dict[str, Any] = {"socket_connect_timeout": _REDIS_SECONDS, "retry": Retry(NoBackoff(), 0)}
        self._redis = redis.asyncio.Redis.from_url(url, socket_timeout=_REDIS_SECONDS, **options)
        self._reading = redis.asyncio.Redis.from_url(url, socket_timeout=times.beat + _REDIS_SECONDS, **options)
        # Celery's publisher is synchronous.
        self._publisher = ThreadPoolExecutor(2, "relay-publisher")

    @classmethod
    def of_this_loop(cls) -> Desk:
        loop = asyncio.get_running_loop()
        desk = cls._of_loops.get(loop)
        if desk is None:
            desk = cls._of_loops[loop] = cls(*relay.connection())
        return desk

    def join(self) -> Desk:
        self._users += 1
        return self

    async def leave(self) -> None:
        """The last one to leave closes."""
        self._users -= 1
        if self._users > 0:
            return
        if self._of_loops.get(self.loop) is self:
            del self._of_loops[self.loop]
        for call in list(self._calls.values()):
            call.fail(EngineError("The gateway is stopping.", code="gateway_stopping"))
            self.close(call)  # its consumer would do so only after Redis has been let go of
        if self._errands:
            await asyncio.wait(self._errands, timeout=_REDIS_SECONDS)
        tasks, self._tasks = [*self._tasks, *self._errands], []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with contextlib.suppress(redis.RedisError, OSError):
            await self._redis.delete(self.stream)
        await self._redis.aclose()
        await self._reading.aclose()
        self._publisher.shutdown(wait=False)

    # Calls

    def place_of(self, client: int) -> asyncio.Semaphore | contextlib.nullcontext[None]:
        """To be held while a call runs. The workers' queue knows no callers: nobody fills it alone."""
        return self._places[client] if client else contextlib.nullcontext()

    async def open(self, payload: Payload) -> RelayedCall:
        """Hand the call over. Raises `EngineError` when Redis does not take it."""
        call = RelayedCall(self, payload.id, self.loop.time())
        try:
            async with asyncio.timeout(_REDIS_SECONDS * 2):
                await self._start()
                self._calls[payload.id] = call
                lifetime = int(self._times.queue) + 5
                await self._redis.set(relay.payload_key(payload.id), relay.encode_payload(payload), ex=lifetime)
                await self.loop.run_in_executor(self._publisher, self._wake, payload.id)
                call.woken_at = self.loop.time()
        except BaseException as error:
            self.close(call)
            if isinstance(error, redis.RedisError | OSError):  # kombu's errors and TimeoutError are OSErrors
                raise _redis_is_away(error) from error
            raise
        return call

    def close(self, call: RelayedCall) -> None:
        """Forget the call; what is not over is cancelled in the background, because the caller may be cancelled itself."""
        if self._calls.pop(call.id, None) is not None and not call.over:
            self._run_errand(self._cancel(call.id))

    async def _cancel(self, relay_id: str) -> None:
        try:
            async with self._redis.pipeline(transaction=False) as commands:
                commands.delete(relay.payload_key(relay_id))
                commands.set(relay.cancelled_key(relay_id), b"1", ex=60)
                commands.publish(relay.CANCEL_CHANNEL, relay_id)
                await commands.execute()
        except (redis.RedisError, OSError) as error:
            logger.warning("a cancelled call may run on in a worker: %s", type(error).__name__)

    # The stream

    async def _start(self) -> None:
        if self._tasks:
            return
        async with self._begin:
            if not self._tasks:
                self._last = await self._make_stream()
                self._tasks = [self.loop.create_task(self._read()), self.loop.create_task(self._watch())]

    async def _make_stream(self) -> bytes:
        async with self._redis.pipeline(transaction=True) as commands:
            commands.xadd(self.stream, {b"m": relay.encode([])})
            commands.xtrim(self.stream, maxlen=0, approximate=False)
            commands.expire(self.stream, relay.STREAM_SECONDS)
            made: bytes = (await commands.execute())[0]
        return made

    async def _read(self) -> None:
        block = int(self._times.beat * 1000)
        task = asyncio.current_task()
        # redis-py loses a cancellation that meets it while it connects: ask the task itself.
        while task is None or not task.cancelling():
            try:
                found: Any = await self._reading.xread({self.stream: self._last}, count=_ENTRIES_PER_READ, block=block)
            except (redis.RedisError, OSError) as error:
                logger.warning("the relay's stream cannot be read: %s", type(error).__name__)
                await asyncio.sleep(0.2)
                continue
            for _, entries in found.items() if isinstance(found, dict) else found:
                for entry_id, fields in entries:
                    self._last = entry_id
                    try:
                        messages = relay.decode(fields[b"m"])
                    except (msgspec.MsgspecError, KeyError) as error:
                        # Of a worker of another version: whose messages these were misses them, the others go on.
                        logger.warning("a worker's messages cannot be read: %s", type(error).__name__)
                        continue
                    self._hand_out(messages)

    def _hand_out(self, messages: list[Message]) -> None:
        calls, now = self._calls, self.loop.time()
        for message in messages:
            if isinstance(message, relay.Alive):
                for relay_id in message.ids:
                    if (call := calls.get(relay_id)) is not None:
                        call.heard_at, call.claimed = now, True
            elif (call := calls.get(message.id)) is not None:
                call.heard_at, call.claimed = now, True
                if not isinstance(message, Started):
                    call.take(message)

    # Patience

    async def _watch(self) -> None:
        due = self.loop.time()
        task = asyncio.current_task()
        while task is None or not task.cancelling():
            due += self._times.beat
            await asyncio.sleep(due - self.loop.time())
            now = self.loop.time()
            if now - due > self._times.beat:
                # This process itself was stopped or busy: silence meanwhile says nothing about workers.
                due = now
                for call in self._calls.values():
                    call.heard_at = now
            served = await self._look_after_stream()
            await self._lose_patience(served, now)  # nor does what passes until Redis answers

    async def _look_after_stream(self) -> bool:
        """Keep the stream alive and short. Says whether a worker serves the queue; when Redis cannot say, that none does not."""
        try:
            async with self._redis.pipeline(transaction=False) as commands:
                commands.expire(self.stream, relay.STREAM_SECONDS)
                commands.xtrim(self.stream, minid=self._last, approximate=False)
                commands.exists(relay.SERVED)
                stands, _, served = await commands.execute()
            if not stands:
                await self._make_stream()
            return bool(served)
        except (redis.RedisError, OSError):
            return True

    async def _lose_patience(self, served: bool, now: float) -> None:
        times = self._times
        for call in list(self._calls.values()):
            if call.claimed:
                if now - call.heard_at > times.silence:
                    call.fail(
                        WorkerLost("The worker that ran the model is gone.", detail=f"silent for {times.silence:.0f} s")
                    )
            elif now - call.opened_at > (times.queue if served else times.no_worker):
                await self._withdraw(call, served)
            elif now - call.woken_at >= max(times.wake, call.woken_at - call.opened_at):
                call.woken_at = now
                self._run_errand(self._wake_again(call))

    async def _withdraw(self, call: RelayedCall, served: bool) -> None:
        """Take the payload back. When it is gone, a worker has it, and from now on its silence counts."""
        try:
            unclaimed = await self._redis.getdel(relay.payload_key(call.id)) is not None
        except (redis.RedisError, OSError) as error:
            call.fail(_redis_is_away(error))
            return
        if not unclaimed:
            self._was_claimed(call)
        elif served:
            call.fail(
                EngineError(
                    "Every worker of local models is busy.", code="workers_busy", retry_after=self._times.no_worker
                )
            )
        else:
            call.fail(
                EngineError(
                    "No worker serves local models at the moment.",
                    code="no_worker",
                    detail=f"no Celery worker consumes the queue {relay.QUEUE}",
                    retry_after=self._times.no_worker,
                )
            )

    async def _wake_again(self, call: RelayedCall) -> None:
        """A message that reached a worker as it died is lost. A second one does no harm: who claims first serves. What was claimed by one
        that said no word needs none: its silence counts."""
        try:
            if await self._redis.exists(relay.payload_key(call.id)):
                await self.loop.run_in_executor(self._publisher, self._wake, call.id)
            else:
                self._was_claimed(call)
        except (redis.RedisError, OSError) as error:
            logger.warning("no worker could be woken again: %s", type(error).__name__)

    def _was_claimed(self, call: RelayedCall) -> None:
        if not call.claimed:
            call.claimed, call.heard_at = True, self.loop.time()

    def _run_errand(self, errand: Coroutine[Any, Any, None]) -> None:
        if self.loop.is_closed():
            errand.close()
            return
        task = self.loop.create_task(errand)
        self._errands.add(task)
        task.add_done_callback(self._errands.discard)


def _redis_is_away(error: BaseException) -> EngineError:
    return EngineError(
        "Local models cannot be reached at the moment.",
        code="relay_unavailable",
        detail=f"Redis: {type(error).__name__}: {error}",
        retry_after=1.0,
    )


def _part_lost() -> EngineError:
    return EngineError(
        "A part of the answer was lost on its way from the worker.", code="answer_incomplete", status=502
    )
