"""Is the gateway alive, ready and well? And what it offers, in the shapes that the source systems' clients read.

`/livez` says that the process answers, `/readyz` that it can serve and what is missing. `/api/v1/health` is for people and
dashboards; names of providers are shown to bearers of a key only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import redis
from django.conf import settings
from django.db import DatabaseError
from django.db.models import Count, OuterRef, Q, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse, JsonResponse
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from gateway_project.celery import QUEUES
from inference import metrics
from providers import revision
from providers.capabilities import TASKS
from providers.models import ProbeResult, Provider
from routing import filters, snapshot
from routing.types import ModelView, Snapshot

_PATIENCE_SECONDS = 1.0


def livez(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"status": "ok"})


def readyz(request: HttpRequest) -> HttpResponse:
    """503 only when there is no snapshot to serve from: without database or Redis requests are still answered.

    What is away is named, without addresses.
    """
    try:
        held = snapshot.current()
    except Exception as error:  # whatever keeps a first snapshot from being built keeps us from serving
        return JsonResponse(
            {"status": "not ready", "snapshot": {"ok": False, "error": type(error).__name__}}, status=503
        )
    parts = {"snapshot": _snapshot(held), "database": _finding(_database), "redis": _finding(_redis)}
    well = all(part["ok"] for part in parts.values())
    return JsonResponse({"status": "ready" if well else "degraded"} | parts)


def old_health(request: HttpRequest) -> HttpResponse:
    """Where clients of older systems look; the answer there has their keys `status` and `version` at its top."""
    return HttpResponse(status=307, headers={"Location": "/api/v1/health"})


class Breaker(serializers.Serializer):
    state = serializers.CharField()
    failure_count = serializers.IntegerField()
    last_failure = serializers.DateTimeField(allow_null=True)


class ProviderHealth(serializers.Serializer):
    status = serializers.CharField(help_text="healthy, unhealthy, disabled, or unknown when it was never probed.")
    models_count = serializers.IntegerField()
    circuit_breaker = Breaker()
    latency_ms = serializers.FloatField(allow_null=True, help_text="What the last probe measured.")


class Health(serializers.Serializer):
    status = serializers.CharField(help_text="healthy, or degraded when an enabled provider is not well.")
    version = serializers.CharField()
    providers = serializers.DictField(child=ProviderHealth(), required=False, help_text="With a valid key only.")


class HealthView(APIView):
    permission_classes = [AllowAny]

    @extend_schema(responses=Health)
    def get(self, request: Request) -> Response:
        providers = provider_health()
        shown: dict[str, Any] = {"status": _overall(providers), "version": settings.SPECTACULAR_SETTINGS["VERSION"]}
        if request.auth is not None:
            shown["providers"] = providers
        return Response(shown)


class AllProvidersHealth(serializers.Serializer):
    providers = serializers.DictField(child=ProviderHealth())
    total_providers = serializers.IntegerField()
    healthy_providers = serializers.IntegerField()
    total_models = serializers.IntegerField()


class ProvidersHealthView(APIView):
    required_scopes = {"GET": "any"}

    @extend_schema(responses=AllProvidersHealth)
    def get(self, request: Request) -> Response:
        providers = provider_health()
        return Response(
            {
                "providers": providers,
                "total_providers": len(providers),
                "healthy_providers": sum(provider["status"] == "healthy" for provider in providers.values()),
                "total_models": sum(provider["models_count"] for provider in providers.values()),
            }
        )


class OfferedModel(serializers.Serializer):
    model_id = serializers.CharField()
    provider_id = serializers.CharField()
    task = serializers.CharField()
    context_window = serializers.IntegerField(allow_null=True)
    dimension = serializers.IntegerField(allow_null=True)
    supports_vision = serializers.BooleanField()
    supports_audio = serializers.BooleanField()


class ModelsView(APIView):
    """What can be asked for now; `provider-models` is the resource that holds every row."""

    required_scopes = {"GET": "any"}

    @extend_schema(responses=OfferedModel(many=True))
    def get(self, request: Request) -> Response:
        models = snapshot.refresh().models
        return Response([_offered(model) for model in models if filters.permits(request.auth, model)])


class TasksView(APIView):
    required_scopes = {"GET": "any"}

    @extend_schema(responses=serializers.ListSerializer(child=serializers.CharField()))
    def get(self, request: Request) -> Response:
        return Response(list(TASKS))


@extend_schema(exclude=True)
class MetricsView(APIView):
    """This process's counters for Prometheus: open, unless GATEWAY_METRICS_OPEN says that a key is needed."""

    required_scopes = {"GET": "any"}

    def get_permissions(self) -> list[Any]:
        return [AllowAny()] if settings.GATEWAY_METRICS_OPEN else super().get_permissions()

    def get(self, request: Request) -> HttpResponse:
        return HttpResponse(metrics.render(), content_type="text/plain; version=0.0.4; charset=utf-8")


