"""Policies as a resource: what each says, every version of it, what lies between two, and what stands over it."""

from __future__ import annotations

from typing import Any

import django_filters as filters
from django.db import transaction
from django.db.models import QuerySet
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.exceptions import APIException, NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from providers import ownership
from providers.models import validate_identifier
from providers.resources import NewestFirst, Resource, ResourceSerializer
from routing import policy_actions, policy_documents, snapshot, strategies
from routing.cached_answers import CacheAway
from routing.models import Override, Policy, PolicyVersion
from routing.policy_documents import KINDS, BadPolicy

SCOPES = {
    "GET": "registry:read",
    "POST": "registry:write",
    "PUT": "registry:write",
    "PATCH": "registry:write",
    "DELETE": "registry:write",
}
NUMBER = r"(?P<number>[0-9]{1,9})"


class CacheUnavailable(APIException):
    status_code = 503
    default_code = "cache_unavailable"
    default_detail = "Redis, which holds the cached answers, does not answer; nothing was forgotten."


class Document(serializers.JSONField):
    """A policy's document; what is wrong in it is told by its place: `document.targets[1].weight`."""

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        try:
            return policy_documents.as_document(policy_documents.read(data, strategies.names()))
        except BadPolicy as error:
            problems: dict[str, list[str]] = {}
            for place, sentence in error.problems:
                problems.setdefault(place or "non_field_errors", []).append(sentence)
            raise serializers.ValidationError(problems) from None


class OverrideShown(serializers.Serializer):
    target = serializers.CharField()
    expires_at = serializers.DateTimeField(allow_null=True)
    reason = serializers.CharField()
    created_by = serializers.CharField()


class PolicyResource(ResourceSerializer):
    kind = serializers.ChoiceField(
        KINDS, required=False, help_text="A word for lists; policies of all kinds work alike."
    )
    document = Document(required=False, help_text="Replaced as a whole; another document becomes the next version.")
    note = serializers.CharField(
        write_only=True, required=False, allow_blank=True, max_length=500, help_text="Why; kept with the version."
    )
    override = serializers.SerializerMethodField(help_text="What serves first for now, whatever the document says.")

    class Meta:
        model = Policy
        fields = [
            "id",
            "name",
            "kind",
            "description",
            "enabled",
            "document",
            "version",
            "note",
            "override",
            "candidate",
            "candidate_version",
            "candidate_percentage",
            "candidate_since",
            "managed_by",
            "created_at",
            "updated_at",
            "created_by",
        ]
        read_only_fields = [
            "version",
            "candidate",
            "candidate_version",
            "candidate_percentage",
            "candidate_since",
            "managed_by",
            "created_at",
            "updated_at",
            "created_by",
        ]
        # Uniqueness is answered by the database, as 409.
        extra_kwargs = {"name": {"validators": [validate_identifier], "trim_whitespace": False}}

    @extend_schema_field(OverrideShown(allow_null=True))
    def get_override(self, row: Policy) -> dict[str, Any] | None:
        override = getattr(row, "override", None)
        return OverrideShown(override).data if override is not None else None

    def validate_name(self, value: str) -> str:
        if self.instance is not None and value != self.instance.name:
            raise serializers.ValidationError("A name cannot be changed: clients send it. Create another policy.")
        return value

    def create(self, validated_data: dict[str, Any]) -> Policy:
        return policy_actions.create(validated_data, note=validated_data.pop("note", ""))

    def update(self, instance: Policy, validated_data: dict[str, Any]) -> Policy:
        return policy_actions.update(instance, validated_data, note=validated_data.pop("note", ""))


class VersionResource(ResourceSerializer):
    active = serializers.SerializerMethodField(help_text="Whether it is the one that counts.")

    class Meta:
        model = PolicyVersion
        fields = ["number", "document", "note", "created_at", "created_by", "active"]

    def get_active(self, row: PolicyVersion) -> bool:
        return row.number == row.policy.version


class Difference(serializers.Serializer):
    place = serializers.CharField(help_text="Such as targets[1].weight.")
    before = serializers.JSONField(allow_null=True)
    after = serializers.JSONField(allow_null=True)


class Differences(serializers.Serializer):
    from_version = serializers.IntegerField()
    to_version = serializers.IntegerField()
    differences = Difference(many=True)


class RestoreBody(serializers.Serializer):
    version = serializers.IntegerField(min_value=1, max_value=2**31 - 1)
    note = serializers.CharField(required=False, allow_blank=True, max_length=500, default="")


class PolicyFilter(filters.FilterSet):
    class Meta:
        model = Policy
        fields = ["kind", "name", "enabled"]


