"""What holds for every request where a policy says nothing, as one resource."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from providers.resources import Resource, ResourceSerializer
from routing.models import Policy, RoutingSettings


class Environment(serializers.Serializer):
    fallback_enabled = serializers.BooleanField()
    retries = serializers.IntegerField(allow_null=True)
    retry_delay_seconds = serializers.FloatField(allow_null=True)


class RoutingSettingsResource(ResourceSerializer):
    unknown_model = serializers.ChoiceField(["refuse", "default"], required=False)
    breaker = serializers.DictField(required=False, help_text="Numbers of all circuit breakers that are not as usual.")
    by_environment = serializers.SerializerMethodField(
        help_text="What this process was started with, which wins over what is stored; null where it says nothing."
    )

    class Meta:
        model = RoutingSettings
        fields = [
            "max_cost_per_request",
            "fallback_enabled",
            "retries",
            "retry_delay_seconds",
            "default_policy",
            "unknown_model",
            "breaker",
            "by_environment",
            "managed_by",
            "created_at",
            "updated_at",
            "created_by",
        ]
        read_only_fields = ["managed_by", "created_at", "updated_at", "created_by"]

    @extend_schema_field(Environment)
    def get_by_environment(self, row: RoutingSettings) -> dict[str, Any]:
        return {
            "fallback_enabled": settings.GATEWAY_FALLBACK_ENABLED,
            "retries": settings.GATEWAY_MAX_RETRIES,
            "retry_delay_seconds": settings.GATEWAY_RETRY_DELAY_SECONDS,
        }

    def validate_default_policy(self, value: str) -> str:
        if value and not Policy.objects.filter(name=value, enabled=True).exists():
            raise serializers.ValidationError(f"No enabled policy is named {value!r}.")
        return value

    def update(self, instance: RoutingSettings, validated_data: dict[str, Any]) -> RoutingSettings:
        for name, value in validated_data.items():
            setattr(instance, name, value)
        instance.full_clean()
        instance.save()
        return instance


class RoutingSettingsView(Resource):
    """They read as what is in force before anybody wrote them. PUT keeps what its body leaves out, as PATCH does."""

    queryset = RoutingSettings.objects.all()
    serializer_class = RoutingSettingsResource
    required_scopes = {"GET": "registry:read", "PUT": "registry:write", "PATCH": "registry:write"}
    pagination_class = None

    def get_object(self) -> RoutingSettings:
        return RoutingSettings.load()

    def etag(self, row: Any) -> str:
        return '"0"' if row._state.adding else super().etag(row)

    def _locked(self) -> RoutingSettings:
        return RoutingSettings.objects.select_for_update().filter(pk=1).first() or RoutingSettings()
