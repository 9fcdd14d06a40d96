"""Bodies of `/providers` as the source systems' clients send and read them.

What comes in is validated whole before anything is written; what goes out never holds a secret.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rest_framework import serializers

from providers import actions, allowed_references, storable_json
from providers.models import ApiKey, ConnectionParameter, Provider, ProviderModel, validate_identifier

_LARGEST = 2**31 - 1
_CREDENTIALS = {"api_key", "apikey", "api-key", "x-api-key", "authorization", "password", "secret", "access_token"}


class JsonObject(serializers.DictField):
    """A JSON object that every supported database can hold."""

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        value = super().to_internal_value(data)
        if why := storable_json.why_not(value):
            raise serializers.ValidationError(why)
        return value


class Words(serializers.ListField):
    child = serializers.CharField(max_length=255)


class ModelBody(serializers.Serializer):
    model_id = serializers.CharField(max_length=255, validators=[validate_identifier], trim_whitespace=False)
    display_name = serializers.CharField(max_length=255, required=False, allow_blank=True)
    model_type = serializers.CharField(max_length=50, required=False)
    context_window = serializers.IntegerField(min_value=0, max_value=_LARGEST, required=False, allow_null=True)
    max_tokens = serializers.IntegerField(min_value=0, max_value=_LARGEST, required=False, allow_null=True)
    dimension = serializers.IntegerField(min_value=1, max_value=_LARGEST, required=False, allow_null=True)
    enabled = serializers.BooleanField(required=False)
    capabilities = Words(required=False)
    tasks = Words(required=False)
    parameters = JsonObject(required=False)

    def validate_parameters(self, value: dict[str, Any]) -> dict[str, Any]:
        return without_credentials(value)


class KeyBody(serializers.Serializer):
    """`is_encrypted` is accepted and changes nothing: the value comes in the clear and is stored encrypted."""

    key_value = serializers.CharField(max_length=16_384, trim_whitespace=False)
    is_encrypted = serializers.BooleanField(required=False, default=True)
    environment = serializers.CharField(max_length=50, required=False)
    expires_at = serializers.DateTimeField(required=False, allow_null=True)
    name = serializers.CharField(max_length=255, required=False, allow_blank=True)

    def validate_key_value(self, value: str) -> str:
        return allowed_secret(value)


class ParameterBody(serializers.Serializer):
    param_name = serializers.CharField(max_length=255, validators=[validate_identifier], trim_whitespace=False)
    param_value = serializers.CharField(max_length=16_384, allow_blank=True, trim_whitespace=False)
    is_sensitive = serializers.BooleanField(required=False)
    environment = serializers.CharField(max_length=50, required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        check_parameter(attrs["param_name"], attrs["param_value"])
        return attrs


class ProviderChanges(serializers.Serializer):
    display_name = serializers.CharField(max_length=255, required=False, allow_blank=True)
    provider_type = serializers.CharField(max_length=255, required=False)
    description = serializers.CharField(required=False, allow_blank=True, allow_null=True)
    enabled = serializers.BooleanField(required=False)
    connection_params = JsonObject(required=False, allow_null=True)
    request_settings = JsonObject(required=False, allow_null=True)

    def validate_provider_type(self, value: str) -> str:
        return actions.known_type(value)

    def validate_description(self, value: str | None) -> str:
        return value or ""

    def validate_connection_params(self, value: dict[str, Any] | None) -> dict[str, Any]:
        return allowed_connection_params(value or {})

    def validate_request_settings(self, value: dict[str, Any] | None) -> dict[str, Any]:
        return without_credentials(value or {})


class ProviderBody(ProviderChanges):
    provider_id = serializers.CharField(max_length=255, validators=[validate_identifier], trim_whitespace=False)
    provider_type = serializers.CharField(max_length=255)
    models = ModelBody(many=True, required=False)
    connection_parameters = ParameterBody(many=True, required=False)
    api_key = KeyBody(required=False, allow_null=True)
    api_keys = KeyBody(many=True, required=False)

    def validate_provider_id(self, value: str) -> str:
        return addressable(value)

    def validate_models(self, value: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return _once_each(value, ("model_id",))

    def validate_connection_parameters(self, value: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return _once_each(value, ("param_name", "environment"))


class ModelOut(serializers.ModelSerializer):
    """A model inside its provider."""

    capabilities = serializers.ListField(child=serializers.CharField())
    parameters = serializers.DictField()

    class Meta:
        model = ProviderModel
        fields = [
            "model_id",
            "display_name",
            "model_type",
            "context_window",
            "max_tokens",
            "enabled",
            "capabilities",
            "parameters",
        ]


class ModelAloneOut(ModelOut):
    provider_id = serializers.CharField(source="provider.provider_id")

    class Meta(ModelOut.Meta):
        fields = ["model_id", "provider_id", *ModelOut.Meta.fields[1:], "created_at", "updated_at"]


class KeyOut(serializers.ModelSerializer):
    key_id = serializers.IntegerField(source="pk")
    provider_id = serializers.CharField(source="provider.provider_id")
    is_encrypted = serializers.SerializerMethodField()

    class Meta:
        model = ApiKey
        fields = ["key_id", "provider_id", "is_encrypted", "environment", "created_at", "expires_at"]

    def get_is_encrypted(self, key: ApiKey) -> bool:
        return True


class ParameterOut(serializers.ModelSerializer):
    """A sensitive value shows as null."""

    param_value = serializers.CharField(source="plain_value", allow_null=True)

    class Meta:
        model = ConnectionParameter
        fields = ["param_name", "param_value", "is_sensitive", "environment"]


class ParameterAloneOut(ParameterOut):
    param_id = serializers.IntegerField(source="pk")
    provider_id = serializers.CharField(source="provider.provider_id")

    class Meta(ParameterOut.Meta):
        fields = ["param_id", "provider_id", *ParameterOut.Meta.fields]


class ProviderOut(serializers.ModelSerializer):
    models = ModelOut(many=True)
    connection_parameters = ParameterOut(many=True, source="parameters")
    connection_params = serializers.DictField()
    request_settings = serializers.DictField()

    class Meta:
        model = Provider
        fields = [
            "provider_id",
            "display_name",
            "provider_type",
            "description",
            "enabled",
            "connection_params",
            "request_settings",
            "created_at",
            "updated_at",
            "models",
            "connection_parameters",
        ]


class ProviderCreated(ProviderOut):
    """`warnings` only where there is something to say."""

    warnings = serializers.ListField(child=serializers.CharField(), required=False)

    class Meta(ProviderOut.Meta):
        fields = [*ProviderOut.Meta.fields, "warnings"]


class KeyCreated(KeyOut):
    warnings = serializers.ListField(child=serializers.CharField(), required=False)

    class Meta(KeyOut.Meta):
        fields = [*KeyOut.Meta.fields, "warnings"]


class KeyValueOut(serializers.Serializer):
    key_id = serializers.IntegerField()
    provider_id = serializers.CharField()
    key_value = serializers.CharField()


class DeletedOut(serializers.Serializer):
    provider_id = serializers.CharField()
    message = serializers.CharField()


class ModelDeletedOut(DeletedOut):
    model_id = serializers.CharField()


class RetoldOut(serializers.Serializer):
    model_id = serializers.CharField()
    fields = serializers.DictField(  # type: ignore[assignment]
        child=serializers.ListField(), help_text="By name: what stands there, and what the upstream says."
    )


class SyncOut(DeletedOut):
    new = serializers.ListField(child=serializers.CharField(), required=False)
    gone = serializers.ListField(child=serializers.CharField(), required=False)
    unchanged = serializers.ListField(child=serializers.CharField(), required=False)
    retold = RetoldOut(many=True, required=False)
    refreshed = serializers.ListField(child=serializers.CharField(), required=False)


class TestOut(serializers.Serializer):
    success = serializers.BooleanField()
    message = serializers.CharField()
    provider_id = serializers.CharField()
    model_tested = serializers.CharField(allow_null=True)
    response = serializers.CharField(required=False)
    duration_ms = serializers.FloatField()
    error = serializers.CharField(required=False)


def addressable(provider_id: str) -> str:
    """A provider's id is one step of a path: no client could reach one that holds a slash."""
    if "/" in provider_id:
        raise serializers.ValidationError("A provider's id must not hold a slash.")
    return provider_id


