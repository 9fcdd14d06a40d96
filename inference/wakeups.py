"""Telling a worker that there is something to do: a Celery message that holds an id and nothing else."""

from __future__ import annotations

from celery import current_app
from kombu.exceptions import OperationalError


def wake(task: str, queue: str, identifier: str) -> None:
    """Publish, once. Raises `ConnectionError` when the broker does not take it; the caller knows what that means."""
    try:
        current_app.send_task(task, args=[identifier], queue=queue, retry=False, ignore_result=True)
    except OperationalError as error:
        raise ConnectionError(f"the broker does not answer: {error}") from error