def provider_health() -> dict[str, dict[str, Any]]:
    """What the last probes found, by provider id.

    Nothing is refused because of it, so `circuit_breaker` stays closed; it counts the failures since the last good probe.
    """
    probes = ProbeResult.objects.filter(provider=OuterRef("pk")).order_by("-id")
    last_good = Coalesce(Subquery(probes.filter(healthy=True).values("id")[:1]), 0)
    failed = probes.filter(healthy=False)
    failed_since = failed.filter(id__gt=OuterRef("last_good")).order_by().values("provider").annotate(times=Count("pk"))
    rows = Provider.objects.annotate(
        models_count=Count("models", filter=Q(models__enabled=True)),
        last_healthy=Subquery(probes.values("healthy")[:1]),
        last_duration_ms=Subquery(probes.values("duration_ms")[:1]),
        last_failure=Subquery(failed.values("at")[:1]),
        last_good=last_good,
        failures=Coalesce(Subquery(failed_since.values("times")), 0),
    ).defer("secret_params")
    return {row.provider_id: _health(row) for row in rows}


def _health(row: Any) -> dict[str, Any]:
    status = {True: "healthy", False: "unhealthy", None: "unknown"}[row.last_healthy]
    return {
        "status": status if row.enabled else "disabled",
        "models_count": row.models_count,
        "circuit_breaker": {"state": "closed", "failure_count": row.failures, "last_failure": row.last_failure},
        "latency_ms": row.last_duration_ms,
    }


def _overall(providers: dict[str, dict[str, Any]]) -> str:
    unwell = any(provider["status"] == "unhealthy" for provider in providers.values())
    return "degraded" if unwell or snapshot.problem() else "healthy"


def _offered(model: ModelView) -> dict[str, Any]:
    return {
        "model_id": model.model_id,
        "provider_id": model.provider.provider_id,
        "task": _task(model),
        "context_window": model.context_window,
        "dimension": model.dimension,
        "supports_vision": "vision" in model.capabilities or model.model_type == "vision",
        "supports_audio": "audio" in model.capabilities or model.model_type == "audio",
    }


def _task(model: ModelView) -> str:
    """The first task declared; without any, the least that its type promises."""
    declared = next((task for task in TASKS if task in model.tasks), None)
    return declared or (model.model_type if model.model_type in TASKS else "chat_small")


def _snapshot(held: Snapshot) -> dict[str, Any]:
    facts = {"revision": held.revision, "age_seconds": round(snapshot.age_seconds(), 3), "left_out": len(held.notes)}
    return {"ok": not snapshot.problem()} | facts


def _finding(look: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return {"ok": True} | look()
    except (DatabaseError, redis.RedisError, OSError) as error:
        return {"ok": False, "error": type(error).__name__}


def _database() -> dict[str, Any]:
    return {"revision": revision.current()}


def _redis() -> dict[str, Any]:
    with redis.Redis.from_url(
        settings.REDIS_URL, socket_timeout=_PATIENCE_SECONDS, socket_connect_timeout=_PATIENCE_SECONDS
    ) as client:
        return {"queues": {queue: client.llen(queue) for queue in QUEUES}}
