"""The Celery app: JSON bodies that hold ids only, late acknowledgement, one queue per family of work."""

from __future__ import annotations

import os
import sys
from typing import Any

from celery import Celery
from celery.signals import after_task_publish, beat_init, worker_ready
from kombu import Exchange, Queue

from gateway_project import clock

QUEUES = ("housekeeping", "generation", "probes", "llama_cpp")
"""A worker that is told none of them serves all."""

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway_project.settings")

app = Celery("gateway_project")
# For every thread: the app of a new Celery object is otherwise only that of the thread which made it.
app.set_default()
app.config_from_object("django.conf:settings", namespace="CELERY")
app.conf.task_queues = [Queue(name, Exchange(name), routing_key=name) for name in QUEUES]
app.conf.task_routes = {
    "inference.tasks.run_relayed": {"queue": "llama_cpp"},
    "inference.tasks.run_local_job": {"queue": "llama_cpp"},
    "inference.tasks.run_job": {"queue": "generation"},
    "inference.tasks.run_local_batch": {"queue": "llama_cpp"},
    "inference.tasks.run_batch": {"queue": "generation"},
    "providers.tasks.run_import": {"queue": "housekeeping"},
    "providers.tasks.forget_import_secrets": {"queue": "housekeeping"},
    "providers.tasks.*": {"queue": "probes"},
}
app.conf.beat_scheduler = "gateway_project.kept_schedule:KeptSchedule"
app.conf.beat_schedule = {
    "probe-due-providers": {"task": "providers.tasks.probe_due_providers", "schedule": 10.0},
    "read-due-offers": {"task": "providers.tasks.read_due_offers", "schedule": 10.0},
    "forget-import-secrets": {"task": "providers.tasks.forget_import_secrets", "schedule": 3600.0},
    "judge-policy-trials": {"task": "inference.tasks.judge_policy_trials", "schedule": 15.0},
    "disable-failing-models": {"task": "routing.tasks.disable_failing_models", "schedule": 5.0},
    "adopt-spool": {"task": "inference.tasks.adopt_spool", "schedule": 15.0},
    "sweep-jobs": {"task": "inference.tasks.sweep_jobs", "schedule": 15.0},
    "sweep-batches": {"task": "inference.tasks.sweep_batches", "schedule": 5.0},
    "forget-files": {"task": "inference.tasks.forget_files", "schedule": 600.0},
    "forget-reasons": {"task": "inference.tasks.forget_reasons", "schedule": 3600.0},
    "keep-traces": {"task": "inference.tasks.keep_traces", "schedule": 600.0},
    "judge-alerts": {"task": "inference.tasks.judge_alerts", "schedule": 15.0},
    "send-alerts": {"task": "inference.tasks.send_alerts", "schedule": 5.0},
    "forget-alerts": {"task": "inference.tasks.forget_alerts", "schedule": 3600.0},
    "forget-minutes": {"task": "inference.tasks.forget_minutes", "schedule": 3600.0},
    "reconcile-budgets": {"task": "inference.tasks.reconcile_budgets", "schedule": 10.0},
    "forget-responses": {"task": "inference.tasks.forget_responses", "schedule": 3600.0},
    "forget-shadow-pairs": {"task": "inference.tasks.forget_shadow_pairs", "schedule": 600.0},
}
app.autodiscover_tasks()


@worker_ready.connect
def say_ready(**_: Any) -> None:
    """To whoever started the worker. In the log it may look otherwise, or be below its level; Celery makes `sys.stdout` a log."""
    print("the worker is ready.", file=sys.__stdout__, flush=True)


@beat_init.connect
def tell_each_tick(**_: Any) -> None:
    """Of the clock's process alone; others send tasks too."""
    after_task_publish.connect(clock.tick, weak=False)
