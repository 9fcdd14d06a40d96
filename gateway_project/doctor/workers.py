"""The worker and the clock: who does what nobody waits for."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from django.db.models import Q
from django.utils import timezone

from gateway_project import clock
from gateway_project.celery import QUEUES, app
from gateway_project.doctor.findings import ERROR, WARNING, WORKERS, Finding, Fix, Told, check, counted, page
from gateway_project.doctor.stores import ask_redis
from inference.batch_models import Batch

LATE_SECONDS = 60.0
"""Something is due every five seconds."""
MANY_WAITING = 100
LEFT_ALONE = timedelta(minutes=10)
"""For so long a batch with something to do has nobody who works on it; it is offered to the workers every five seconds."""
ANSWER_SECONDS = 1.0
_START_WORKER = "celery -A gateway_project.celery:app worker"
_START_CLOCK = "celery -A gateway_project.celery:app beat"


@check("clock", "The clock ticks", WORKERS)
def the_clock() -> Told:
    last = clock.last_tick()
    why = "No provider is probed, no alert judged, nothing old deleted and no lost job woken while it stands still."
    fix = Fix("Start the clock; one for the whole installation.", command=_START_CLOCK)
    if last is None:
        yield Finding(ERROR, "The clock (Celery beat) has not ticked for a day, or never.", why, fix)
        return
    behind = time.time() - last
    if behind > LATE_SECONDS:
        at = datetime.fromtimestamp(last, UTC)
        yield Finding(ERROR, f"The clock (Celery beat) last ticked {behind / 60:.0f} minutes ago.", why, fix, at)
    yield f"It ticked {max(0.0, behind):.0f}\u202fs ago."


@check("queues", "No queue grows", WORKERS)
def queues() -> Told:
    with ask_redis() as client:
        pipeline = client.pipeline(transaction=False)
        for queue in QUEUES:
            pipeline.llen(queue)
        waiting = dict(zip(QUEUES, pipeline.execute(), strict=True))
    for queue, length in waiting.items():
        if length >= MANY_WAITING:
            yield Finding(
                ERROR if length >= 10 * MANY_WAITING else WARNING,
                f"{counted(length, 'task')} wait in the queue {queue}.",
                "Whoever serves that queue is away, or too slow for what comes.",
                Fix(
                    "Start a worker for it, or more of them.",
                    page("workers"),
                    f"{_START_WORKER} -Q {queue}",
                ),
            )
    yield f"{counted(sum(waiting.values()), 'task')} wait{'s' if sum(waiting.values()) == 1 else ''} in {len(QUEUES)} queues."


@check("batches", "Every batch is worked on", WORKERS)
def batches() -> Told:
    before = timezone.now() - LEFT_ALONE
    going = Batch.objects.filter(state__in=Batch.OPEN)
    nobodys = Q(leased_until=None, created_at__lt=before) | Q(leased_until__lt=before)
    due = Q(held_until=None) | Q(held_until__lt=before)
    for local, queue in ((False, "generation"), (True, "llama_cpp")):
        left = going.filter(nobodys, due, local=local)
        if number := left.count():
            yield Finding(
                WARNING,
                f"Nobody works on {counted(number, 'batch', 'batches')} since {LEFT_ALONE.seconds // 60} minutes or longer.",
                f"The workers of the queue {queue} are away, or have their hands full; a batch expires after its day.",
                Fix(
                    "Start a worker for it, or more of them.",
                    page("inference_batch_changelist", state="working"),
                    f"{_START_WORKER} -Q {queue}",
                ),
            )
    yield f"{counted(going.count(), 'batch', 'batches')} not over."


@check("workers", "Every queue has a worker that answers", WORKERS, live=True, apart=True)
def answering() -> Told:
    with ask_redis() as client:
        client.ping()  # Celery would try again and again, and nobody answers by a broker that is away
    served = app.control.inspect(timeout=ANSWER_SECONDS).active_queues() or {}
    if not served:
        yield Finding(
            ERROR,
            "No worker answers.",
            "Background jobs, probes, alerts, roll-outs of policies and local models wait for one.",
            Fix("Start a worker.", page("workers"), _START_WORKER),
        )
        return
    by_queue = {queue["name"] for queues in served.values() for queue in queues or ()}
    for queue in QUEUES:
        if queue not in by_queue:
            yield Finding(
                ERROR,
                f"No worker that answers serves the queue {queue}.",
                "What is put there is never done.",
                Fix("Start a worker for it.", page("workers"), f"{_START_WORKER} -Q {queue}"),
            )
    yield f"{counted(len(served), 'worker')} answer{'s' if len(served) == 1 else ''}: {', '.join(sorted(served))}."
