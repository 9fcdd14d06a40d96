"""What policies served in the last day, counted from the requests that are kept."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta

from django.db.models import Count, Q
from django.utils import timezone

from inference.models import Trace
from routing.policy_traffic import HOURS, Traffic
from routing.rollout import GATEWAY

_FAILED = Q(status__gte=400)
_RESCUED = Q(status__lt=400, attempts__gt=1)


def of(names: Collection[str]) -> dict[str, Traffic]:
    """By policy; those that served nothing are left out."""
    since = timezone.now() - timedelta(hours=HOURS)
    rows = (
        Trace.objects.filter(policy__in=list(names), at__gte=since, side=GATEWAY)
        .exclude(policy="")
        .order_by()
        .values("policy")
        .annotate(requests=Count("id"), failed=Count("id", filter=_FAILED), rescued=Count("id", filter=_RESCUED))
    )
    return {row["policy"]: Traffic(row["requests"], row["failed"], row["rescued"]) for row in rows}
