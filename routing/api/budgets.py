"""`/api/v1/budgets`: money that subjects may spend, where each stands, and raises for a while. For keys with the scope `admin`."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.db import transaction
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from providers.resources import Resource, ResourceSerializer, asked
from routing import budget_actions, budget_status
from routing.api.permissions import ADMINS_ONLY
from routing.api.subject_fields import SUBJECT_FIELDS, UNCHECKED, CountedFilter, CountedSerializer
from routing.models import Budget, BudgetRaise

_MONEY = {"max_digits": 30, "decimal_places": 10}
COST = OpenApiParameter("cost", str, description="USD that a request would cost: the code is what it would meet.")


class BudgetResource(CountedSerializer):
    class Meta:
        model = Budget
        fields = [
            "id",
            "name",
            *SUBJECT_FIELDS,
            "period",
            "amount",
            "hard",
            "strict",
            "warn_percent",
            "time_zone",
            "when_away",
            "away_amount",
            "refuse_unpriced",
            "by_role",
            "enabled",
            "managed_by",
            "created_at",
            "updated_at",
            "created_by",
        ]
        read_only_fields = ["managed_by", "created_at", "updated_at", "created_by"]
        # The row's own rules answer, in words.
        validators: list[Any] = []
        extra_kwargs = UNCHECKED


class BudgetFilter(CountedFilter):
    class Meta:
        model = Budget
        fields = ["subject", "period", "tag", "hard", "enabled"]


class Budgets(Resource):
    """Money (USD) for one subject, or for each key or team by itself, in an hour, a day, a month or one request."""

    queryset = Budget.objects.select_related("client_key", "team", "provider", "model__provider")
    serializer_class = BudgetResource
    required_scopes = ADMINS_ONLY
    filterset_class = BudgetFilter


class StandingResource(serializers.Serializer):
    """Where one subject's budget stands in the period under way; amounts in USD."""

    budget_id = serializers.IntegerField(source="allowance.source_id")
    name = serializers.CharField(source="allowance.name")
    subject = serializers.CharField(source="allowance.subject")
    who = serializers.CharField(help_text="Such as the key's name.")
    period = serializers.CharField(source="allowance.period")
    amount = serializers.DecimalField(**_MONEY, help_text="With the role's factor and raises.")
    raised = serializers.DecimalField(**_MONEY, help_text="How much of it is a raise.")
    used = serializers.DecimalField(**_MONEY)
    reserved = serializers.DecimalField(**_MONEY, help_text="Held for requests under way.")
    left = serializers.DecimalField(**_MONEY)
    percent = serializers.FloatField()
    state = serializers.CharField(help_text="ok, warning or spent.")
    code = serializers.CharField(help_text="BUDGET_OK, or the code that a request is refused with.")
    hard = serializers.BooleanField(source="allowance.hard")
    counted = serializers.BooleanField(help_text="False: only the ledger is known, some seconds behind.")
    time_zone = serializers.CharField(source="allowance.time_zone")
    began_at = serializers.DateTimeField(source="span.start", default=None, allow_null=True)
    resets_at = serializers.DateTimeField(source="span.end", default=None, allow_null=True)
    forecast = serializers.DecimalField(
        **_MONEY, source="forecast.at_end", default=None, allow_null=True, help_text="Spent at the period's end."
    )
    empty_at = serializers.DateTimeField(
        source="forecast.empty_at", default=None, allow_null=True, help_text="At this pace; null: it lasts."
    )


class PastResource(serializers.Serializer):
    began_at = serializers.DateTimeField(source="span.start")
    ended_at = serializers.DateTimeField(source="span.end")
    used = serializers.DecimalField(**_MONEY)
    who = serializers.CharField(help_text="Of a budget for each: who spent the most.")
    spenders = serializers.IntegerField()


class StatusResource(serializers.Serializer):
    code = serializers.CharField(help_text="BUDGET_OK, or the first code that a request would meet.")
    standings = StandingResource(many=True, help_text="Nearest to its end first.")
    others = serializers.IntegerField(help_text="How many more it counts for that spent nothing, or are not shown.")
    history = PastResource(many=True, help_text="Newest first.")


def cost_asked(request: Request) -> Decimal:
    told = request.query_params.get("cost")
    if told is None:
        return Decimal(0)
    field = serializers.DecimalField(**_MONEY, min_value=Decimal(0))
    try:
        return field.run_validation(told)
    except serializers.ValidationError as error:
        raise serializers.ValidationError({"cost": error.detail}) from error


class BudgetStatusView(APIView):
    """Used, reserved and left, where the pace leads, when it begins anew, and how past periods ended."""

    required_scopes = {"GET": "admin"}

    @extend_schema(parameters=[COST], responses=StatusResource)
    def get(self, request: Request, pk: str) -> Response:
        row = get_object_or_404(Budgets.queryset.all(), pk=pk)
        cost, found = cost_asked(request), budget_status.of(row)
        told = {
            "code": budget_status.verdict(found.standings, cost),
            "standings": found.standings,
            "others": found.others,
            "history": budget_status.past(row),
        }
        return Response(StatusResource(told).data)


class RaiseResource(ResourceSerializer):
    class Meta:
        model = BudgetRaise
        fields = ["id", "amount", "reason", "expires_at", "created_at", "created_by"]
        read_only_fields = ["created_at", "created_by"]


class RaisesView(APIView):
    """More of a budget for a while, and why. What has expired stays as a record."""

    required_scopes = {"GET": "admin", "POST": "admin"}

    @extend_schema(responses=RaiseResource(many=True))
    def get(self, request: Request, pk: str) -> Response:
        row = get_object_or_404(Budget, pk=pk)
        return Response(RaiseResource(row.raises.all()[:500], many=True).data)

    @extend_schema(request=RaiseResource, responses={201: RaiseResource})
    def post(self, request: Request, pk: str) -> Response:
        row = get_object_or_404(Budget, pk=pk)
        body = RaiseResource(data=request.data)
        body.is_valid(raise_exception=True)
        with transaction.atomic():
            more = budget_actions.raise_for_a_while(row, **body.validated_data)
            if dry_run := asked(request, "dry_run"):
                transaction.set_rollback(True)
        headers = {"Dry-Run": "true"} if dry_run else None
        return Response(
            RaiseResource(more).data, status.HTTP_200_OK if dry_run else status.HTTP_201_CREATED, headers=headers
        )


class RaiseView(APIView):
    """End a raise before its time."""

    required_scopes = {"DELETE": "admin"}

    @extend_schema(responses={204: None})
    def delete(self, request: Request, pk: str, number: str) -> Response:
        get_object_or_404(BudgetRaise, pk=number, budget_id=pk).delete()
        return Response(status=status.HTTP_204_NO_CONTENT)