def allowed_secret(value: str) -> str:
    if why := allowed_references.why_not(value):
        raise serializers.ValidationError(why)
    return value


def check_parameter(name: str, value: str) -> None:
    if why := allowed_references.why_not_parameter(name, value):
        raise serializers.ValidationError({"param_value": why})


def allowed_connection_params(params: dict[str, Any]) -> dict[str, Any]:
    wrong = {name: why for name in params if (why := allowed_references.why_not_parameter(name, params[name]))}
    if wrong:
        raise serializers.ValidationError(wrong)
    return params


def warnings_of(told: Iterable[str | None]) -> dict[str, list[str]]:
    """What an answer says beside a write that was done; nothing of what is empty."""
    found = [one for one in told if one]
    return {"warnings": found} if found else {}


def without_credentials(value: dict[str, Any]) -> dict[str, Any]:
    """These objects are stored and shown in the clear."""
    for name, member in value.items():
        if name.lower() in _CREDENTIALS and member:
            raise serializers.ValidationError(
                f"{name!r} is not kept secret here; store it as an API key or in connection_params."
            )
        if isinstance(member, dict):
            without_credentials(member)
    return value


def _once_each(rows: list[dict[str, Any]], names: tuple[str, ...]) -> list[dict[str, Any]]:
    seen: set[tuple[Any, ...]] = set()
    errors: list[dict[str, Any]] = []
    for row in rows:
        key = tuple(row.get(name, "development") for name in names)
        errors.append({names[0]: ["This stands twice in the list."]} if key in seen else {})
        seen.add(key)
    if any(errors):
        raise serializers.ValidationError(errors)
    return rows
