"""How versions of a policy do by the rows of usage, and the judge who rolls back the one that breaks its gate."""

from __future__ import annotations

import logging
from datetime import datetime

from django.db.models import Avg, Count, Q, QuerySet
from django.db.models.functions import Coalesce
from django.utils import timezone

from inference.models import Trace
from providers import actor
from routing import trials
from routing.models import Policy
from routing.rollout import GATEWAY
from routing.trial_gates import BROKEN, Figures

log = logging.getLogger("gateway.trials")

_CLIENT_LEFT = 499
_FAILED = (Q(status__gte=400) | ~Q(error_code="")) & ~Q(status=_CLIENT_LEFT)


def figures(policy: str, version: int, since: datetime, until: datetime) -> Figures:
    """The version's requests of that time. Whoever hung up before the answer counts as neither good nor bad."""
    rows = Trace.objects.filter(policy=policy, policy_version=version, at__gte=since, at__lt=until, side=GATEWAY)
    rows = rows.exclude(status=_CLIENT_LEFT).order_by()
    told = rows.aggregate(requests=Count("pk"), errors=Count("pk", filter=_FAILED), cost=Avg("cost"))
    good = told["requests"] - told["errors"]
    return Figures(
        told["requests"],
        told["errors"],
        _median(rows.exclude(_FAILED), good),
        float(told["cost"]) if told["cost"] is not None else None,
    )


def _median(rows: QuerySet, count: int) -> float | None:
    if not count:
        return None
    times = rows.annotate(answered=Coalesce("first_byte_ms", "duration_ms")).order_by("answered")
    return times.values_list("answered", flat=True)[count // 2 : count // 2 + 1].get()


def judge_all() -> int:
    """Compare every candidate that has clients with the version that counts; returns how many were rolled back."""
    running = Policy.objects.filter(enabled=True, candidate_version__isnull=False, candidate_percentage__gt=0)
    return sum(_judge(policy) for policy in running)


def _judge(policy: Policy) -> bool:
    comparison = trials.compare(trials.of(policy), timezone.now())
    if comparison is None or comparison.verdict.outcome != BROKEN or policy.candidate_version is None:
        return False
    with actor.acting_as("system:policy-trials"):
        rolled_back = trials.roll_back(policy, policy.candidate_version, comparison.verdict.sentence, comparison)
    if rolled_back:
        log.warning(
            "version %s of policy %s was rolled back: %s",
            policy.candidate_version,
            policy.name,
            comparison.verdict.sentence,
        )
    return rolled_back
