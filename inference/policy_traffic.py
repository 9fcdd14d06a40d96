"""What policies served in the last day, by the sums of hours and minutes."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta

from django.db.models import Q
from django.utils import timezone

from inference import rollup_windows
from routing.policy_traffic import HOURS, Traffic
from routing.rollout import GATEWAY


def of(names: Collection[str]) -> dict[str, Traffic]:
    """By policy; those that served nothing are left out."""
    now = timezone.now()
    wanted = Q(policy__in=[name for name in names if name], side=GATEWAY)
    found = rollup_windows.amounts(now - timedelta(hours=HOURS), now, wanted, ["policy"])
    return {
        policy: Traffic(told.requests, told.failed, told.rescued) for (policy,), told in found.items() if told.requests
    }
