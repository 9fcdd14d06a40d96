"""`/api/v1/shadow-pairs`: the compared answers of both sides. A list shows figures; one pair shows its texts."""

from __future__ import annotations

import django_filters as filters
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from inference.models import ShadowPair
from providers.resources import NewestFirst, ReadOnlyResource, ResourceSerializer
from providers.secrets import Secret

_FIGURES = [
    "id",
    "at",
    "run",
    "request_id",
    "answered_by",
    "path",
    "model",
    *(
        f"{side}_{fact}"
        for side in ("gateway", "legacy")
        for fact in ("status", "error", "ms", "input_tokens", "output_tokens", "cost")
    ),
    "tokens_estimated",
    "equal",
    "similarity",
]


@extend_schema_field(str)
class SealedText(serializers.Field):
    def to_representation(self, value: Secret) -> str:
        return value.reveal()


class ShadowPairFigures(ResourceSerializer):
    class Meta:
        model = ShadowPair
        fields = _FIGURES
        read_only_fields = _FIGURES


class ShadowPairTexts(ResourceSerializer):
    """With what was asked and what both sides said."""

    request_text = SealedText(read_only=True)
    gateway_text = SealedText(read_only=True)
    legacy_text = SealedText(read_only=True)

    class Meta:
        model = ShadowPair
        fields = [*_FIGURES, "request_text", "gateway_text", "legacy_text"]
        read_only_fields = fields


class ShadowPairFilter(filters.FilterSet):
    since = filters.IsoDateTimeFilter("at", "gte")
    until = filters.IsoDateTimeFilter("at", "lt")
    least_similarity = filters.NumberFilter("similarity", "gte")
    most_similarity = filters.NumberFilter("similarity", "lte")

    class Meta:
        model = ShadowPair
        fields = ["run", "request_id", "answered_by", "model", "equal"]


class ShadowPairs(ReadOnlyResource):
    queryset = ShadowPair.objects.all()
    required_scopes = {"GET": "admin"}
    filterset_class = ShadowPairFilter
    pagination_class = NewestFirst

    def get_queryset(self) -> QuerySet[ShadowPair]:
        pairs = super().get_queryset()
        return pairs.defer("request_text", "gateway_text", "legacy_text") if self.action == "list" else pairs

    def get_serializer_class(self) -> type[ResourceSerializer]:
        return ShadowPairTexts if self.action == "retrieve" else ShadowPairFigures
