"""Celery's doors: an id in, one call out. What is done lies in `relayed_calls` and `jobs`."""

from __future__ import annotations

import logging
import os
import threading
import time
from pathlib import Path
from typing import Any

from celery import shared_task
from celery.signals import (
    beat_init,
    before_task_publish,
    celeryd_after_setup,
    worker_process_init,
    worker_ready,
    worker_shutdown,
    worker_shutting_down,
)
from django.conf import settings
from django.db import close_old_connections
from django.utils import timezone

from inference import (
    adoption,
    alert_delivery,
    alert_events,
    alert_judging,
    allowing,
    answering,
    batch_output,
    batch_running,
    batches,
    jobs,
    kept_files,
    kept_responses,
    ledger_sums,
    policy_trials,
    process_beats,
    process_facts,
    relay,
    rollup_rebuilding,
    shadow_pairs,
    shared_metrics,
    trace_partitions,
    usage_rows,
)
from inference.backends import llama_cpp
from inference.batch_counts import counts
from inference.metrics import metrics
from inference.relayed_calls import RelayedCalls
from routing import snapshot

logger = logging.getLogger("gateway.relay")

_lock = threading.Lock()
_calls: dict[int, RelayedCalls] = {}
"""By process id: a forked child makes its own."""


@shared_task
def run_relayed(relay_id: str) -> bool:
    """Serve one interactive call. A redelivered message finds nothing to claim and ends at once."""
    return _relayed_calls().serve(relay_id)


@shared_task
def run_job(job_id: str) -> bool:
    """Run a background job, unless another worker has it."""
    return jobs.run(job_id)


@shared_task
def run_local_job(job_id: str) -> bool:
    """The same for a job whose model is best run by this very worker."""
    return jobs.run(job_id)


@shared_task
def run_batch(batch_id: str) -> bool:
    """Do the next thing that is to be done with a batch, unless another worker does it."""
    return batch_running.run(batch_id)


@shared_task
def run_local_batch(batch_id: str) -> bool:
    """The same for a batch whose model is best run by this very worker."""
    return batch_running.run(batch_id)


@shared_task
def sweep_batches() -> int:
    """Wake workers for batches that nobody works on, such as those of a worker that was lost; returns how many."""
    return batches.sweep(timezone.now())


@shared_task
def forget_files() -> int:
    """Delete files that are past their expiry, and answers that became files; returns how many files and batches."""
    now = timezone.now()
    return kept_files.forget_old(now) + batch_output.forget_left(now)


@shared_task
def sweep_jobs() -> int:
    """Wake the jobs whose worker or whose message was lost; returns how many."""
    return jobs.sweep()


@shared_task
def judge_policy_trials() -> int:
    """Roll back the versions of policies that break their gates; returns how many."""
    return policy_trials.judge_all()


@shared_task
def forget_shadow_pairs() -> int:
    """Delete the compared answers whose hours are over; returns how many pairs went."""
    return shadow_pairs.forget_old(timezone.now())


@shared_task
def forget_responses() -> int:
    """Delete the kept responses whose days are over; returns how many."""
    return kept_responses.forget_old(timezone.now())


@shared_task
def adopt_spool() -> int:
    """Write what web processes left that were killed, should nobody else be there to do it; returns how many records."""
    return adoption.adopt(adoption.folder())


@shared_task
def forget_reasons() -> int:
    """Delete the explanations of requests that are long gone; returns how many."""
    return usage_rows.forget_reasons(timezone.now())


@shared_task
def keep_traces() -> int:
    """Make room for the traces of the days to come, and let go of those whose hours are over; returns how many things changed."""
    kept = trace_partitions.keep(timezone.now())
    return kept.partitions_made + kept.partitions_dropped + kept.rows_deleted + kept.contents_deleted


@shared_task
def judge_alerts() -> int:
    """See which alert rules are broken, and write down what follows; returns how many incidents began or ended."""
    return alert_judging.judge_all(timezone.now())


