"""Budgets that fit what was spent, so that each looks as one does: far away, near its end, used up, raised."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from django.db import transaction
from django.db.models import Q

from inference.rollup_models import TagRollup
from inference.rollup_windows import amounts
from providers import actor
from providers.pricing import USD
from routing import budget_actions
from routing.models import Budget, ClientKey, RateLimit, Team
from routing.rollout import GATEWAY

ZONE = "Europe/Berlin"
_TEAMS = {"help-desk": (0.91, True), "research": (1.18, False), "web-shop": (1.07, True), "platform": (0.44, True)}
"""How much of each is used at the end, and whether it refuses what goes beyond."""


def budgets(until: datetime) -> None:
    month = until.astimezone(ZoneInfo(ZONE)).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    counted = Q(side=GATEWAY, currency=USD)
    spent = {key[0]: sums.cost for key, sums in amounts(month, until, counted, by=("team_id",)).items()}
    teams = {team.name: team for team in Team.objects.all()}
    keys = {key.name: key for key in ClientKey.objects.all()}
    with actor.acting_as("user:fatima", reason="Budgets of this quarter"), transaction.atomic():
        _put(subject="all", amount=_fitting(sum(spent.values(), Decimal(0)), 0.62), hard=False, warn_percent=75)
        for name, (used, hard) in _TEAMS.items():
            _put(subject="team", team=teams[name], amount=_fitting(spent.get(teams[name].pk), used), hard=hard)
        atlas = _of_tag("project:atlas", month)
        _put(subject="tag", tag="project:atlas", amount=_fitting(atlas, 0.72), hard=False)
        _put(subject="key", client_key=keys["Code review bot"], period="day", amount=Decimal(6))
        _put(subject="each_key", period="day", amount=Decimal(40), by_role=True)
    shop = Budget.objects.get(team=teams["web-shop"])
    reason = "Black Friday: product texts for 4,000 new articles"
    with actor.acting_as("user:fatima", reason=reason):
        budget_actions.raise_for_a_while(shop, _rounded(shop.amount / 2), reason, until + timedelta(days=9))


def limits(keys: Mapping[str, ClientKey]) -> None:
    with actor.acting_as("user:omar"):
        limit = RateLimit(
            subject="key", client_key=keys["Shop product texts"], requests_per_minute=60, concurrent_requests=8
        )
        limit.full_clean()
        limit.save()


def _put(**values: Any) -> None:
    budget = Budget(time_zone=ZONE, **values)
    budget.full_clean()
    budget.save()


def _of_tag(tag: str, since: datetime) -> Decimal:
    rows = TagRollup.objects.filter(tag=tag, hour__gte=since, side=GATEWAY, currency=USD)
    return sum((row.cost for row in rows.only("cost")), Decimal(0))


def _fitting(spent: Decimal | None, used: float) -> Decimal:
    """The amount of which so much is used."""
    return _rounded((spent or Decimal(0)) / Decimal(str(used)))


def _rounded(amount: Decimal) -> Decimal:
    """Two figures, as people set them; never nothing."""
    return max(Decimal("0.01"), Decimal(f"{Decimal(f'{amount:.1e}'):f}"))
