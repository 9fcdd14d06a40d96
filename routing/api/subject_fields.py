"""For whom a limit or a budget counts, in bodies and filters: by the names that people and configuration files use."""

from __future__ import annotations

from typing import Any

import django_filters as filters
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from providers.models import Provider, ProviderModel
from providers.resources import ResourceSerializer
from routing.models import ClientKey, Team
from routing.subjects import Counted

SUBJECT_FIELDS = ["subject", "client_key", "team", "provider", "model", "tag"]
UNCHECKED: dict[str, Any] = {"subject": {"validators": []}, "tag": {"validators": []}}
"""That a subject has one row is said by the row itself, which names the other."""


@extend_schema_field(OpenApiTypes.STR)
class RouteField(serializers.Field):
    """A model as `provider_id/model_id`."""

    default_error_messages = {"unknown": "There is no model {route!r}; name it as provider/model."}

    def to_representation(self, value: ProviderModel) -> str:
        return f"{value.provider.provider_id}/{value.model_id}"

    def to_internal_value(self, data: Any) -> ProviderModel:
        route = data if isinstance(data, str) else ""
        cuts = (place for place, letter in enumerate(route) if letter == "/")
        rows = (
            ProviderModel.objects.filter(provider__provider_id=route[:cut], model_id=route[cut + 1 :])
            .select_related("provider")
            .first()
            for cut in cuts
        )
        found = next((row for row in rows if row is not None), None)
        if found is None:
            self.fail("unknown", route=route[:255])
        return found


class CountedSerializer(ResourceSerializer):
    """Rows that count for a subject. The model's own rules are checked in one place, its `clean`."""

    client_key = serializers.SlugRelatedField(
        slug_field="prefix",
        queryset=ClientKey.objects,
        allow_null=True,
        required=False,
        help_text="With the subject key: its prefix.",
    )
    team = serializers.SlugRelatedField(
        slug_field="name",
        queryset=Team.objects,
        allow_null=True,
        required=False,
        help_text="With the subject team: its name.",
    )
    provider = serializers.SlugRelatedField(
        slug_field="provider_id",
        queryset=Provider.objects,
        allow_null=True,
        required=False,
        help_text="With the subject provider: its id.",
    )
    model = RouteField(allow_null=True, required=False, help_text="With the subject model: provider/model.")

    def create(self, validated_data: dict[str, Any]) -> Counted:
        return self._stored(self.Meta.model(), validated_data)

    def update(self, instance: Counted, validated_data: dict[str, Any]) -> Counted:
        return self._stored(instance, validated_data)

    def _stored(self, row: Counted, values: dict[str, Any]) -> Counted:
        for name, value in values.items():
            setattr(row, name, value)
        row.full_clean()
        row.save()
        return row


class CountedFilter(filters.FilterSet):
    client_key = filters.CharFilter(field_name="client_key__prefix")
    team = filters.CharFilter(field_name="team__name")
    provider = filters.CharFilter(field_name="provider__provider_id")
