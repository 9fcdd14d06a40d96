"""`/api/v1/me`: what a client key may read of itself: who it is, what limits and budgets it meets, and what it spent."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from routing import allowance_rows, budget_periods, budget_status, spending
from routing.allowances import KEY, LIMIT, TEAM, Allowance
from routing.api.budgets import COST, StandingResource, cost_asked
from routing.api.permissions import ANY
from routing.budget_status import Counted, Standing
from routing.models import ClientKey, Team
from routing.spending import Spending
from routing.types import Identity

_OWN = (KEY, TEAM)
"""Of what counts for others too, a key is told whether it would be served, and no amounts."""
_AMOUNTS = ("amount", "raised", "used", "reserved", "left", "percent", "forecast", "empty_at")


class LimitStanding(serializers.Serializer):
    name = serializers.CharField()
    subject = serializers.CharField()
    unit = serializers.CharField(help_text="requests, tokens, or calls under way at once.")
    period = serializers.CharField(help_text="minute, day or under_way.")
    limit = serializers.IntegerField()
    used = serializers.IntegerField(allow_null=True, help_text="Null: the common counters do not answer.")
    remaining = serializers.IntegerField(allow_null=True)
    resets_at = serializers.DateTimeField(allow_null=True, help_text="Null: nothing is used, or nothing to wait for.")


class KeyFacts(serializers.ModelSerializer):
    team = serializers.CharField(source="team.name", default=None, allow_null=True)

    class Meta:
        model = ClientKey
        fields = [
            "name",
            "prefix",
            "team",
            "role",
            "scopes",
            "tags",
            "allowed_models",
            "allowed_policies",
            "allowed_providers",
            "expires_at",
        ]


class Spend(serializers.Serializer):
    """USD of this hour, day and month (UTC), as the ledger has it: some seconds behind."""

    hour = serializers.DecimalField(max_digits=30, decimal_places=10)
    day = serializers.DecimalField(max_digits=30, decimal_places=10)
    month = serializers.DecimalField(max_digits=30, decimal_places=10)


class MeResource(serializers.Serializer):
    key = KeyFacts()
    code = serializers.CharField(help_text="BUDGET_OK, or what a request of `cost` would be refused with.")
    limits = LimitStanding(many=True)
    budgets = StandingResource(many=True, help_text="Of what counts for others too, amounts are null.")
    spend = Spend()


class MeView(APIView):
    """The key that asks, its limits and budgets, and what it spent."""

    required_scopes = {"GET": ANY}

    @extend_schema(parameters=[COST], responses=MeResource)
    def get(self, request: Request) -> Response:
        identity: Identity = request.auth
        cost, now = cost_asked(request), timezone.now()
        row = ClientKey.objects.select_related("team").get(pk=identity.key_id)
        met = allowance_rows.for_some([identity], now).of_caller(identity)
        counted = budget_status.figures(met)
        standings = budget_status.of_allowances(met, _whom(row), counted or {}, now)
        told = {
            "key": row,
            "code": budget_status.verdict(standings, cost),
            "limits": [_limit(one, counted) for one in met if one.kind == LIMIT and one.subject in _OWN],
            "budgets": standings,
            "spend": {period: _spent(identity, period, now) for period in ("hour", "day", "month")},
        }
        document = MeResource(told).data
        document["budgets"] = [_discreet(one, shown) for one, shown in zip(standings, document["budgets"], strict=True)]
        return Response(document)


def _whom(row: ClientKey) -> Mapping[str, tuple[Any, str]]:
    team: Team | None = row.team
    return {KEY: (row.pk, row.name), TEAM: (row.team_id, team.name if team is not None else "")}


def _limit(one: Allowance, counted: Mapping[str, Counted] | None) -> dict[str, Any]:
    seen = (counted or {}).get(one.key, Counted(0, 0))
    used = None if counted is None else seen.used + seen.reserved
    return {
        "name": one.name,
        "subject": one.subject,
        "unit": one.unit,
        "period": one.period,
        "limit": one.amount,
        "used": used,
        "remaining": None if used is None else max(0, one.amount - used),
        "resets_at": None if seen.ends is None else datetime.fromtimestamp(seen.ends, UTC),
    }


def _spent(identity: Identity, period: str, now: datetime) -> Decimal:
    span = budget_periods.span(period, now)
    return spending.of(Spending(KEY, span.start, span.end, identity.key_id)).get(identity.key_id, Decimal(0))


def _discreet(one: Standing, shown: Mapping[str, Any]) -> dict[str, Any]:
    if one.allowance.subject in _OWN:
        return dict(shown)
    return {**shown, **dict.fromkeys(_AMOUNTS)}
