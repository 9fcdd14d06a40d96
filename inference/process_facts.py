"""What a process tells of itself with each beat; see `inference.process_beats`."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from celery.worker import state as celery_state
from django.conf import settings

from inference import answering, process_beats
from inference.backends import llama_cpp
from inference.residency import ResidentModel
from routing import snapshot

_JOBS = ("inference.tasks.run_job", "inference.tasks.run_local_job")
_MOST_TASKS = 50


def begin_worker(consumer: Any) -> None:
    """In the process that takes messages. With threads or alone it also holds the models; with child processes those do."""
    serves = sorted(consumer.app.amqp.queues.consume_from)
    pool = type(consumer.pool).__module__.rsplit(".", 1)[-1]
    facts = partial(_of_worker, consumer, serves, pool)
    process_beats.begin(settings.REDIS_URL, process_beats.WORKER, facts, name=consumer.hostname, do=_do)


def begin_pool_process() -> None:
    process_beats.begin(settings.REDIS_URL, process_beats.POOL, _of_models, do=_do)


def begin_web(inflight: Callable[[], int]) -> None:
    process_beats.begin(settings.REDIS_URL, process_beats.WEB, partial(_of_web, inflight))


class Clock:
    """Of the process that sends what is due: when it last sent something."""

    def __init__(self) -> None:
        self._sent_at: float | None = None
        self._task = ""

    def begin(self) -> None:
        process_beats.begin(settings.REDIS_URL, process_beats.CLOCK, self._facts)

    def note(self, task: str) -> None:
        self._sent_at, self._task = time.time(), task

    def _facts(self) -> dict[str, Any]:
        return {"sent_at": self._sent_at, "task": self._task}


clock = Clock()


def _of_worker(consumer: Any, serves: list[str], pool: str) -> dict[str, Any]:
    return {
        "pool": pool,
        "concurrency": getattr(consumer.pool, "limit", None),
        "serves": serves,
        "takes": sorted(consumer.app.amqp.queues.consume_from),
        "done": sum(celery_state.total_count.values()),
        "tasks": _tasks(),
        **_of_models(),
    }


def _tasks() -> list[dict[str, Any]]:
    """Those at work, the longest first. Of a job its id, which is all that a message of it holds."""
    found = []
    for request in list(celery_state.active_requests)[:_MOST_TASKS]:
        args = request.args if request.name in _JOBS else ()
        began = request.time_start
        found.append(
            {
                "task": request.name,
                "seconds": max(0.0, time.monotonic() - began) if began else 0.0,
                "job": str(args[0]) if args else "",
            }
        )
    return sorted(found, key=lambda one: -one["seconds"])


def _of_models() -> dict[str, Any]:
    if not answering.holds_models:
        return {"models": []}
    local = llama_cpp.local_models()
    return {"models": [_model(one) for one in local.resident()], "memory_budget_bytes": local.budget_bytes}


def _model(one: ResidentModel) -> dict[str, Any]:
    return {
        "id": one.id,
        "name": one.name,
        "path": one.path,
        "engine": one.engine,
        "memory_bytes": one.memory_bytes,
        "context_size": one.context_size,
        "cache_tokens": one.cache_tokens,
        "gpu_layers": one.gpu_layers,
        "users": one.users,
        "load_seconds": one.load_seconds,
        "last_used_at": one.last_used_at,
        "notes": list(one.notes),
    }


def _of_web(inflight: Callable[[], int]) -> dict[str, Any]:
    held = snapshot.held()
    return {
        "revision": held.revision if held is not None else None,
        "read_at": held.built_at if held is not None else None,
        "problem": snapshot.problem(),
        "inflight": inflight(),
    }


def _do(ask: dict[str, Any]) -> str:
    if ask.get("do") != "unload":
        return f"unknown: {ask.get('do')}"
    name = str(ask.get("name", ""))
    if llama_cpp.local_models().unload_by_id(str(ask.get("model", ""))):
        return f"unloaded {name}"
    return f"{name} stays: it is in use, or was gone already"
