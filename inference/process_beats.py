"""Each process says every few seconds that it lives, and what it does: workers, their pools, web processes and the clock.

One field each of one hash in Redis, so that whoever wants to know reads them all at once and asks nobody: a question to workers
would have to wait for the slowest. What is asked of a process (to unload a model) waits in a list until its next beat.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import orjson
import redis

logger = logging.getLogger("gateway.processes")

WORKER, POOL, WEB, CLOCK = "worker", "pool", "web", "clock"
PROCESSES = "gw:processes"
BEAT_SECONDS = 3.0
MISSED_SECONDS = 5 * BEAT_SECONDS
"""After so long without a word a process counts as gone."""
_MOST_ASKED = 20
_SAID_SECONDS = 120.0

Facts = Callable[[], dict[str, Any]]
Do = Callable[[dict[str, Any]], str]
"""Does what is asked, and says how that went."""


def asks_key(name: str) -> str:
    return f"gw:process:asks:{name}"


def name_of(kind: str) -> str:
    return f"{kind}@{socket.gethostname()}:{os.getpid()}"


class Beats:
    """One per process. `facts` is called in the thread that beats; what it raises costs that beat and no more."""

    def __init__(self, redis_url: str, kind: str, name: str, facts: Facts, do: Do | None = None) -> None:
        self._redis = redis.Redis.from_url(redis_url, socket_timeout=2, socket_connect_timeout=2)
        self._fixed = {
            "kind": kind,
            "name": name,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "parent": os.getppid(),
            "started_at": time.time(),
        }
        self._name, self._facts, self._do = name, facts, do
        self._said: list[dict[str, Any]] = []
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._keep_beating, name="beats", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """A process that ends in peace takes its word back; one that is killed is missed."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout=3)
            self._thread = None
        with contextlib.suppress(redis.RedisError):
            self._redis.hdel(PROCESSES, self._name)
            self._redis.close()

    def beat(self) -> None:
        """Say it once, and do what was asked meanwhile."""
        self._said = [one for one in self._said if time.time() - one["at"] < _SAID_SECONDS]
        told = {**self._fixed, **self._facts(), "said": self._said, "at": time.time()}
        with self._redis.pipeline(transaction=False) as commands:
            commands.hset(PROCESSES, self._name, orjson.dumps(told))
            if self._do is not None:
                commands.lpop(asks_key(self._name), _MOST_ASKED)
            asked = commands.execute()[1:]
        done = [self._done(orjson.loads(raw)) for raw in (asked[0] if asked else None) or ()]
        if done:  # so that whoever asked sees at once how it went
            self._said += done
            self.beat()

    def _done(self, ask: dict[str, Any]) -> dict[str, Any]:
        assert self._do is not None
        try:
            text = self._do(ask)
        except Exception as error:  # whatever it is, the process goes on beating
            logger.exception("what was asked of this process failed")
            text = f"failed: {type(error).__name__}"
        return {"at": time.time(), "text": text}

    def _keep_beating(self) -> None:
        while True:
            try:
                self.beat()
            except redis.RedisError as error:
                logger.debug("nobody was told that this process lives: %s", type(error).__name__)
            except Exception:
                logger.exception("this process could not tell of itself")
            if self._stopping.wait(BEAT_SECONDS):
                return


_own: Beats | None = None
_lock = threading.Lock()


def begin(redis_url: str, kind: str, facts: Facts, *, name: str = "", do: Do | None = None) -> None:
    """This process's own beats; the first call counts."""
    global _own
    with _lock:
        if _own is None:
            _own = Beats(redis_url, kind, name or name_of(kind), facts, do)
            _own.start()


def end() -> None:
    global _own
    with _lock:
        left, _own = _own, None
    if left is not None:
        left.stop()


def _forget_after_fork() -> None:
    """The thread stays with the parent, and so does its name."""
    global _own, _lock
    _own, _lock = None, threading.Lock()


os.register_at_fork(after_in_child=_forget_after_fork)
