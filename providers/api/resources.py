"""The registry as resources under `/api/v1/`: one per table, strict bodies, no secret in any answer."""

from __future__ import annotations

from typing import Any

import django_filters as filters
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from providers import actions, holding, probes, provider_types, unread_secrets
from providers.api.serializers import (
    JsonObject,
    Words,
    addressable,
    allowed_connection_params,
    allowed_secret,
    check_parameter,
    warnings_of,
    without_credentials,
)
from providers.models import ApiKey, AuditEntry, ConnectionParameter, ProbeResult, Provider, ProviderModel
from providers.resources import NewestFirst, ReadOnlyResource, Resource, ResourceSerializer

_SCOPES = {
    "GET": "registry:read",
    "POST": "registry:write",
    "PUT": "registry:write",
    "PATCH": "registry:write",
    "DELETE": "registry:write",
}


class ProviderResource(ResourceSerializer):
    connection_params = JsonObject(required=False, help_text="Secrets in it are stored encrypted and never shown.")
    request_settings = JsonObject(required=False)
    data_tags = Words(required=False)
    breaker = JsonObject(required=False, help_text="Numbers of the circuit breaker that differ from the usual ones.")

    class Meta:
        model = Provider
        fields = [
            "provider_id",
            "provider_type",
            "display_name",
            "description",
            "enabled",
            "priority",
            "connection_params",
            "request_settings",
            "probe_interval_seconds",
            "allow_paid_probes",
            "locality",
            "data_tags",
            "breaker",
            "created_at",
            "updated_at",
            "created_by",
        ]
        read_only_fields = ["created_at", "updated_at", "created_by"]
        # Uniqueness is answered by the database, as 409.
        extra_kwargs = {
            "provider_id": {"validators": [addressable]},
            "probe_interval_seconds": {"max_value": 2**31 - 1},
        }

    def validate_provider_id(self, value: str) -> str:
        if self.instance is not None and value != self.instance.provider_id:
            raise serializers.ValidationError("An id cannot be changed: create another provider.")
        return value

    def validate_provider_type(self, value: str) -> str:
        return actions.known_type(value)

    def validate_connection_params(self, value: dict[str, Any]) -> dict[str, Any]:
        return allowed_connection_params(value)

    def validate_request_settings(self, value: dict[str, Any]) -> dict[str, Any]:
        return without_credentials(value)

    def create(self, validated_data: dict[str, Any]) -> Provider:
        return actions.create_provider(validated_data)

    def update(self, instance: Provider, validated_data: dict[str, Any]) -> Provider:
        return actions.update_provider(instance, validated_data)


class _PartOfAProvider(ResourceSerializer):
    provider_id = serializers.SlugRelatedField(slug_field="provider_id", source="provider", queryset=Provider.objects)

    def validate_provider_id(self, value: Provider) -> Provider:
        if self.instance is not None and value.pk != self.instance.provider_id:
            raise serializers.ValidationError("A part cannot be moved to another provider.")
        return value


class ModelResource(_PartOfAProvider):
    capabilities = Words(required=False)
    tasks = Words(required=False)
    parameters = JsonObject(required=False)

    class Meta:
        model = ProviderModel
        fields = [
            "id",
            "provider_id",
            "model_id",
            "display_name",
            "model_type",
            "context_window",
            "max_tokens",
            "dimension",
            "enabled",
            "capabilities",
            "tasks",
            "cost_tier",
            "input_cost_per_million",
            "output_cost_per_million",
            "cached_input_cost_per_million",
            "currency",
            "parameters",
            "auto_disabled_at",
            "auto_disabled_reason",
            "created_at",
            "updated_at",
            "created_by",
        ]
        read_only_fields = ["auto_disabled_at", "auto_disabled_reason", "created_at", "updated_at", "created_by"]
        extra_kwargs = {name: {"max_value": 2**31 - 1} for name in ("context_window", "max_tokens", "dimension")}
        validators: list[Any] = []

    def validate_parameters(self, value: dict[str, Any]) -> dict[str, Any]:
        return without_credentials(value)

    def create(self, validated_data: dict[str, Any]) -> ProviderModel:
        return actions.add_model(validated_data.pop("provider"), validated_data)

    def update(self, instance: ProviderModel, validated_data: dict[str, Any]) -> ProviderModel:
        return actions.update_model(instance, validated_data)


