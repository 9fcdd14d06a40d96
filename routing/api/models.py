"""The models that a frontend lets people choose from: what is live, a choice that holds for its session, and whether all is well.

In the shapes of the source system whose frontends ask for them. The choice counts for requests of the session that name no
model, on every path.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.exceptions import APIException, NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from providers import offers
from providers.models import ProbeResult, Provider
from routing import live_models, model_choices
from routing.live_models import Listing, LiveModel, NoSuchChoice
from routing.model_choices import NothingChosen
from routing.selections import SelectionsAway

READ_ENDPOINTS = "registry:read"
LOOK_AGAIN_SECONDS = 10.0
"""Whoever asks for the health has the upstream's list read again, at most so often."""
PROBE_COUNTS_FOR = timedelta(minutes=10)
SESSION_HEADER = "x-session-id"
_LONGEST_NAME = 600


class SelectionsUnavailable(APIException):
    status_code = 503
    default_detail = (
        "The choice cannot be kept at the moment: the store does not answer. Name the model in each request."
    )
    default_code = "store_unavailable"


class ShownModel(serializers.Serializer):
    id = serializers.CharField(help_text="provider/model: names this one and no other.")
    name = serializers.CharField()
    status = serializers.CharField(help_text="active, or failing while its circuit breaker is not closed.")
    endpoint = serializers.CharField(help_text="Where it answers: for keys without registry:read, this gateway's /v1.")
    model_type = serializers.CharField()
    provider_id = serializers.CharField()
    capabilities = serializers.ListField(child=serializers.CharField())
    stale = serializers.BooleanField(help_text="Its provider's list could not be read again.")
    read_at = serializers.DateTimeField(allow_null=True, help_text="When its provider's list was read.")


class ShownModels(serializers.Serializer):
    models = ShownModel(many=True)
    default_model = serializers.CharField()
    fallback_model = serializers.CharField()
    total = serializers.IntegerField()
    stale = serializers.BooleanField()
    read_at = serializers.DateTimeField(allow_null=True)


class Selection(serializers.Serializer):
    model_name = serializers.CharField(required=False, allow_blank=True, allow_null=True, max_length=_LONGEST_NAME)
    capability = serializers.CharField(required=False, allow_blank=True, allow_null=True, max_length=64)
    session_id = serializers.CharField(required=False, allow_blank=True, allow_null=True, max_length=1000)


class Selected(serializers.Serializer):
    selected_model = serializers.CharField()
    status = serializers.CharField()
    provider_id = serializers.CharField()
    session_id = serializers.CharField(allow_null=True, help_text="null: it holds for the client key.")
    expires_in_seconds = serializers.IntegerField()
    warning = serializers.CharField(required=False)


class ModelsHealth(serializers.Serializer):
    healthy = serializers.BooleanField()
    message = serializers.CharField()
    models_count = serializers.IntegerField()
    endpoint = serializers.CharField()
    models = serializers.ListField(child=serializers.CharField())
    circuit_breaker_healthy = serializers.BooleanField()


class ModelsView(APIView):
    required_scopes = {"GET": "any"}

    @extend_schema(responses=ShownModels)
    def get(self, request: Request) -> Response:
        """The models that can be asked for now, and those that serve where none is named."""
        shown = model_choices.listed(request.auth)
        return Response(
            {
                "models": [_shown(model, request) for model in shown.models],
                "default_model": shown.default.model_id if shown.default else "",
                "fallback_model": shown.fallback.model_id if shown.fallback else "",
                "total": len(shown.models),
                "stale": shown.stale,
                "read_at": _moment(shown.read_at),
            }
        )


class SelectView(APIView):
    required_scopes = {"POST": "generate"}

    @extend_schema(
        request=Selection,
        responses=Selected,
        parameters=[OpenApiParameter(SESSION_HEADER, str, OpenApiParameter.HEADER)],
    )
    def post(self, request: Request) -> Response:
        """Choose a model by its name or by a capability, for a session or for the client key as a whole."""
        return Response(select(request))


