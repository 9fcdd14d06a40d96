"""Circuit breakers as everybody may see them who reads the registry, and the ways back for who may change it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from django.http import Http404
from drf_spectacular.utils import extend_schema
from rest_framework import exceptions, serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from providers import actor
from providers.actor import Actor
from providers.models import ProviderModel
from routing import health, health_actions, route_health
from routing.route_health import RestingKey, RouteHealth


class RedisAway(exceptions.APIException):
    status_code = 503
    default_detail = "Redis does not answer, so the other processes could not be told; try again."
    default_code = "not_shared"


class BreakerResource(serializers.Serializer):
    provider_id = serializers.CharField()
    model_id = serializers.CharField()
    state = serializers.CharField(help_text="closed, half_open, open, keys_exhausted or auto_disabled.")
    circuit_breaker = serializers.CharField(help_text="closed, half_open or open.")
    failure_count = serializers.IntegerField(help_text="In a row.")
    last_failure = serializers.DateTimeField(allow_null=True)
    last_failure_code = serializers.CharField(allow_blank=True)
    opened_at = serializers.DateTimeField(allow_null=True)
    retry_at = serializers.DateTimeField(allow_null=True, help_text="When an open breaker lets a call through again.")
    keys_back_at = serializers.DateTimeField(allow_null=True, help_text="Until then every key of the provider rests.")
    calls = serializers.IntegerField(help_text="Of seven days.")
    success_rate = serializers.FloatField(allow_null=True)
    latency_ms = serializers.FloatField(allow_null=True)
    recent_failures = serializers.IntegerField(help_text="0 to 10.")
    auto_disabled_at = serializers.DateTimeField(allow_null=True)
    auto_disabled_reason = serializers.CharField(allow_blank=True)


class RestingKeyResource(serializers.Serializer):
    provider_id = serializers.CharField()
    key_id = serializers.IntegerField()
    name = serializers.CharField()
    until = serializers.DateTimeField()
    code = serializers.CharField(help_text="insufficient_quota, rate_limit_exceeded or upstream_auth_failed.")
    times = serializers.IntegerField(help_text="Rests in a row.")


class BreakersResource(serializers.Serializer):
    breakers = BreakerResource(many=True)
    exhausted_keys = RestingKeyResource(many=True)


class Meant(serializers.Serializer):
    provider_id = serializers.CharField(max_length=255)
    model_id = serializers.CharField(max_length=255, required=False, help_text="Left out: every model of the provider.")
    reason = serializers.CharField(max_length=500, required=False, allow_blank=True, help_text="Kept in the audit log.")

    def reasoned(self) -> AbstractContextManager[Actor]:
        """Whoever asks, with the reason of the body, else of the header."""
        return actor.giving_reason(self.validated_data.get("reason") or actor.current().reason)


class MeantModel(Meant):
    model_id = serializers.CharField(max_length=255)


@contextmanager
def _told_everybody(meant: Meant) -> Iterator[dict[str, Any]]:
    """What the body means, for an act on breakers under its reason: 404 for a model that is not there, 503 where Redis is away."""
    meant.is_valid(raise_exception=True)
    try:
        with meant.reasoned():
            yield meant.validated_data
    except ProviderModel.DoesNotExist as error:
        raise Http404(str(error)) from None
    except health.NotShared as error:
        raise RedisAway from error


class WasReset(serializers.Serializer):
    reset = serializers.ListField(child=serializers.CharField(), help_text="Routes whose breaker was not well.")
    keys = serializers.ListField(child=serializers.IntegerField(), help_text="Keys that are tried again.")


class WasOpened(serializers.Serializer):
    opened = serializers.CharField()
    seconds = serializers.FloatField(help_text="Until it lets a few calls through again.")


class WasEnabled(serializers.Serializer):
    enabled = serializers.ListField(child=serializers.CharField())


class BreakersView(APIView):
    """Models of which something is known, the worst first; what is missing is closed and was not called for seven days."""

    required_scopes = {"GET": "registry:read"}

    @extend_schema(responses=BreakersResource)
    def get(self, request: Request) -> Response:
        seen = health.look()
        rows = route_health.routes(seen, provider_id=request.query_params.get("provider_id", ""))
        return Response(
            {
                "breakers": [breaker_document(row) for row in rows],
                "exhausted_keys": [_key_document(key) for key in route_health.resting_keys(seen)],
            }
        )


class ResetView(APIView):
    """Close breakers now, in all processes: of one model, or of a provider with the keys that rest."""

    required_scopes = {"POST": "registry:write"}

    @extend_schema(request=Meant, responses=WasReset)
    def post(self, request: Request) -> Response:
        with _told_everybody(Meant(data=request.data)) as told:
            done = health_actions.reset(told["provider_id"], told.get("model_id"))
        return Response({"reset": list(done.routes), "keys": list(done.keys)})


class OpenView(APIView):
    """Open a model's breaker now, in all processes: it is not asked until its pause is over, and then by a few calls only."""

    required_scopes = {"POST": "registry:write"}

    @extend_schema(request=MeantModel, responses=WasOpened)
    def post(self, request: Request) -> Response:
        with _told_everybody(MeantModel(data=request.data)) as told:
            seconds = health_actions.open_breaker(told["provider_id"], told["model_id"])
        return Response({"opened": f"{told['provider_id']}/{told['model_id']}", "seconds": seconds})


class EnableAgainView(APIView):
    """Put a model back that the gateway took out of service, without waiting for a probe."""

    required_scopes = {"POST": "registry:write"}

    @extend_schema(request=MeantModel, responses=WasEnabled)
    def post(self, request: Request) -> Response:
        meant = MeantModel(data=request.data)
        meant.is_valid(raise_exception=True)
        rows = ProviderModel.objects.select_related("provider").filter(
            provider__provider_id=meant.validated_data["provider_id"], model_id=meant.validated_data["model_id"]
        )
        if not rows:
            raise Http404("there is no such model")
        with meant.reasoned():
            return Response({"enabled": health_actions.enable_again(rows)})


def breaker_document(row: RouteHealth) -> dict[str, Any]:
    known = row.condition
    return {
        "provider_id": row.provider_id,
        "model_id": row.model_id,
        "state": row.state,
        "circuit_breaker": known.breaker,
        "failure_count": known.failures,
        "last_failure": row.last_failure_at,
        "last_failure_code": row.code,
        "opened_at": row.opened_at,
        "retry_at": row.retry_at,
        "keys_back_at": row.keys_back_at,
        "calls": known.calls,
        "success_rate": known.success_rate,
        "latency_ms": None if known.latency_seconds is None else round(known.latency_seconds * 1000, 3),
        "recent_failures": known.recent_failures,
        "auto_disabled_at": row.auto_disabled_at,
        "auto_disabled_reason": row.auto_disabled_reason,
    }


def _key_document(key: RestingKey) -> dict[str, Any]:
    return {
        "provider_id": key.provider_id,
        "key_id": key.pk,
        "name": key.name,
        "until": key.until,
        "code": key.code,
        "times": key.times,
    }