class ApiKeyResource(_PartOfAProvider):
    secret = serializers.CharField(max_length=16_384, trim_whitespace=False, write_only=True)

    class Meta:
        model = ApiKey
        fields = [
            "id",
            "provider_id",
            "name",
            "secret",
            "hint",
            "fingerprint",
            "environment",
            "expires_at",
            "weight",
            "enabled",
            "held_for",
            "last_used_at",
            "created_at",
            "updated_at",
            "created_by",
        ]
        read_only_fields = [
            *("hint", "fingerprint", "held_for", "last_used_at"),
            *("created_at", "updated_at", "created_by"),
        ]
        extra_kwargs = {"weight": {"max_value": 2**31 - 1}}

    def validate_secret(self, value: str) -> str:
        return allowed_secret(value)

    def create(self, validated_data: dict[str, Any]) -> ApiKey:
        return actions.add_key(validated_data.pop("provider"), validated_data)

    def update(self, instance: ApiKey, validated_data: dict[str, Any]) -> ApiKey:
        return actions.update_key(instance, validated_data)


class ParameterResource(_PartOfAProvider):
    """A sensitive value shows as null."""

    param_value = serializers.CharField(
        max_length=16_384, allow_blank=True, trim_whitespace=False, source="plain_value", allow_null=False
    )

    class Meta:
        model = ConnectionParameter
        fields = [
            "id",
            "provider_id",
            "param_name",
            "param_value",
            "is_sensitive",
            "environment",
            "created_at",
            "updated_at",
            "created_by",
        ]
        read_only_fields = ["created_at", "updated_at", "created_by"]
        validators: list[Any] = []

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        for name in ("param_name", "environment"):
            if self.instance is not None and attrs.get(name, getattr(self.instance, name)) != getattr(
                self.instance, name
            ):
                raise serializers.ValidationError({name: "This cannot be changed: create another parameter."})
        name = attrs.get("param_name") or self.instance.param_name
        if "plain_value" in attrs:
            check_parameter(name, attrs["plain_value"])
        elif self.instance is not None and attrs.get("is_sensitive") is False and self.instance.is_sensitive:
            raise serializers.ValidationError({"param_value": "Say the value again to have it stored in the clear."})
        return attrs

    def create(self, validated_data: dict[str, Any]) -> ConnectionParameter:
        value = validated_data.pop("plain_value")
        return actions.add_parameter(validated_data.pop("provider"), validated_data | {"param_value": value})

    def update(self, instance: ConnectionParameter, validated_data: dict[str, Any]) -> ConnectionParameter:
        return actions.update_parameter(
            instance, validated_data.get("plain_value"), is_sensitive=validated_data.get("is_sensitive")
        )


class AuditResource(ResourceSerializer):
    class Meta:
        model = AuditEntry
        fields = [
            "id",
            "at",
            "actor",
            "action",
            "target_type",
            "target_id",
            "before",
            "after",
            "request_id",
            "reason",
            "hash",
        ]


class ProbeResource(ResourceSerializer):
    provider_id = serializers.SlugRelatedField(slug_field="provider_id", source="provider", queryset=Provider.objects)
    generate = serializers.BooleanField(
        write_only=True, default=True, help_text="Ask a model for a token, which may be billed."
    )

    class Meta:
        model = ProbeResult
        fields = [
            "id",
            "provider_id",
            "at",
            "healthy",
            "trigger",
            "duration_ms",
            "model_tested",
            "message",
            "stages",
            "generate",
        ]
        read_only_fields = ["at", "healthy", "trigger", "duration_ms", "model_tested", "message", "stages"]

    def create(self, validated_data: dict[str, Any]) -> ProbeResult:
        return probes.probe(validated_data["provider"], trigger="api", generate=validated_data["generate"])


class _ByProvider(filters.FilterSet):
    provider_id = filters.CharFilter(field_name="provider__provider_id")


class ModelFilter(_ByProvider):
    capability = filters.CharFilter(method="having_capability", help_text="Models that declare this capability.")

    class Meta:
        model = ProviderModel
        fields = ["provider_id", "model_id", "model_type", "enabled", "cost_tier"]

    def having_capability(self, rows: Any, name: str, value: str) -> Any:
        # Databases differ in how they search JSON; models number thousands at most.
        having = [pk for pk, held in rows.values_list("pk", "capabilities") if isinstance(held, list) and value in held]
        return rows.filter(pk__in=having)


class ApiKeyFilter(_ByProvider):
    class Meta:
        model = ApiKey
        fields = ["provider_id", "environment", "enabled", "fingerprint"]


