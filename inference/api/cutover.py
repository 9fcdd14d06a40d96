"""The figures of a parallel run, both sides beside each other."""

from __future__ import annotations

from typing import Any

from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from inference import cutover
from inference.cutover import HOUR, LONGEST_HOURS


class SideOut(serializers.Serializer):
    side = serializers.CharField()
    requests = serializers.IntegerField()
    errors = serializers.IntegerField(
        help_text="Answers of 400 and above, and those that broke off; not clients that left."
    )
    error_rate = serializers.FloatField(allow_null=True, help_text="0 to 1.")
    clients = serializers.IntegerField()
    p50_ms = serializers.FloatField(allow_null=True)
    p95_ms = serializers.FloatField(allow_null=True)
    first_byte_p95_ms = serializers.FloatField(allow_null=True, help_text="Of streams.")
    input_tokens = serializers.IntegerField()
    output_tokens = serializers.IntegerField()
    costs = serializers.DictField(
        child=serializers.DecimalField(max_digits=None, decimal_places=None),  # type: ignore[arg-type]
        help_text="By currency. The legacy side's are estimates at this gateway's prices.",
    )


class HourOfSideOut(serializers.Serializer):
    requests = serializers.IntegerField()
    errors = serializers.IntegerField()
    mean_ms = serializers.FloatField(allow_null=True)


class HourOut(serializers.Serializer):
    at = serializers.DateTimeField()
    gateway = HourOfSideOut()
    legacy = HourOfSideOut()


class FiguresOut(serializers.Serializer):
    since = serializers.DateTimeField()
    until = serializers.DateTimeField()
    gateway = SideOut()
    legacy = SideOut()
    hours = HourOut(many=True)


class RolloutFiguresView(APIView):
    required_scopes = {"GET": "admin"}

    @extend_schema(
        parameters=[
            OpenApiParameter("hours", float, description=f"How far back, at most {LONGEST_HOURS}; 1 by default.")
        ],
        responses=FiguresOut,
    )
    def get(self, request: Request) -> Response:
        """Requests, errors, times, tokens and cost of both sides, and by hour."""
        span: Any = serializers.FloatField(min_value=0.01, max_value=LONGEST_HOURS)
        try:
            hours = span.run_validation(request.query_params.get("hours", 1))
        except serializers.ValidationError as error:
            raise serializers.ValidationError({"hours": error.detail}) from error
        now = timezone.now()
        return Response(FiguresOut(cutover.figures(now - hours * HOUR, now)).data)
