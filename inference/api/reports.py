"""`/api/v1/reports/`: spend and savings. A client key is told its own spend; one with the scope admin is told everything."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from inference import report_files, savings_reports, spend_reports, usage_times
from inference.spend_reports import BadReport, Question, Sight
from routing import snapshot
from routing.rollout import GATEWAY, LEGACY, PROBE, SHADOW

USUAL_SPAN = timedelta(days=30)
_GROUPS = ", ".join(spend_reports.GROUPS)


class _Known(serializers.Serializer):
    def to_internal_value(self, data: Any) -> Any:
        if unknown := sorted(set(data) - set(self.fields)):
            raise serializers.ValidationError({name: ["There is no such filter."] for name in unknown})
        return super().to_internal_value(data)


class _Spanned(_Known):
    since = serializers.DateTimeField(required=False, help_text="30 days before the end, without. Full hours count.")
    until = serializers.DateTimeField(required=False, help_text="Now, without.")
    key = serializers.CharField(max_length=32, required=False, help_text="Prefix of a client key.")
    team = serializers.IntegerField(required=False, min_value=0, max_value=2**62, help_text="Id of a team.")
    policy = serializers.CharField(max_length=255, required=False)
    operation = serializers.CharField(max_length=16, required=False)


class SpendQuery(_Spanned):
    group_by = serializers.CharField(
        max_length=255,
        default="model",
        help_text=f"Some of {_GROUPS}, separated by commas; empty for the totals alone.",
    )
    model = serializers.CharField(max_length=512, required=False, help_text="provider/model, or a model anywhere.")
    provider = serializers.CharField(max_length=255, required=False)
    tag = serializers.CharField(max_length=64, required=False)
    side = serializers.ChoiceField((GATEWAY, LEGACY, SHADOW, PROBE), required=False)
    time_zone = serializers.CharField(max_length=64, required=False, help_text="Of days and months; UTC, without.")
    limit = serializers.IntegerField(min_value=1, max_value=spend_reports.MOST_ROWS, default=1000)
    format = serializers.ChoiceField(("json", "csv"), required=False)

    def validate_group_by(self, told: str) -> tuple[str, ...]:
        return tuple(name.strip() for name in told.split(",") if name.strip())


class SavingsQuery(_Spanned):
    against = serializers.CharField(
        max_length=600, required=False, help_text="Compare with this one model; without, with each that a policy names."
    )


class CsvRenderer(BaseRenderer):
    """What is no table, such as a refusal, stays JSON."""

    media_type, format, charset = "text/csv", "csv", "utf-8"

    def render(self, data: Any, accepted_media_type: Any = None, renderer_context: Any = None) -> bytes:
        if isinstance(data, str):
            return data.encode()
        return JSONRenderer().render(data)


class SpendView(APIView):
    required_scopes = {"GET": ("generate", "admin")}
    renderer_classes = [JSONRenderer, CsvRenderer]

    @extend_schema(parameters=[SpendQuery], responses=OpenApiTypes.OBJECT, operation_id="reports_spend")
    def get(self, request: Request) -> Response:
        """What was spent, grouped and narrowed; as CSV with `format=csv` or `Accept: text/csv`."""
        query = SpendQuery(data=request.query_params)
        query.is_valid(raise_exception=True)
        told = dict(query.validated_data)
        limit, _ = told.pop("limit"), told.pop("format", "")
        try:
            found = spend_reports.report(_question(told), sight_of(request), most=limit)
        except BadReport as error:
            raise serializers.ValidationError({error.field: [str(error)]}) from None
        if request.accepted_renderer.format == "csv":
            return Response(
                "".join(report_files.csv_lines(found)),
                headers={"Content-Disposition": 'attachment; filename="spend.csv"'},
            )
        return Response(report_files.spend_document(found))


class LatencyQuery(_Spanned):
    group_by = serializers.CharField(
        max_length=255, default="model", help_text="Some of model, provider, operation, hour, day, week and month."
    )
    model = serializers.CharField(max_length=512, required=False, help_text="provider/model, or a model anywhere.")
    provider = serializers.CharField(max_length=255, required=False)
    time_zone = serializers.CharField(max_length=64, required=False, help_text="Of days, weeks and months.")

    def validate_group_by(self, told: str) -> tuple[str, ...]:
        return tuple(name.strip() for name in told.split(",") if name.strip())


class LatencyView(APIView):
    """For admins: how long requests took is not summed by key."""

    required_scopes = {"GET": "admin"}

    @extend_schema(parameters=[LatencyQuery], responses=OpenApiTypes.OBJECT, operation_id="reports_latency")
    def get(self, request: Request) -> Response:
        """How long requests took: mean, p50, p95 and p99, of the whole and of the first byte of streams."""
        query = LatencyQuery(data=request.query_params)
        query.is_valid(raise_exception=True)
        try:
            return Response(usage_times.document(_question(dict(query.validated_data))))
        except BadReport as error:
            raise serializers.ValidationError({error.field: [str(error)]}) from None


class SavingsView(APIView):
    """For admins: it tells prices of models that a key may not ask."""

    required_scopes = {"GET": "admin"}

    @extend_schema(parameters=[SavingsQuery], responses=OpenApiTypes.OBJECT, operation_id="reports_savings")
    def get(self, request: Request) -> Response:
        """What each policy's requests cost, and what their tokens would have cost at its other models, at today's prices."""
        query = SavingsQuery(data=request.query_params)
        query.is_valid(raise_exception=True)
        told = dict(query.validated_data)
        against = told.pop("against", "")
        try:
            question = _question(told)
            found = savings_reports.report(question, snapshot.refresh(), against=against)
        except BadReport as error:
            raise serializers.ValidationError({error.field: [str(error)]}) from None
        return Response(report_files.savings_document(question, found))


def sight_of(request: Request) -> Sight:
    identity = request.auth
    return spend_reports.EVERYTHING if identity.may("admin") else Sight(key_id=identity.key_id)


def _question(told: dict[str, Any]) -> Question:
    until = told.pop("until", None) or timezone.now()
    return Question(since=told.pop("since", None) or until - USUAL_SPAN, until=until, **told)
