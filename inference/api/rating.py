"""Corrections of costs as a resource: made with a reason, read for ever, never changed."""

from __future__ import annotations

from typing import Any

import django_filters as filters
from django.db import transaction
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from inference import rating
from inference.models import CostCorrection, RatingRun
from inference.rating import Figures, Span
from providers import actor
from providers.prices import Prices
from providers.resources import NewestFirst, ReadOnlyResource, ResourceSerializer, asked

_SCOPES = dict.fromkeys(("GET", "POST"), "admin")


class RatingRunOut(ResourceSerializer):
    class Meta:
        model = RatingRun
        fields = [
            *("id", "made_at", "made_by", "reason", "since", "until", "provider_id", "model_id", "prices"),
            *("records", "unpriced"),
        ]


def _money(**more: Any) -> serializers.DecimalField:
    return serializers.DecimalField(max_digits=20, decimal_places=10, **more)


class NamedPrices(serializers.Serializer):
    """Per million tokens."""

    input_cost_per_million = _money(min_value=0)
    output_cost_per_million = _money(min_value=0)
    cached_input_cost_per_million = _money(min_value=0, required=False, allow_null=True, default=None)
    currency = serializers.CharField(max_length=3, default="USD")


class RatingRunIn(serializers.Serializer):
    since = serializers.DateTimeField()
    until = serializers.DateTimeField(required=False, help_text="Now, when it is left out.")
    provider_id = serializers.CharField(max_length=255, required=False, default="", allow_blank=True)
    model_id = serializers.CharField(max_length=255, required=False, default="", allow_blank=True)
    prices = NamedPrices(
        required=False, allow_null=True, default=None, help_text="Without: as the registry now has them for each time."
    )
    reason = serializers.CharField(max_length=500)

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict) and (unknown := sorted(data.keys() - self.fields.keys())):
            raise serializers.ValidationError({name: ["There is no such field."] for name in unknown})
        return super().to_internal_value(data)

    def validate(self, told: dict[str, Any]) -> dict[str, Any]:
        told.setdefault("until", timezone.now())
        if told["since"] >= told["until"]:
            raise serializers.ValidationError({"since": ["It has to be before until."]})
        return told


class LineOut(serializers.Serializer):
    provider_id = serializers.CharField()
    model_id = serializers.CharField()
    currency = serializers.CharField()
    records = serializers.IntegerField()
    changed = serializers.IntegerField()
    unpriced = serializers.IntegerField(help_text="No price is known for them: they keep what they have.")
    before = serializers.DecimalField(max_digits=None, decimal_places=None)  # type: ignore[arg-type]
    after = serializers.DecimalField(max_digits=None, decimal_places=None)  # type: ignore[arg-type]


class RatedOut(serializers.Serializer):
    run = RatingRunOut()
    lines = LineOut(many=True)


class RatingRuns(ReadOnlyResource):
    queryset = RatingRun.objects.all()
    serializer_class = RatingRunOut
    pagination_class = NewestFirst
    required_scopes = _SCOPES

    @extend_schema(
        request=RatingRunIn,
        responses={201: RatedOut},
        parameters=[OpenApiParameter("dry_run", bool, description="Reckon everything, and write nothing.")],
    )
    def create(self, request: Request) -> Response:
        """Correct what a span of the ledger cost. Records keep the figures they were booked with; corrections stand beside them."""
        told = RatingRunIn(data=request.data)
        told.is_valid(raise_exception=True)
        asked_for = told.validated_data
        span = Span(asked_for["since"], asked_for["until"], asked_for["provider_id"], asked_for["model_id"])
        with transaction.atomic():
            made, figures = rating.run(span, asked_for["reason"], actor.current().name, _prices(asked_for["prices"]))
            shown = Response(_shown(made, figures), status=status.HTTP_201_CREATED)
            if asked(request, "dry_run"):
                transaction.set_rollback(True)
                shown.status_code = status.HTTP_200_OK
                shown["Dry-Run"] = "true"
        return shown


def _shown(made: RatingRun, figures: Figures) -> dict[str, Any]:
    return {"run": RatingRunOut(made).data, "lines": LineOut(figures.lines, many=True).data}


def _prices(told: dict[str, Any] | None) -> Prices | None:
    if told is None:
        return None
    return Prices(
        told["input_cost_per_million"],
        told["output_cost_per_million"],
        told["cached_input_cost_per_million"],
        told["currency"].upper(),
        "correction",
        "named for a correction",
    )


class CorrectionOut(ResourceSerializer):
    request_id = serializers.CharField(source="record.request_id", read_only=True)
    attempt = serializers.IntegerField(source="record.attempt", read_only=True)
    provider_id = serializers.CharField(source="record.provider_id", read_only=True)
    model_id = serializers.CharField(source="record.model_id", read_only=True)

    class Meta:
        model = CostCorrection
        fields = [
            *("id", "run", "request_id", "attempt", "provider_id", "model_id", "at"),
            *("cost_before", "cost_after", "currency", "prices"),
        ]


class CorrectionFilter(filters.FilterSet):
    request_id = filters.CharFilter(field_name="record__request_id")

    class Meta:
        model = CostCorrection
        fields = ["run"]


class CostCorrections(ReadOnlyResource):
    queryset = CostCorrection.objects.select_related("record")
    serializer_class = CorrectionOut
    pagination_class = NewestFirst
    filterset_class = CorrectionFilter
    required_scopes = _SCOPES