class ParameterFilter(_ByProvider):
    class Meta:
        model = ConnectionParameter
        fields = ["provider_id", "environment", "param_name", "is_sensitive"]


class AuditFilter(filters.FilterSet):
    since = filters.IsoDateTimeFilter(field_name="at", lookup_expr="gte")
    until = filters.IsoDateTimeFilter(field_name="at", lookup_expr="lt")

    class Meta:
        model = AuditEntry
        fields = ["actor", "action", "target_type", "target_id", "request_id"]


class ProbeFilter(_ByProvider):
    class Meta:
        model = ProbeResult
        fields = ["provider_id", "healthy", "trigger"]


_WRITES = ("create", "update", "partial_update")


class Providers(Resource):
    queryset = Provider.objects.defer("secret_params")
    serializer_class = ProviderResource
    required_scopes = _SCOPES
    lookup_field = "provider_id"
    lookup_value_regex = "[^/]+"
    filterset_fields = ["provider_id", "provider_type", "enabled"]

    def shown(self, row: Any, code: int = 200) -> Response:
        """After a write, with `warnings` where it holds back keys, see `providers.holding`, or where a secret cannot be read."""
        response = super().shown(row, code)
        if self.action in _WRITES:
            told = [holding.warning(row.api_keys.all()), *unread_secrets.of_provider(row)]
            response.data = {**response.data, **warnings_of(told)}
        return response


class ProviderModels(Resource):
    queryset = ProviderModel.objects.select_related("provider")
    serializer_class = ModelResource
    required_scopes = _SCOPES
    filterset_class = ModelFilter


class ApiKeys(Resource):
    queryset = ApiKey.objects.select_related("provider")
    serializer_class = ApiKeyResource
    required_scopes = _SCOPES
    filterset_class = ApiKeyFilter

    def shown(self, row: Any, code: int = 200) -> Response:
        """After a write, with `warnings` where this process cannot read what the key refers to."""
        response = super().shown(row, code)
        if self.action in _WRITES:
            response.data = {**response.data, **warnings_of(unread_secrets.of_key(row))}
        return response

    @extend_schema(request=None, responses=ApiKeyResource)
    @action(detail=True, methods=["post"], required_scopes={"POST": "secrets:read"})
    def release(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Let a key that is held back be shown at the address that its provider has now. Needs the scope secrets:read."""
        key = self.get_object()
        holding.release([key])
        return Response(self.get_serializer(key).data)


class ConnectionParameters(Resource):
    queryset = ConnectionParameter.objects.select_related("provider")
    serializer_class = ParameterResource
    required_scopes = _SCOPES
    filterset_class = ParameterFilter


class Audit(ReadOnlyResource):
    """Who changed what. Secrets appear as fingerprints."""

    queryset = AuditEntry.objects.all()
    serializer_class = AuditResource
    required_scopes = {"GET": "admin"}
    pagination_class = NewestFirst
    filterset_class = AuditFilter


class Probes(mixins.CreateModelMixin, ReadOnlyResource):
    """What probes found; POST runs one now."""

    queryset = ProbeResult.objects.select_related("provider")
    serializer_class = ProbeResource
    required_scopes = {"GET": "registry:read", "POST": "registry:write"}
    pagination_class = NewestFirst
    filterset_class = ProbeFilter


class ParameterOfType(serializers.Serializer):
    name = serializers.CharField()
    label = serializers.CharField()
    help = serializers.CharField()
    kind = serializers.CharField()
    required = serializers.BooleanField()
    sensitive = serializers.BooleanField()
    default = serializers.JSONField(allow_null=True)
    choices = serializers.ListField(child=serializers.CharField())


class ProviderTypeOut(serializers.Serializer):
    name = serializers.CharField()
    label = serializers.CharField()
    help = serializers.CharField()
    runs_in = serializers.CharField()
    needs_key = serializers.BooleanField()
    free = serializers.BooleanField()
    capabilities = serializers.SerializerMethodField()
    defaults = serializers.DictField()
    parameters = ParameterOfType(many=True)

    def get_capabilities(self, kind: provider_types.ProviderType) -> list[str]:
        return sorted(kind.capabilities)


class ProviderTypes(APIView):
    required_scopes = {"GET": "registry:read"}

    @extend_schema(responses=ProviderTypeOut(many=True))
    def get(self, request: Request) -> Response:
        """The types that a provider can be of, with the parameters that each declares."""
        return Response(ProviderTypeOut(list(provider_types.registered().values()), many=True).data)
