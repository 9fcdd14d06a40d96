"""The roll-out as one resource: who is served here, who at the legacy side. For admins: it moves every client's traffic."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from rest_framework import serializers

from providers.resources import Resource, ResourceSerializer
from routing.models import Rollout


class RolloutResource(ResourceSerializer):
    legacy_headers = serializers.DictField(
        child=serializers.CharField(allow_blank=True, trim_whitespace=False),
        write_only=True,
        required=False,
        help_text="Sent to the legacy side with every request; replaces all that are stored, which are never shown.",
    )
    header_names = serializers.SerializerMethodField(help_text="The names of the stored legacy_headers.")
    extra_paths = serializers.ListField(child=serializers.CharField(max_length=500), required=False)
    enabled_by_environment = serializers.SerializerMethodField(
        help_text="False where this process was started with GATEWAY_V2_ENABLED=false, which wins over gateway_enabled."
    )

    class Meta:
        model = Rollout
        fields = [
            "percentage",
            "gateway_enabled",
            "enabled_by_environment",
            "legacy_base_url",
            "legacy_headers",
            "header_names",
            "extra_paths",
            "salt",
            "verify_tls",
            "connect_timeout_seconds",
            "reply_timeout_seconds",
            "idle_timeout_seconds",
            "created_at",
            "updated_at",
            "created_by",
        ]
        read_only_fields = ["created_at", "updated_at", "created_by"]

    def get_header_names(self, row: Rollout) -> list[str]:
        return sorted(row.headers())

    def get_enabled_by_environment(self, row: Rollout) -> bool:
        return settings.GATEWAY_V2_ENABLED

    def update(self, instance: Rollout, validated_data: dict[str, Any]) -> Rollout:
        return Rollout.change(headers=validated_data.pop("legacy_headers", None), **validated_data)


class RolloutView(Resource):
    """There is always a roll-out: before the first write it reads as what is in force then, everything served here.

    PUT keeps what its body leaves out, as PATCH does: forgetting a field must not move traffic.
    """

    queryset = Rollout.objects.all()
    serializer_class = RolloutResource
    required_scopes = dict.fromkeys(("GET", "PUT", "PATCH"), "admin")
    pagination_class = None

    def get_object(self) -> Rollout:
        return Rollout.load()

    def etag(self, row: Any) -> str:
        return '"0"' if row._state.adding else super().etag(row)

    def _locked(self) -> Rollout:
        return Rollout.objects.select_for_update().filter(pk=1).first() or Rollout()
