"""Client keys as a resource. Making, changing and reading them is for admins: a key can never widen itself."""

from __future__ import annotations

from typing import Any

import django_filters as filters
from rest_framework import serializers

from providers.resources import Resource, ResourceSerializer
from routing import issuing
from routing.client_keys import SCOPES
from routing.models import ClientKey

_ADMINS = dict.fromkeys(("GET", "POST", "PUT", "PATCH", "DELETE"), "admin")


class ClientKeyResource(ResourceSerializer):
    scopes = serializers.ListField(child=serializers.ChoiceField(SCOPES), allow_empty=False)
    allowed_models = serializers.ListField(
        child=serializers.CharField(max_length=600),
        allow_null=True,
        required=False,
        help_text="Patterns of model names, such as gpt-* or openai/*; null allows all.",
    )
    key = serializers.SerializerMethodField(help_text="The key itself: in the answer that created it, and never again.")

    class Meta:
        model = ClientKey
        fields = [
            "id",
            "name",
            "prefix",
            "scopes",
            "allowed_models",
            "enabled",
            "expires_at",
            "last_used_at",
            "created_at",
            "updated_at",
            "created_by",
            "key",
        ]
        read_only_fields = ["prefix", "last_used_at", "created_at", "updated_at", "created_by"]

    def get_key(self, row: ClientKey) -> str | None:
        return self.context.get("issued", {}).get(row.pk)

    def create(self, validated_data: dict[str, Any]) -> ClientKey:
        row, secret = issuing.issue(
            validated_data["name"],
            validated_data["scopes"],
            allowed_models=validated_data.get("allowed_models"),
            expires_at=validated_data.get("expires_at"),
            enabled=validated_data.get("enabled", True),
        )
        if not self.context["view"].is_dry_run():
            self.context["issued"][row.pk] = secret.reveal()
        return row

    def update(self, instance: ClientKey, validated_data: dict[str, Any]) -> ClientKey:
        for name, value in validated_data.items():
            setattr(instance, name, value)
        instance.full_clean()
        instance.save()
        return instance


class ClientKeyFilter(filters.FilterSet):
    class Meta:
        model = ClientKey
        fields = ["name", "prefix", "enabled"]


class ClientKeys(Resource):
    queryset = ClientKey.objects.all()
    serializer_class = ClientKeyResource
    required_scopes = _ADMINS
    filterset_class = ClientKeyFilter

    def get_serializer_context(self) -> dict[str, Any]:
        # One object for the whole request: what `create` issued is shown by the serializer that renders the answer.
        self.issued: dict[int, str] = getattr(self, "issued", {})
        return super().get_serializer_context() | {"issued": self.issued}
