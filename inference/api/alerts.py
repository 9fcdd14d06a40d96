"""`/api/v1/alert-rules`, `alert-channels` and `alert-incidents`: what is watched, who is told, and what happened."""

from __future__ import annotations

from typing import Any

import django_filters as filters
from django.db.models import QuerySet
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from inference import alert_delivery
from inference.alert_models import EMAIL, KINDS, WEBHOOK, AlertChannel, AlertDelivery, AlertIncident, AlertRule
from inference.alert_signals import ACTIONS, SIGNALS
from providers import actor
from providers.resources import NewestFirst, ReadOnlyResource, Resource, ResourceSerializer

_WRITES = ("POST", "PUT", "PATCH", "DELETE")
_READ, _MANAGE = {"GET": "registry:read"}, dict.fromkeys(_WRITES, "registry:write")
_ADMIN = dict.fromkeys(_WRITES, "admin")


class _Stored(ResourceSerializer):
    """Checked by the row itself before it is written."""

    def create(self, validated_data: dict[str, Any]) -> Any:
        return self.update(self.Meta.model(), validated_data)  # type: ignore[attr-defined]

    def update(self, instance: Any, validated_data: dict[str, Any]) -> Any:
        for name, value in validated_data.items():
            setattr(instance, name, value)
        instance.full_clean()
        instance.save()
        return instance


class AlertRuleResource(_Stored):
    signal = serializers.ChoiceField(tuple(SIGNALS))
    action = serializers.ChoiceField(tuple(ACTIONS), allow_blank=True, required=False)
    condition = serializers.CharField(read_only=True, help_text="Signal and threshold, as people write them.")
    channels = serializers.ListField(
        child=serializers.CharField(max_length=100), required=False, help_text="Names; none tells all channels."
    )

    class Meta:
        model = AlertRule
        fields = [
            *("id", "name", "description", "enabled", "signal", "told_for", "threshold", "condition"),
            *("window_minutes", "least_requests", "recover_minutes", "remind_minutes", "channels", "action"),
            *("managed_by", "created_at", "updated_at", "created_by"),
        ]
        read_only_fields = ["managed_by", "created_at", "updated_at", "created_by"]


class AlertRules(Resource):
    queryset = AlertRule.objects.all()
    serializer_class = AlertRuleResource
    required_scopes = _READ | _MANAGE
    filterset_fields = ["name", "signal", "enabled"]


class AlertChannelResource(_Stored):
    kind = serializers.ChoiceField(tuple(KINDS))
    recipients = serializers.ListField(child=serializers.EmailField(), required=False)
    address = serializers.CharField(
        write_only=True, required=False, max_length=4000, help_text="URL of a webhook or of Apprise; never shown again."
    )
    signing_secret = serializers.CharField(
        write_only=True,
        required=False,
        allow_blank=True,
        max_length=500,
        help_text="What a webhook's signature is made with; never shown again, and taken away by an empty text.",
    )
    host = serializers.SerializerMethodField(help_text="Of a webhook's URL: all of it that is shown.")
    is_signed = serializers.SerializerMethodField()

    class Meta:
        model = AlertChannel
        fields = [
            *("id", "name", "kind", "enabled", "recipients", "address", "host", "signing_secret", "is_signed"),
            *("allow_private", "quiet_from", "quiet_until", "time_zone", "created_at", "updated_at", "created_by"),
        ]
        read_only_fields = ["created_at", "updated_at", "created_by"]

    def get_host(self, channel: AlertChannel) -> str:
        return channel.host

    def get_is_signed(self, channel: AlertChannel) -> bool:
        return channel.kind == WEBHOOK and channel.signing_secret is not None

    def update(self, instance: AlertChannel, validated_data: dict[str, Any]) -> AlertChannel:
        if validated_data.get("signing_secret") == "":
            validated_data["signing_secret"] = None
        if validated_data.get("kind", instance.kind) == EMAIL:
            validated_data |= {"address": None, "signing_secret": None}
        return super().update(instance, validated_data)


class TestFinding(serializers.Serializer):
    state = serializers.CharField(help_text="sent or gave up.")
    error = serializers.CharField(help_text="Why it was not taken; empty when it was.")


class AlertChannels(Resource):
    queryset = AlertChannel.objects.all()
    serializer_class = AlertChannelResource
    required_scopes = _READ | _ADMIN
    filterset_fields = ["name", "kind", "enabled"]

    @extend_schema(request=None, responses=TestFinding)
    @action(detail=True, methods=["post"], url_path="test/?")
    def test(self, request: Request, pk: str) -> Response:
        """Send a test message now, and tell what came of it."""
        delivery = alert_delivery.send_test(self.get_object(), actor.current().name)
        return Response({"state": delivery.state, "error": delivery.error})


class DeliveryOfIncident(serializers.ModelSerializer):
    channel = serializers.CharField(source="channel.name")

    class Meta:
        model = AlertDelivery
        fields = ["id", "channel", "kind", "number", "state", "created_at", "due_at", "attempts", "error", "sent_at"]
        read_only_fields = fields


class AlertIncidentResource(ResourceSerializer):
    deliveries = DeliveryOfIncident(many=True, read_only=True)

    class Meta:
        model = AlertIncident
        fields = [
            *("id", "rule", "rule_name", "condition", "subject", "subject_name", "value", "worst", "unit", "detail"),
            *("began_at", "told_at", "reminders", "well_since", "ended_at", "acted"),
            *("acknowledged_at", "acknowledged_by", "deliveries"),
        ]
        read_only_fields = fields


class AlertIncidentFilter(filters.FilterSet):
    open = filters.BooleanFilter("ended_at", lookup_expr="isnull", label="Under way.")
    since = filters.IsoDateTimeFilter("began_at", "gte")

    class Meta:
        model = AlertIncident
        fields = ["rule", "rule_name", "subject"]


class AlertIncidents(ReadOnlyResource):
    serializer_class = AlertIncidentResource
    pagination_class = NewestFirst
    filterset_class = AlertIncidentFilter
    required_scopes = _READ | {"POST": "registry:write"}

    def get_queryset(self) -> QuerySet[AlertIncident]:
        return AlertIncident.objects.prefetch_related("deliveries__channel")

    @extend_schema(request=None, responses=AlertIncidentResource)
    @action(detail=True, methods=["post"], url_path="acknowledge/?")
    def acknowledge(self, request: Request, pk: str) -> Response:
        """Somebody looks after it: nobody is reminded any more."""
        incident = self.get_object()
        incident.acknowledge(actor.current().name, timezone.now())
        return self.shown(incident)