class Policies(Resource):
    """The names that clients may send as `model`. One that a configuration file owns is changed there."""

    queryset = Policy.objects.select_related("override")
    serializer_class = PolicyResource
    required_scopes = SCOPES
    filterset_class = PolicyFilter

    def etag(self, row: Any) -> str:
        """What stands over a policy belongs to what is shown of it."""
        override = getattr(row, "override", None)
        return super().etag(row)[:-1] + (f'-{override.updated_at.timestamp() * 1_000_000:.0f}"' if override else '"')

    @extend_schema(responses=VersionResource(many=True))
    @action(detail=True, filterset_class=None, pagination_class=NewestFirst)
    def versions(self, request: Request, **kwargs: Any) -> Response:
        """What the policy ever said, newest first."""
        page = self.paginate_queryset(self._versions())
        return self.get_paginated_response(VersionResource(page, many=True, context=self.get_serializer_context()).data)

    @extend_schema(
        parameters=[OpenApiParameter("number", int, OpenApiParameter.PATH)],
        responses=VersionResource,
        operation_id="policy_version",
    )
    @action(detail=True, url_path=f"versions/{NUMBER}")
    def version(self, request: Request, number: str = "", **kwargs: Any) -> Response:
        """What the policy said under one number."""
        return Response(VersionResource(self._version(int(number)), context=self.get_serializer_context()).data)

    @extend_schema(
        parameters=[
            OpenApiParameter("from", int, description="A version; without, the one before `to`."),
            OpenApiParameter("to", int, description="A version; without, the one that counts."),
        ],
        responses=Differences,
    )
    @action(detail=True)
    def diff(self, request: Request, **kwargs: Any) -> Response:
        """What lies between two versions, member by member."""
        row = self.get_object()
        after = self._version(self._number("to", row.version))
        before = self._version(self._number("from", max(1, after.number - 1)))
        return Response(
            {
                "from_version": before.number,
                "to_version": after.number,
                "differences": [
                    {"place": place, "before": old, "after": new}
                    for place, old, new in policy_documents.differences(before.document, after.document)
                ],
            }
        )

    @extend_schema(request=RestoreBody, responses=PolicyResource)
    @action(detail=True, methods=["post"])
    def restore(self, request: Request, **kwargs: Any) -> Response:
        """Let what an earlier version said count again; it becomes the next version."""
        body = RestoreBody(data=request.data)
        body.is_valid(raise_exception=True)
        with transaction.atomic():
            row = self._unchanged(self._locked())
            ownership.refuse_if_owned(row)
            row = policy_actions.restore(row, body.validated_data["version"], body.validated_data["note"])
            return self._ended(self.shown(row))

    @extend_schema(request=None, responses={204: None})
    @action(detail=True, methods=["post"], url_path="forget-cached")
    def forget_cached(self, request: Request, **kwargs: Any) -> Response:
        """Give no answer again that is cached under it. At once, in every process; 503 while Redis is away."""
        row = self.get_object()
        try:
            if not self.is_dry_run():
                policy_actions.forget_cached(row)
        except CacheAway as error:
            raise CacheUnavailable from error
        return Response(status=204)

    def _versions(self) -> QuerySet[PolicyVersion]:
        return PolicyVersion.objects.filter(policy=self.get_object()).select_related("policy")

    def _version(self, number: int) -> PolicyVersion:
        row = self._versions().filter(number=number).first()
        if row is None:
            raise NotFound(f"The policy has no version {number}.")
        return row

    def _number(self, name: str, usual: int) -> int:
        told = self.request.query_params.get(name)
        if told is None:
            return usual
        if not told.isdecimal() or len(told) > 9:
            raise serializers.ValidationError({name: ["The number of a version is needed."]})
        return int(told)


class OverrideResource(ResourceSerializer):
    policy = serializers.SlugRelatedField(slug_field="name", queryset=Policy.objects)
    ttl_seconds = serializers.FloatField(
        write_only=True, required=False, allow_null=True, help_text="How long it holds; in place of `expires_at`."
    )

    class Meta:
        model = Override
        fields = [
            "id",
            "policy",
            "target",
            "ttl_seconds",
            "expires_at",
            "reason",
            "created_at",
            "updated_at",
            "created_by",
        ]
        read_only_fields = ["created_at", "updated_at", "created_by"]

    def validate_policy(self, value: Policy) -> Policy:
        if self.instance is not None and value.pk != self.instance.policy_id:
            raise serializers.ValidationError("An override cannot be moved to another policy.")
        return value

    def validate_target(self, value: str) -> str:
        if not is_known(value):
            raise serializers.ValidationError(f"No enabled model or policy is named {value!r}.")
        return value

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if attrs.get("ttl_seconds") is not None and attrs.get("expires_at") is not None:
            raise serializers.ValidationError({"ttl_seconds": "Say either how long it holds or until when."})
        return attrs

    def create(self, validated_data: dict[str, Any]) -> Override:
        return self._set(validated_data["policy"].name, validated_data)

    def update(self, instance: Override, validated_data: dict[str, Any]) -> Override:
        kept = {name: getattr(instance, name) for name in ("target", "expires_at", "reason")}
        if "ttl_seconds" in validated_data:
            del kept["expires_at"]
        return self._set(instance.policy.name, kept | validated_data)

    def _set(self, name: str, values: dict[str, Any]) -> Override:
        return policy_actions.set_override(
            name,
            values["target"],
            ttl_seconds=values.get("ttl_seconds"),
            expires_at=values.get("expires_at"),
            reason=values.get("reason", ""),
        )


def is_known(name: str) -> bool:
    """Whether a model that can be asked, or a policy, has the name now."""
    registry = snapshot.refresh()
    return name in registry.by_name or name in registry.policies


class OverrideFilter(filters.FilterSet):
    policy = filters.CharFilter(field_name="policy__name")

    class Meta:
        model = Override
        fields = ["policy", "target"]


class Overrides(Resource):
    """What stands over policies for a while. It holds for policies of configuration files too: it is no change to them.

    Creating one for a policy that has one already replaces it.
    """

    queryset = Override.objects.select_related("policy")
    serializer_class = OverrideResource
    required_scopes = SCOPES
    filterset_class = OverrideFilter