class ModelsHealthView(APIView):
    required_scopes = {"GET": "any"}

    @extend_schema(responses=ModelsHealth)
    def get(self, request: Request) -> Response:
        """Whether the default, or what follows it, serves, and every platform tells what it has deployed. Answers 200 also when not."""
        for provider in filter(offers.follows, Provider.objects.filter(enabled=True)):
            if offers.refresh_seconds(provider):
                offers.refresh_if_older(provider, LOOK_AGAIN_SECONDS)
        shown = model_choices.listed(request.auth)
        down = _found_down()
        well = [
            model
            for model in shown.models
            if model.status == live_models.ACTIVE
            and not _is_stale(model)
            and model.model.provider.provider_id not in down
        ]
        return Response(
            {
                "healthy": _is_well(shown, {model.model.route for model in well}),
                "message": _message(shown, well),
                "models_count": len(shown.models),
                "endpoint": _endpoint(shown.models[0], request) if shown.models else _gateway(request),
                "models": [model.model.model_id for model in shown.models],
                "circuit_breaker_healthy": all(model.status == live_models.ACTIVE for model in shown.models),
            }
        )


def _found_down() -> set[str]:
    """Providers whose last probe failed, where that was lately."""
    since = timezone.now() - PROBE_COUNTS_FOR
    last: dict[str, bool] = {}
    probes = ProbeResult.objects.filter(at__gte=since).order_by("id")
    for provider_id, healthy in probes.values_list("provider__provider_id", "healthy"):
        last[provider_id] = healthy
    return {provider_id for provider_id, healthy in last.items() if not healthy}


def select(request: Request) -> dict[str, Any]:
    """Keep a choice for the caller's session. Raises what becomes a problem document."""
    body = Selection(data=request.data)
    body.is_valid(raise_exception=True)
    told = body.validated_data
    session_id = request.headers.get(SESSION_HEADER) or told.get("session_id") or None
    try:
        chosen = model_choices.choose(
            request.auth,
            model_name=told.get("model_name"),
            capability=told.get("capability"),
            session_id=session_id,
        )
    except NothingChosen:
        raise serializers.ValidationError(
            {"model_name": "Name a model, or say which `capability` it must have."}
        ) from None
    except NoSuchChoice as error:
        raise NotFound(str(error), code="model_not_found") from None
    except SelectionsAway as error:
        raise SelectionsUnavailable from error
    choice = chosen.choice
    return {
        "selected_model": choice.model.model_id,
        "status": "success",
        "provider_id": choice.model.provider.provider_id,
        "session_id": chosen.session_id,
        "expires_in_seconds": chosen.expires_in_seconds,
        **({"warning": choice.warning} if choice.warning else {}),
    }


def _shown(live: LiveModel, request: Request) -> dict[str, Any]:
    model = live.model
    return {
        "id": model.route,
        "name": model.model_id,
        "status": live.status,
        "endpoint": _endpoint(live, request),
        "model_type": model.model_type,
        "provider_id": model.provider.provider_id,
        "capabilities": list(live_models.capabilities_of(model)),
        "stale": _is_stale(live),
        "read_at": _moment(live.reading.read_at if live.reading else None),
    }


def _endpoint(live: LiveModel, request: Request) -> str:
    """The upstream's address is for those who may read the registry; everybody's way to the model is the gateway."""
    own = live_models.endpoint_of(live.model) if request.auth.may(READ_ENDPOINTS) else ""
    return own or _gateway(request)


def _gateway(request: Request) -> str:
    return request.build_absolute_uri("/v1")


def _is_stale(live: LiveModel) -> bool:
    return live.reading is not None and live.reading.stale


def _is_well(shown: Listing, well: set[str]) -> bool:
    standing = {model.route for model in (shown.default, shown.fallback) if model is not None}
    return bool(well & (standing or well)) and not shown.stale


def _message(shown: Listing, well: list[LiveModel]) -> str:
    if not shown.models:
        return "No model can be asked for."
    if shown.stale:
        unread = ", ".join(name for name, reading in shown.readings.items() if reading.stale)
        return f"The list of {unread} cannot be read at the moment; the last one known is shown."
    if not well:
        return "No model answers at the moment."
    failing = len(shown.models) - len(well)
    if failing:
        return f"{failing} of {len(shown.models)} models do not answer at the moment."
    return "All models can be asked for."


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