@shared_task
def send_alerts() -> int:
    """Send the messages of alerts that are due; returns how many were taken."""
    return alert_delivery.send_due(timezone.now())


@shared_task
def forget_alerts() -> int:
    """Delete incidents that ended long ago, and events that no rule looks back to; returns how many rows."""
    return alert_delivery.forget_old(timezone.now()) + alert_events.forget_old(timezone.now())


@shared_task
def forget_minutes() -> int:
    """Delete sums of minutes that are older than a month; returns how many."""
    return rollup_rebuilding.forget_minutes(timezone.now())


@shared_task
def reconcile_budgets() -> int:
    """Raise the counters of budgets to what the ledger says; returns how many were behind."""
    return ledger_sums.reconcile(wait=time.sleep)


@celeryd_after_setup.connect
def learn_queues(instance: Any, **_: Any) -> None:
    """Before the first task comes: does this worker run local models, or does it hand them to one that does?"""
    answering.holds_models = relay.QUEUE in instance.app.amqp.queues.consume_from
    if answering.holds_models:
        llama_cpp.configure(
            memory_budget_mb=settings.GATEWAY_LOCAL_MEMORY_MB,
            data_dir=settings.DATA_DIR,
            folders=[Path(folder) for folder in settings.GATEWAY_MODEL_FOLDERS],
        )


@worker_ready.connect
@worker_process_init.connect
def share_counters(**_: Any) -> None:
    """What this process counts, and what alerts have to know of it."""
    metrics.sources = [allowing.families, counts.families]
    alert_events.watch_meter()
    alert_events.events.start()
    shared_metrics.join(settings.DATA_DIR / "metrics", metrics.collect)


@worker_ready.connect
def say_that_it_lives(sender: Any, **_: Any) -> None:
    process_facts.begin_worker(sender)


@worker_process_init.connect
def say_that_a_child_lives(**_: Any) -> None:
    if answering.holds_models:
        process_facts.begin_pool_process()


@beat_init.connect
def begin_clock(**_: Any) -> None:
    process_facts.clock.begin()


@before_task_publish.connect
def note_what_was_sent(sender: Any = "", **_: Any) -> None:
    """Costs a glance in every process; only the clock tells of it."""
    process_facts.clock.note(str(sender))


@worker_ready.connect
def begin(**_: Any) -> None:
    """Say that the queue of relayed calls is served, and load what is to be loaded before anybody asks."""
    if answering.holds_models:
        _relayed_calls()
        threading.Thread(target=_preload, name="preload", daemon=True).start()


@worker_shutting_down.connect
def end(**_: Any) -> None:
    """A warm shutdown waits for tasks: give answers a few seconds to end by themselves, then end them with an error."""
    jobs.stop_soon(settings.CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT)
    batch_running.stop_soon(settings.CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT)
    calls = _calls.get(os.getpid())
    if calls is not None:
        timer = threading.Timer(settings.CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT, calls.stop)
        timer.daemon = True
        timer.start()


@worker_shutdown.connect
def unload(**_: Any) -> None:
    llama_cpp.close()
    alert_events.events.stop()
    shared_metrics.leave()
    process_beats.end()


def _relayed_calls() -> RelayedCalls:
    with _lock:
        calls = _calls.get(os.getpid())
        if calls is None:
            calls = RelayedCalls(settings.REDIS_URL)
            _calls[os.getpid()] = calls
            calls.start()
        return calls


def _preload() -> None:
    try:
        local = [model for model in snapshot.refresh().models if llama_cpp.is_local(model)]
    except Exception:  # the first call reads the registry again, and says what is wrong
        logger.exception("no model was preloaded: the registry could not be read")
        return
    finally:
        close_old_connections()
    for route, error in llama_cpp.preload(local).items():
        logger.warning("%s was not preloaded: %s %s", route, error.message, error.detail)
