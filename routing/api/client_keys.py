"""Client keys as a resource. Making, changing and reading them is for admins, and no key makes or widens one beyond its own reach."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import django_filters as filters
from django.db import transaction
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.exceptions import PermissionDenied
from rest_framework.request import Request
from rest_framework.response import Response

from providers.resources import Resource, ResourceSerializer
from routing import issuing, key_bounds
from routing.api.permissions import ADMINS_ONLY
from routing.client_keys import SCOPES
from routing.models import ClientKey, Team

_LIMITS = (
    "team",
    "allowed_models",
    "allowed_policies",
    "allowed_providers",
    "ip_ranges",
    "tags",
    "role",
    "captures_content",
    "enabled",
    "expires_at",
)


def _patterns(help_text: str) -> serializers.ListField:
    return serializers.ListField(
        child=serializers.CharField(max_length=600), allow_null=True, required=False, help_text=help_text
    )


class ClientKeyResource(ResourceSerializer):
    scopes = serializers.ListField(child=serializers.ChoiceField(SCOPES), allow_empty=False)
    team = serializers.SlugRelatedField(
        slug_field="name", queryset=Team.objects.all(), allow_null=True, required=False, help_text="A team's name."
    )
    allowed_models = _patterns("Patterns of model names, such as gpt-* or openai/*; null allows all.")
    allowed_policies = _patterns(
        "Patterns of policy names; null allows all that the models allow. With it, models are for the policies to choose, "
        "beside those that allowed_models names."
    )
    allowed_providers = _patterns("Patterns of provider ids, whoever chooses; null allows all.")
    ip_ranges = serializers.ListField(
        child=serializers.CharField(max_length=64),
        allow_null=True,
        allow_empty=False,
        required=False,
        help_text="Addresses that it may come from, such as 10.0.0.0/8; null: from anywhere.",
    )
    tags = serializers.ListField(child=serializers.CharField(max_length=64), required=False)
    state = serializers.CharField(read_only=True, help_text="active, suspended, revoked, expired or team off.")
    key = serializers.SerializerMethodField(
        help_text="The key itself: in the answer that created or rotated it, and never again."
    )

    class Meta:
        model = ClientKey
        fields = [
            "id",
            "name",
            "prefix",
            "scopes",
            *_LIMITS,
            "state",
            "revoked_at",
            "revoked_reason",
            "rotated_at",
            "previous_until",
            "imported_from",
            "last_used_at",
            "last_used_from",
            "created_at",
            "updated_at",
            "created_by",
            "key",
        ]
        read_only_fields = [
            "prefix",
            "revoked_at",
            "revoked_reason",
            "rotated_at",
            "previous_until",
            "imported_from",
            "last_used_at",
            "last_used_from",
            "created_at",
            "updated_at",
            "created_by",
        ]

    def get_key(self, row: ClientKey) -> str | None:
        return self.context.get("issued", {}).get(row.pk)

    def create(self, validated_data: dict[str, Any]) -> ClientKey:
        issuer: ClientKey = self.context["issuer"]
        limits = {name: validated_data[name] for name in _LIMITS if name in validated_data}
        limits.setdefault("team", issuer.team)
        row, secret = issuing.issue(validated_data["name"], validated_data["scopes"], **limits)
        _refuse_excess(issuer, row)
        self.context["show"](row, secret)
        return row

    def update(self, instance: ClientKey, validated_data: dict[str, Any]) -> ClientKey:
        issuer: ClientKey = self.context["issuer"]
        if instance.pk == issuer.pk:
            raise PermissionDenied(key_bounds.ITSELF)
        _refuse_excess(issuer, instance)
        for name, value in validated_data.items():
            setattr(instance, name, value)
        instance.full_clean()
        _refuse_excess(issuer, instance)
        instance.save()
        return instance


def _refuse_excess(issuer: ClientKey, row: ClientKey) -> None:
    if excess := key_bounds.excess(issuer, row):
        raise serializers.ValidationError({name: [sentence] for name, sentence in excess.items()})


class ClientKeyFilter(filters.FilterSet):
    team = filters.CharFilter(field_name="team__name")
    revoked = filters.BooleanFilter(field_name="revoked_at", lookup_expr="isnull", exclude=True)

    class Meta:
        model = ClientKey
        fields = ["name", "prefix", "enabled", "team", "imported_from", "role"]


class RotateBody(serializers.Serializer):
    overlap_seconds = serializers.IntegerField(
        min_value=0,
        max_value=int(issuing.LONGEST_OVERLAP.total_seconds()),
        default=0,
        help_text="How long the key before is good as well; 0: not from now on.",
    )


class RevokeBody(serializers.Serializer):
    reason = serializers.CharField(max_length=500, help_text="Why, for whoever asks later.")


class ClientKeys(Resource):
    queryset = ClientKey.objects.select_related("team")
    serializer_class = ClientKeyResource
    required_scopes = ADMINS_ONLY
    filterset_class = ClientKeyFilter

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.issued: dict[int, str] = {}
        """What this request issued, by the row: the serializer that renders the answer shows it."""

    def get_queryset(self) -> QuerySet:
        """A key that belongs to a team finds that team's keys."""
        rows = super().get_queryset()
        team = getattr(self.request.auth, "team_id", None)
        return rows if team is None else rows.filter(team_id=team)

    def get_serializer_context(self) -> dict[str, Any]:
        context = super().get_serializer_context() | {"issued": self.issued, "show": self._show}
        if self.request is not None and self.request.method != "GET" and self.request.auth is not None:
            context["issuer"] = self._issuer()
        return context

    def _issuer(self) -> ClientKey:
        return ClientKey.objects.select_related("team").get(pk=self.request.auth.key_id)

    def _show(self, row: ClientKey, secret: Any) -> None:
        if not self.is_dry_run():
            self.issued[row.pk] = secret.reveal()

    def destroy(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """What was used with the key stays, and names it by its prefix. Revoking keeps the row as well."""
        return super().destroy(request, *args, **kwargs)

    @extend_schema(request=RotateBody, responses=ClientKeyResource)
    @action(detail=True, methods=["post"])
    def rotate(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Give the key another secret, which the answer shows; the one before is good until the overlap ends."""
        body = RotateBody(data=request.data)
        body.is_valid(raise_exception=True)
        overlap = timedelta(seconds=body.validated_data["overlap_seconds"])

        def change(row: ClientKey) -> None:
            # Whoever rotates a key holds it: so it may reach no further than the key that asks.
            _refuse_excess(self._issuer(), row)
            self._show(row, issuing.rotate(row, overlap))

        return self._changed(change)

    @extend_schema(request=None, responses=ClientKeyResource)
    @action(detail=True, methods=["post"])
    def suspend(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Let it in no more, until it is resumed. Every process knows within two seconds."""
        return self._changed(ClientKey.suspend)

    @extend_schema(request=None, responses=ClientKeyResource)
    @action(detail=True, methods=["post"])
    def resume(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Let a suspended key in again."""

        def change(row: ClientKey) -> None:
            _refuse_excess(self._issuer(), row)
            row.resume()

        return self._changed(change)

    @extend_schema(request=RevokeBody, responses=ClientKeyResource)
    @action(detail=True, methods=["post"])
    def revoke(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Let it in no more, for good."""
        body = RevokeBody(data=request.data)
        body.is_valid(raise_exception=True)
        return self._changed(lambda row: row.revoke(body.validated_data["reason"]))

    def _changed(self, change: Callable[[ClientKey], None]) -> Response:
        with transaction.atomic():
            row = self._unchanged(self._locked())
            change(row)
            return self._ended(self.shown(row))
