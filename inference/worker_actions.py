"""What may be asked of a worker: to unload a model, to take no more from a queue, and to take again. None waits for an answer: the
next beats of the worker tell. A restarted worker takes from all of its queues."""

from __future__ import annotations

from typing import Any

import orjson
import redis
from celery import current_app
from django.conf import settings
from django.db import transaction
from kombu.exceptions import OperationalError

from inference import process_beats, process_list
from providers import audit

_KEPT_SECONDS = 60


class NoSuchWorker(Exception):
    """No worker of that name lives, or it has no such queue or model."""


class NotTold(Exception):
    """Redis is away: the worker did not hear of it."""


def unload(worker: str, model: str) -> str:
    """Of a loaded model by its id; one that is in use stays. Returns the model's name."""
    held = _alive(worker)
    found = next((one for one in held["models"] if one["id"] == model), None)
    if found is None:
        raise NoSuchWorker(f"{worker} holds no model {model!r}.")
    name = found["name"] or found["path"]
    ask = orjson.dumps({"do": "unload", "model": model, "name": name})
    with transaction.atomic():
        audit.record("unload", "worker", worker, before={"model": name}, after=None)
        try:
            with redis.Redis.from_url(settings.REDIS_URL, socket_timeout=2, socket_connect_timeout=2) as store:
                store.rpush(process_beats.asks_key(found["process"]), ask)
                store.expire(process_beats.asks_key(found["process"]), _KEPT_SECONDS)
        except (redis.RedisError, OSError) as error:
            raise NotTold(f"Redis does not answer: {type(error).__name__}") from error
    return name


def pause(worker: str, queue: str = "") -> list[str]:
    """Take no more from the queue, or from any: what runs ends by itself. Returns the queues that it took from until now."""
    held = _alive(worker)
    queues = [one for one in _queues(held, queue) if one in held["takes"]]
    _tell("pause", worker, queues, current_app.control.cancel_consumer)
    return queues


def resume(worker: str, queue: str = "") -> list[str]:
    """Take again from the queue, or from all that it serves."""
    held = _alive(worker)
    queues = [one for one in _queues(held, queue) if one not in held["takes"]]
    _tell("resume", worker, queues, current_app.control.add_consumer)
    return queues


def _alive(worker: str) -> dict[str, Any]:
    try:
        seen = process_list.look()
    except process_list.RedisAway as error:
        raise NotTold(str(error)) from error
    for one in seen.workers:
        if one["name"] == worker and one["alive"]:
            return one
    raise NoSuchWorker(f"No worker {worker!r} lives.")


def _queues(held: dict[str, Any], queue: str) -> list[str]:
    if queue and queue not in held["serves"]:
        raise NoSuchWorker(f"{held['name']} serves no queue {queue!r}: {', '.join(held['serves'])}.")
    return [queue] if queue else list(held["serves"])


def _tell(what: str, worker: str, queues: list[str], control: Any) -> None:
    if not queues:
        return
    with transaction.atomic():
        audit.record(what, "worker", worker, before=None, after={"queues": queues})
        try:
            for queue in queues:
                control(queue, destination=[worker], reply=False)
        except (OperationalError, OSError) as error:
            raise NotTold(f"The broker does not answer: {type(error).__name__}") from error
