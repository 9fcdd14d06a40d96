"""Telling a worker that there is something to do: a Celery message that holds an id and nothing else."""

from __future__ import annotations

import redis
from celery import current_app
from django.conf import settings
from kombu.exceptions import OperationalError


def wake(task: str, queue: str, identifier: str) -> None:
    """Publish, once. Raises `ConnectionError` when the broker does not take it; the caller knows what that means."""
    try:
        current_app.send_task(task, args=[identifier], queue=queue, retry=False, ignore_result=True)
    except OperationalError as error:
        raise ConnectionError(f"the broker does not answer: {error}") from error


def marks() -> redis.Redis:
    """Where it stands what was told a short while ago. Raises what Redis raises when it is away, once it is used."""
    return redis.Redis.from_url(settings.REDIS_URL, socket_timeout=2, socket_connect_timeout=2)


def wake_once(store: redis.Redis, door: tuple[str, str], kind: str, identifier: str, seconds: int) -> bool:
    """`wake` by a task and its queue, unless that was done within `seconds` and is not forgotten."""
    if not store.set(_mark(kind, identifier), b"1", nx=True, ex=seconds):
        return False
    wake(*door, identifier)
    return True


def forget(store: redis.Redis, kind: str, identifier: str) -> None:
    """The message has come, or there is news: the next one is sent at once."""
    store.delete(_mark(kind, identifier))


def _mark(kind: str, identifier: str) -> str:
    return f"gw:{kind}:{identifier}:woken"
