"""`/api/v1/prices`: prices of one's own, and what every model costs by whose word."""

from __future__ import annotations

from typing import Any

import django_filters as filters
from django.db.models import QuerySet
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from providers import price_rows
from providers.models import PriceOverride, Provider, ProviderModel
from providers.prices import Prices
from providers.resources import Pages, Resource, ResourceSerializer

_MEMBERS = ("input_cost_per_million", "output_cost_per_million", "cached_input_cost_per_million")


class PriceResource(ResourceSerializer):
    provider_id = serializers.SlugRelatedField(
        slug_field="provider_id",
        source="provider",
        queryset=Provider.objects,
        allow_null=True,
        required=False,
        help_text="Null: any provider.",
    )

    class Meta:
        model = PriceOverride
        fields = [
            "id",
            "provider_id",
            "model_prefix",
            "valid_from",
            *_MEMBERS,
            "currency",
            "note",
            "managed_by",
            "created_at",
            "updated_at",
            "created_by",
        ]
        read_only_fields = ["managed_by", "created_at", "updated_at", "created_by"]
        # Uniqueness is answered by the database, as 409.
        validators: list[Any] = []

    def validate_currency(self, value: str) -> str:
        return value.upper()

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        names = ("input_cost_per_million", "output_cost_per_million", "valid_from")
        if wrong := PriceOverride.problems(*(attrs.get(name, getattr(self.instance, name, None)) for name in names)):
            raise serializers.ValidationError(wrong)
        return attrs


class PriceFilter(filters.FilterSet):
    provider_id = filters.CharFilter(field_name="provider__provider_id")

    class Meta:
        model = PriceOverride
        fields = ["provider_id", "model_prefix", "currency"]


class PriceOverrides(Resource):
    """Prices of one's own: each holds from its moment on, for the models whose ids begin with its prefix."""

    queryset = PriceOverride.objects.select_related("provider")
    serializer_class = PriceResource
    required_scopes = {
        "GET": "registry:read",
        "POST": "registry:write",
        "PUT": "registry:write",
        "PATCH": "registry:write",
        "DELETE": "registry:write",
    }
    filterset_class = PriceFilter


class ModelPrice(serializers.Serializer):
    """What one model costs now, per million tokens; null is unknown, not free."""

    provider_id = serializers.CharField()
    model_id = serializers.CharField()
    input_cost_per_million = serializers.DecimalField(max_digits=20, decimal_places=10, allow_null=True)
    output_cost_per_million = serializers.DecimalField(max_digits=20, decimal_places=10, allow_null=True)
    cached_input_cost_per_million = serializers.DecimalField(max_digits=20, decimal_places=10, allow_null=True)
    currency = serializers.CharField()
    source = serializers.CharField(help_text="own, override, list, free, or empty where nobody knows.")
    note = serializers.CharField(help_text="The source in words, with its date or version.")


class ModelPriceFilter(filters.FilterSet):
    provider_id = filters.CharFilter(field_name="provider__provider_id")

    class Meta:
        model = ProviderModel
        fields = ["provider_id", "model_id", "enabled"]


class ModelPrices(GenericViewSet):
    """Every stored model with the prices that hold now."""

    queryset = ProviderModel.objects.select_related("provider")
    serializer_class = ModelPrice
    required_scopes = {"GET": "registry:read"}
    pagination_class = Pages
    filterset_class = ModelPriceFilter

    @extend_schema(
        responses=ModelPrice(many=True),
        parameters=[OpenApiParameter("unknown", bool, description="Only models whose price nobody knows.")],
    )
    def list(self, request: Request) -> Response:
        rows = self.filter_queryset(self.get_queryset())
        if serializers.BooleanField().run_validation(request.query_params.get("unknown", False)):
            rows = unpriced(rows)
        page = self.paginate_queryset(rows)
        assert page is not None
        prices = price_rows.of_models(page)
        return self.get_paginated_response(
            self.get_serializer([_told(row, prices[row.pk]) for row in page], many=True).data
        )


def unpriced(rows: QuerySet) -> QuerySet:
    """Prices are worked out, not stored, so this looks at all of them."""
    prices = price_rows.of_models(rows)
    return rows.filter(pk__in=[pk for pk, told in prices.items() if not told.says_something])


def _told(row: ProviderModel, prices: Prices) -> dict[str, Any]:
    return {
        "provider_id": row.provider.provider_id,
        "model_id": row.model_id,
        **{name: getattr(prices, name) for name in (*_MEMBERS, "currency", "source", "note")},
    }
