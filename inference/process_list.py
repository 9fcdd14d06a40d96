"""Who lives: workers with what they do and hold, the clock, the web processes, and what waits in the queues. One look at Redis."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
import redis
from django.conf import settings

from inference.process_beats import CLOCK, MISSED_SECONDS, POOL, PROCESSES, WEB, WORKER
from providers import revision

FORGET_SECONDS = 3600.0
QUEUES = ("generation", "llama_cpp", "probes", "housekeeping")


class RedisAway(Exception):
    """Nobody can be asked who lives."""


@dataclass(frozen=True, slots=True)
class Queue:
    """`waiting` are messages that no worker has taken yet; `takers` the workers alive that take from it."""

    name: str
    waiting: int
    takers: tuple[str, ...]
    paused: tuple[str, ...]
    """Workers alive that serve it and do not take from it now."""


@dataclass(frozen=True, slots=True)
class Seen:
    at: float
    workers: tuple[dict[str, Any], ...]
    clock: dict[str, Any] | None
    web: tuple[dict[str, Any], ...]
    queues: tuple[Queue, ...]
    revision: int
    """Of the registry, as the database has it."""

    @property
    def models(self) -> list[dict[str, Any]]:
        return [model for worker in self.workers if worker["alive"] for model in worker["models"]]


def look() -> Seen:
    """Raises `RedisAway`."""
    try:
        with redis.Redis.from_url(settings.REDIS_URL, socket_timeout=2, socket_connect_timeout=2) as store:
            with store.pipeline(transaction=False) as commands:
                commands.hgetall(PROCESSES)
                for name in QUEUES:
                    commands.llen(name)
                told, *waiting = commands.execute()
            now = time.time()
            processes = [_read(raw, now) for raw in told.values()]
            forgotten = [one["name"] for one in processes if now - one["at"] > FORGET_SECONDS]
            if forgotten:
                store.hdel(PROCESSES, *forgotten)
    except (redis.RedisError, OSError) as error:
        raise RedisAway(f"Redis does not answer: {type(error).__name__}") from error
    kept = [one for one in processes if one["name"] not in forgotten]
    workers = tuple(_with_models(one, kept) for one in _of(kept, WORKER))
    clocks = _of(kept, CLOCK)
    return Seen(
        at=now,
        workers=workers,
        clock=max(clocks, key=lambda one: one["at"]) if clocks else None,
        web=tuple(_of(kept, WEB)),
        queues=tuple(_queue(name, count, workers) for name, count in zip(QUEUES, waiting, strict=True)),
        revision=revision.current(),
    )


def document(seen: Seen) -> dict[str, Any]:
    """As the API and the command tell it; times are ISO 8601."""
    return {
        "at": _iso(seen.at),
        "queues": [
            {"name": one.name, "waiting": one.waiting, "takers": list(one.takers), "paused": list(one.paused)}
            for one in seen.queues
        ],
        "workers": [_told(one) for one in seen.workers],
        "clock": None if seen.clock is None else _told(seen.clock),
        "web": [_told(one) for one in seen.web],
        "registry_revision": seen.revision,
    }


def moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _read(raw: bytes, now: float) -> dict[str, Any]:
    told = orjson.loads(raw)
    return told | {"alive": now - told["at"] < MISSED_SECONDS}


def _of(processes: Sequence[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return sorted((one for one in processes if one["kind"] == kind), key=lambda one: (not one["alive"], one["name"]))


def _with_models(worker: dict[str, Any], processes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """With the models of its child processes, each with the name of the process to ask."""
    found = [{**model, "process": worker["name"]} for model in worker.get("models", ())]
    said = list(worker.get("said", ()))
    for child in processes:
        if (child["kind"], child["host"], child["parent"]) == (POOL, worker["host"], worker["pid"]) and child["alive"]:
            found += [{**model, "process": child["name"]} for model in child.get("models", ())]
            said += child.get("said", ())
    return worker | {"models": found, "said": said}


def _queue(name: str, waiting: int, workers: Sequence[dict[str, Any]]) -> Queue:
    alive = [one for one in workers if one["alive"] and name in one["serves"]]
    takers = tuple(one["name"] for one in alive if name in one["takes"])
    return Queue(name, waiting, takers, tuple(one["name"] for one in alive if name not in one["takes"]))


def _told(one: dict[str, Any]) -> dict[str, Any]:
    times = {name: _iso(one[name]) for name in ("at", "started_at", "sent_at", "read_at") if name in one}
    told = {**one, **times, "said": [{**word, "at": _iso(word["at"])} for word in one.get("said", ())]}
    if "models" in told:
        told["models"] = [{**model, "last_used_at": _iso(model["last_used_at"])} for model in told["models"]]
    return told


def _iso(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
