"""Is the gateway alive, ready and well? And what it offers, in the shapes that the source systems' clients read.

`/livez` says that the process answers, `/readyz` that it can serve and what is missing. `/api/v1/health` is for people and
dashboards; names of providers are shown to bearers of a key only.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import redis
from django.conf import settings
from django.db import DatabaseError
from django.db.models import Count, OuterRef, Q, Subquery
from django.http import HttpRequest, HttpResponse, JsonResponse
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from gateway_project import scraping
from gateway_project.celery import QUEUES
from inference import shared_metrics
from inference.metrics import metrics
from providers import revision
from providers.capabilities import TASKS
from providers.models import ProbeResult, Provider
from routing import filters, health, route_health, snapshot
from routing.breakers import CLOSED, HALF_OPEN, OPEN
from routing.route_health import RouteHealth
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


class ModelHealth(serializers.Serializer):
    status = serializers.CharField(help_text="closed, half_open, open, keys_exhausted or auto_disabled.")
    circuit_breaker = Breaker()
    retry_at = serializers.DateTimeField(allow_null=True)
    success_rate = serializers.FloatField(allow_null=True)
    latency_ms = serializers.FloatField(allow_null=True)
    auto_disabled = serializers.CharField(allow_null=True)


class ProviderHealth(serializers.Serializer):
    status = serializers.CharField(
        help_text="healthy; degraded when some models are out of service; unhealthy when all are, or the last probe failed; "
        "disabled; unknown when it was neither probed nor called."
    )
    models_count = serializers.IntegerField()
    circuit_breaker = Breaker(help_text="The worst of its models'.")
    latency_ms = serializers.FloatField(allow_null=True, help_text="What the last probe measured, else of real calls.")
    models = serializers.DictField(
        child=ModelHealth(), required=False, help_text="With registry:read, what was called."
    )


class Health(serializers.Serializer):
    status = serializers.CharField(help_text="healthy, or degraded when an enabled provider is not well.")
    version = serializers.CharField()
    providers = serializers.DictField(child=ProviderHealth(), required=False, help_text="With a valid key only.")


class HealthView(APIView):
    permission_classes = [AllowAny]

    @extend_schema(responses=Health)
    def get(self, request: Request) -> Response:
        providers = provider_health(with_models=_may_see_models(request))
        shown: dict[str, Any] = {"status": _overall(providers), "version": settings.SPECTACULAR_SETTINGS["VERSION"]}
        if request.auth is not None:
            shown["providers"] = _seen(providers, request)
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
        providers = _seen(provider_health(with_models=_may_see_models(request)), request)
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


def _seen(providers: dict[str, dict[str, Any]], request: Request) -> dict[str, dict[str, Any]]:
    """What a key may not use does not exist to it, unless it reads the registry."""
    if _may_see_models(request):
        return providers
    return {name: one for name, one in providers.items() if filters.permits_provider(request.auth, name)}


def _may_see_models(request: Request) -> bool:
    return request.auth is not None and request.auth.may("registry:read")


class TasksView(APIView):
    required_scopes = {"GET": "any"}

    @extend_schema(responses=serializers.ListSerializer(child=serializers.CharField()))
    def get(self, request: Request) -> Response:
        return Response(list(TASKS))


@extend_schema(exclude=True)
class MetricsView(APIView):
    """The counters of all processes of this machine for Prometheus: open, unless GATEWAY_METRICS_OPEN says that a key is needed."""

    required_scopes = {"GET": "any"}
    works_without_database = True

    def get_permissions(self) -> list[Any]:
        return [AllowAny()] if settings.GATEWAY_METRICS_OPEN else super().get_permissions()

    def get(self, request: Request) -> HttpResponse:
        counted = shared_metrics.join(settings.DATA_DIR / "metrics", metrics.collect).families()
        text = shared_metrics.text(counted, scraping.families())
        return HttpResponse(text, content_type="text/plain; version=0.0.4; charset=utf-8")


def provider_health(*, with_models: bool = False) -> dict[str, dict[str, Any]]:
    """By provider id: what its last probe found, and how its models fare with real requests.

    `circuit_breaker` is the worst of its models'; `with_models` adds each of which something is known.
    """
    probes = ProbeResult.objects.filter(provider=OuterRef("pk")).order_by("-at")
    rows = Provider.objects.annotate(
        models_count=Count("models", filter=Q(models__enabled=True)),
        last_healthy=Subquery(probes.values("healthy")[:1]),
        last_duration_ms=Subquery(probes.values("duration_ms")[:1]),
    ).defer("secret_params")
    known: dict[str, list[RouteHealth]] = defaultdict(list)
    for route in route_health.routes(health.look()):
        if route.enabled:
            known[route.provider_id].append(route)
    return {row.provider_id: _health(row, known[row.provider_id], with_models) for row in rows}


def _health(row: Any, routes: list[RouteHealth], with_models: bool) -> dict[str, Any]:
    latencies = [route.condition.latency_seconds for route in routes if route.condition.latency_seconds is not None]
    latency = row.last_duration_ms
    if latency is None and latencies:
        latency = round(1000 * sum(latencies) / len(latencies), 3)
    shown = {
        "status": _status(row, routes),
        "models_count": row.models_count,
        "circuit_breaker": _breaker(routes),
        "latency_ms": latency,
    }
    if with_models:
        shown["models"] = {route.model_id: _model(route) for route in routes}
    return shown


def _status(row: Any, routes: list[RouteHealth]) -> str:
    if not row.enabled:
        return "disabled"
    out = sum(route.is_out for route in routes)
    if row.last_healthy is False or (out and out >= row.models_count):
        return "unhealthy"
    if out or any(route.state == HALF_OPEN for route in routes):
        return "degraded"
    served = any(route.condition.calls and not route.condition.failures for route in routes)
    return "healthy" if row.last_healthy or served else "unknown"


def _breaker(routes: list[RouteHealth]) -> dict[str, Any]:
    states = [route.condition.breaker for route in routes]
    failures = [route.last_failure_at for route in routes if route.last_failure_at is not None]
    return {
        "state": next((state for state in (OPEN, HALF_OPEN) if state in states), CLOSED),
        "failure_count": max((route.condition.failures for route in routes), default=0),
        "last_failure": max(failures, default=None),
    }


def _model(route: RouteHealth) -> dict[str, Any]:
    known = route.condition
    return {
        "status": route.state,
        "circuit_breaker": _breaker([route]),
        "retry_at": route.retry_at,
        "success_rate": known.success_rate,
        "latency_ms": None if known.latency_seconds is None else round(known.latency_seconds * 1000, 3),
        "auto_disabled": route.auto_disabled_reason or None,
    }


def _overall(providers: dict[str, dict[str, Any]]) -> str:
    unwell = any(provider["status"] in ("unhealthy", "degraded") for provider in providers.values())
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
