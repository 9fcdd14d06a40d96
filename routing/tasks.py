"""Background steps of routing."""

from __future__ import annotations

from celery import shared_task

from routing import health_actions


@shared_task
def disable_failing_models() -> int:
    """Take out of service what fails and fails; returns how many models."""
    return len(health_actions.disable_failing())
