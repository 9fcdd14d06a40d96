"""The worker's side of an engine: starts the child, carries many callers' requests to it, outlives its death.

A crash of the child (a bug in the library, the kernel short of memory, a kill) is a `WorkerLost` for every request in
flight; the next request starts a new child. Nothing here can end the worker's own process.
"""

from __future__ import annotations

import collections
import itertools
import os
import queue
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from inference.engine import protocol
from inference.engine.protocol import Cancel, Done, Embed, Failed, Generate, Piece, Ready, Vectors
from inference.engine.requests import EmbedRequest, GenerateRequest
from inference.engine.spec import ModelSpec
from inference.engine.transformers_spec import TransformersSpec
from inference.errors import (
    BodyTooLarge,
    EngineError,
    GatewayError,
    GatewayOverloaded,
    InvalidRequest,
    ModelUnavailable,
    WorkerLost,
)

MOST_IN_FLIGHT = 512
_ROOT = Path(__file__).resolve().parent.parent.parent
_PASSED_ON = ("PATH", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TZ")
_PASSED_ON_PREFIXES = ("CUDA_", "HIP_", "ROCR_", "HSA_", "GGML_", "OMP_", "KMP_", "MKL_", "NVIDIA_", "PYTORCH_")
_CANCEL_POLL_SECONDS = 0.05
_CLOSE_SECONDS = 0.5
_STDERR_LINES = 20
_HUNG_SECONDS = 300.0
"""A child at work that says nothing, or takes nothing, for so long is stuck: the slowest step of a large model takes a minute or two."""


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """Which engine the child runs: `llama_cpp`, `xllamacpp` or `transformers`; `safe` avoids what crashes some builds."""

    name: str = "llama_cpp"
    safe: bool = False


class Cancelled(Exception):
    """The caller's `cancelled` event was set."""


class SupervisedEngine:
    """One model in one child process. All methods may be called from any thread."""

    def __init__(
        self, spec: ModelSpec | TransformersSpec, choice: EngineChoice, *, memory_limit: int | None = None
    ) -> None:
        self.spec = spec
        self.choice = choice
        self._memory_limit = memory_limit
        self._starting = threading.Lock()
        self._attempts = 0
        self._last_failure: GatewayError | None = None
        self._child: _Child | None = None
        self._closed = False
        self._admitting = threading.Lock()
        self._in_flight = 0
        self._of_client: collections.Counter[int] = collections.Counter()

    def start(self) -> Ready:
        """Load the model unless it is loaded. Callers who waited for somebody else's failed attempt share its error."""
        if (ready := self.ready) is not None:
            return ready
        seen = self._attempts
        with self._starting:
            if self._closed:
                raise self._unloaded()
            if (ready := self.ready) is not None:
                return ready
            if self._attempts != seen and self._last_failure is not None:
                raise self._last_failure
            try:
                self._child = child = self._spawn()
            except GatewayError as error:
                self._last_failure = error
                raise
            finally:
                self._attempts += 1
            self._last_failure = None
            if self._closed:
                child.close()
                raise self._unloaded()
            return child.ready

    def _unloaded(self) -> ModelUnavailable:
        return ModelUnavailable(
            "The model was unloaded.", detail=f"{self.spec.path} was unloaded while a request waited"
        )

    def _spawn(self) -> _Child:
        try:
            return _Child(self.spec, self.choice, self._memory_limit)
        except WorkerLost:
            if self.choice.safe or self.choice.name != "llama_cpp":
                raise
            # Some builds crash on quantised weights where the CPU has AMX; without the extra buffers they do not.
            child = _Child(self.spec, EngineChoice(self.choice.name, safe=True), self._memory_limit)
            self.choice = EngineChoice(self.choice.name, safe=True)
            return child

    @property
    def ready(self) -> Ready | None:
        """What the child said of itself; None while no model is loaded, and once the engine is closed."""
        child = self._child
        return child.ready if child is not None and child.alive and not self._closed else None

    @property
    def process_id(self) -> int | None:
        """None while no model is loaded, and once the engine is closed."""
        child = self._child
        return child.process.pid if child is not None and child.alive and not self._closed else None

    @property
    def busy(self) -> bool:
        return self._in_flight > 0

    def generate(
        self,
        requests: list[GenerateRequest],
        cancelled: threading.Event | None = None,
        *,
        client: int = 0,
        priority: int = 0,
    ) -> Iterator[tuple[int, Piece | Done]]:
        """Events of all requests as they come, each with its request's place in the list.

        Ends after the last `Done`. Raises the engine's typed error, which cancels the others; `Cancelled` when the caller's event
        was set. Closing the iterator cancels too.
        """
        asked = partial(Generate, client=client, priority=priority)
        for identifier, event in self._exchange([(asked, request) for request in requests], cancelled, client):
            if isinstance(event, Piece | Done):
                yield identifier, event

    def embed(self, request: EmbedRequest, cancelled: threading.Event | None = None) -> Vectors:
        for _, event in self._exchange([(Embed, request)], cancelled):
            if isinstance(event, Vectors):
                return event
        raise EngineError("The engine gave no embedding.")

    def _exchange(
        self, wanted: list[tuple[Callable[..., Any], Any]], cancelled: threading.Event | None, client: int = 0
    ) -> Iterator[tuple[int, Any]]:
        self._admit(len(wanted), client)
        child, places = None, {}
        try:
            self.start()
            child = self._child
            assert child is not None
            inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
            places = child.send(wanted, inbox)
            while places:
                event = _next(inbox, cancelled)
                if isinstance(event, GatewayError):
                    places.clear()
                    raise event
                place = places[event.id]
                if not isinstance(event, Piece):
                    del places[event.id]
                if isinstance(event, Failed):
                    raise event.exception()
                yield place, event
        finally:
            if child is not None and places:
                child.cancel(list(places))
            with self._admitting:
                self._in_flight -= len(wanted)
                self._of_client[client] -= len(wanted)
                if not self._of_client[client]:
                    del self._of_client[client]

    def _admit(self, count: int, client: int) -> None:
        """A client holds at most as many places as it leaves free, so that there is always room for another."""
        with self._admitting:
            free = MOST_IN_FLIGHT - self._in_flight
            fair = free - count >= self._of_client[client] or not self._of_client[client]
            if count > free or not fair:
                raise GatewayOverloaded(
                    "Too many requests are waiting for this local model; try again in a moment.", retry_after=2.0
                )
            self._in_flight += count
            self._of_client[client] += count

    def close(self) -> None:
        """End the child within a second; requests in flight fail."""
        self._closed = True
        child = self._child
        if child is not None:
            child.close()


def _next(inbox: queue.SimpleQueue[Any], cancelled: threading.Event | None) -> Any:
    if cancelled is None:
        return inbox.get()
    while True:
        if cancelled.is_set():
            raise Cancelled
        try:
            return inbox.get(timeout=_CANCEL_POLL_SECONDS)
        except queue.Empty:
            continue


class _Child:
    """A running child and the thread that started it, reads it and buries it.

    One thread does all three because the kernel sends the parent's death signal when the *thread* that started a child ends.
    """

    def __init__(self, spec: ModelSpec | TransformersSpec, choice: EngineChoice, memory_limit: int | None) -> None:
        self._spec = spec
        self._load = protocol.Load(
            engine=choice.name,
            spec={**asdict(spec), "path": str(spec.path)},
            safe=choice.safe,
            memory_limit=memory_limit,
        )
        self._numbers = itertools.count(1)
        self._inboxes: dict[int, queue.SimpleQueue[Any]] = {}
        self._lock = threading.Lock()
        self._loaded: queue.SimpleQueue[Ready | GatewayError] = queue.SimpleQueue()
        self._stderr: collections.deque[str] = collections.deque(maxlen=_STDERR_LINES)
        self._closing = False
        self._loading = True
        self._heard_at = time.monotonic()
        self.alive = True
        self.process: subprocess.Popen[bytes]
        self._connection: socket.socket
        threading.Thread(target=self._keep, name=f"engine {spec.path.name}", daemon=True).start()
        outcome = self._loaded.get()
        if isinstance(outcome, GatewayError):
            raise outcome
        self.ready = outcome

    def send(self, wanted: list[tuple[Callable[..., Any], Any]], inbox: queue.SimpleQueue[Any]) -> dict[int, int]:
        """Send requests; return their ids and places. Their events come to `inbox`, or one error for all."""
        with self._lock:
            if not self.alive:
                raise self._death()
            places = {next(self._numbers): place for place in range(len(wanted))}
            commands = [wanted[place][0](identifier, wanted[place][1]) for identifier, place in places.items()]
            try:
                frame = protocol.encode(commands)
            except (UnicodeEncodeError, OverflowError) as error:
                raise InvalidRequest(
                    "The request holds a text that is no Unicode, or a number beyond 64 bits."
                ) from error
            if len(frame) > protocol.LARGEST_FRAME:
                raise BodyTooLarge("The request is too large for this local model, each choice counted.")
            if not self._inboxes:
                self._heard_at = time.monotonic()
            self._inboxes.update(dict.fromkeys(places, inbox))
            self._transmit(frame)
        return places

    def cancel(self, identifiers: list[int]) -> None:
        """Nobody waits for these any more. A child that has long been silent over its work is ended instead."""
        with self._lock:
            for identifier in identifiers:
                self._inboxes.pop(identifier, None)
            if self.alive and time.monotonic() - self._heard_at > _HUNG_SECONDS:
                self.process.kill()
            elif self.alive:
                self._transmit(protocol.encode([Cancel(identifier) for identifier in identifiers]))

    def close(self) -> None:
        self._closing = True
        if not self.alive:
            return
        try:
            self._connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            return
        try:
            self.process.wait(_CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _transmit(self, frame: bytes) -> None:
        try:
            self._connection.sendall(frame)
        except BlockingIOError:
            self.process.kill()  # whoever sends holds the lock: nobody else could even cancel
        except OSError:
            return  # the child has died: the keeper is about to tell everybody

    # The keeper's thread.

    def _keep(self) -> None:
        try:
            self._start_process()
        except OSError as error:
            self.alive = False
            self._loaded.put(EngineError("The engine's process could not be started.", detail=str(error)))
            return
        reader = threading.Thread(target=self._read_stderr, daemon=True)
        reader.start()
        try:
            self._listen()
        except Exception as error:
            # Nothing that follows an unreadable frame could be read: whoever waits must hear of it.
            self._stderr.append(f"what it sent could not be read: {error!r}")
            self.process.kill()
        self._connection.close()
        self.process.wait()
        reader.join(_CLOSE_SECONDS)
        self._bury()

    def _listen(self) -> None:
        for events in protocol.events(self._connection):
            self._heard_at = time.monotonic()
            for event in events:
                if isinstance(event, Ready):
                    self._loading = False
                    self._loaded.put(event)
                elif event.id == 0 and isinstance(event, Failed):
                    self._loading = False
                    self.alive = False
                    self._loaded.put(event.exception())
                else:
                    self._deliver(event)

    def _start_process(self) -> None:
        ours, theirs = socket.socketpair()
        seconds, rest = divmod(_HUNG_SECONDS, 1)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", int(seconds), int(rest * 1e6)))
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "inference.engine.child", str(theirs.fileno()), str(os.getpid())],
                pass_fds=[theirs.fileno()],
                env=clean_environment(),
                cwd=_ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
        self._connection = ours
        self._transmit(protocol.encode([self._load]))

    def _read_stderr(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as lines:
            for line in lines:
                self._stderr.append(line.decode(errors="replace").rstrip())

    def _deliver(self, event: Any) -> None:
        with self._lock:
            inbox = self._inboxes.get(event.id) if isinstance(event, Piece) else self._inboxes.pop(event.id, None)
        if inbox is not None:
            inbox.put(event)

    def _bury(self) -> None:
        with self._lock:
            self.alive = False
            bereaved, self._inboxes = set(self._inboxes.values()), {}
        for inbox in bereaved:
            inbox.put(self._death())
        if self._loading:
            self._loaded.put(self._death())

    def _death(self) -> GatewayError:
        if self._closing:
            return WorkerLost("The model was unloaded while it was answering.", detail=f"{self._spec.path} was closed")
        said = "; ".join(self._stderr)
        return WorkerLost(
            "The engine of this local model stopped; it is started again with the next request.",
            detail=f"{self._spec.path}: the engine's process {_ending(self.process.returncode)}{'; it said: ' + said if said else ''}",
        )


def _ending(code: int | None) -> str:
    if code is None or code >= 0:
        return f"ended with code {code}"
    name = signal.Signals(-code).name
    reason = " (often the kernel, short of memory)" if -code == signal.SIGKILL else ""
    return f"was ended by {name}{reason}"


def clean_environment() -> dict[str, str]:
    """No secrets: only what a dynamic linker, a GPU driver and Python need."""
    passed = {
        name: value for name, value in os.environ.items() if name in _PASSED_ON or name.startswith(_PASSED_ON_PREFIXES)
    }
    return {**passed, "PYTHONPATH": str(_ROOT), "PYTHONDONTWRITEBYTECODE": "1", "GGML_NO_BACKTRACE": "1"}
