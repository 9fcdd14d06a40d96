"""For whom a limit or a budget counts, in bodies and filters: by the names that people and configuration files use."""

from __future__ import annotations

from typing import Any

import django_filters as filters
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from providers.models import Provider, ProviderModel
from providers.resources import CheckedSerializer
from routing.models import ClientKey, Team

SUBJECT_FIELDS = ["subject", "client_key", "team", "provider", "model", "tag"]
UNCHECKED: dict[str, Any] = {"subject": {"validators": []}, "tag": {"validators": []}}
"""That a subject has one row is said by the row itself, which names the other."""


@extend_schema_field(OpenApiTypes.STR)
class RouteField(serializers.Field):
    """A model as `provider_id/model_id`."""

    default_error_messages = {"unknown": "There is no model {route!r}; name it as provider/model."}

    def to_representation(self, value: ProviderModel) -> str:
        return value.route

    def to_internal_value(self, data: Any) -> ProviderModel:
        route = data if isinstance(data, str) else ""
        found = ProviderModel.of_route(route)
        if found is None:
            self.fail("unknown", route=route[:255])
        return found


class CountedSerializer(CheckedSerializer):
    """Rows that count for a subject."""

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


class CountedFilter(filters.FilterSet):
    client_key = filters.CharFilter(field_name="client_key__prefix")
    team = filters.CharFilter(field_name="team__name")
    provider = filters.CharFilter(field_name="provider__provider_id")
