"""Which model a request would get and why, without asking any: the source systems' question, and everything about its answer."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from inference import asking, explaining, route_times
from inference.api.views import GENERATE, GeneratingView
from inference.errors import InvalidRequest, ModelNotFound
from inference.explaining import Explanation
from inference.wire import problems
from providers.capabilities import TASKS
from routing.api.problems import CONTENT_TYPE
from routing.types import Identity

NOBODY = 503
"""What clients of the source systems read as: nothing fits. The problem's `code` says why, and `live_status` what a request to
`/v1` would get."""

MOST = 1000
"""Candidates and dropped models that an answer lists; the rest is counted."""


class RouteIn(serializers.Serializer):
    """A request as `/v1` takes it, whole or in part; members that are not listed here are taken as a part of it."""

    task = serializers.ChoiceField(TASKS, required=False)
    model = serializers.CharField(required=False, help_text="A model, provider/model, or a policy's name.")
    node = serializers.CharField(
        required=False, help_text="In place of a model; the header x-gateway-node does the same."
    )
    preferred_model = serializers.CharField(required=False)
    require_vision = serializers.BooleanField(required=False)
    max_cost = serializers.FloatField(required=False, help_text="USD.")
    context_size = serializers.IntegerField(
        required=False, help_text="Tokens of the prompt, when it is not given itself."
    )
    messages = serializers.ListField(required=False, help_text="The prompt; or `prompt`, or `input`.")
    request = serializers.DictField(required=False, help_text="The whole body of a request to /v1.")
    operation = serializers.ChoiceField(["chat", "completions", "embeddings"], required=False)
    provider_id = serializers.CharField(required=False)
    session_id = serializers.CharField(required=False)
    capabilities = serializers.ListField(child=serializers.CharField(), required=False)
    max_cost_tier = serializers.CharField(required=False)
    local_only = serializers.BooleanField(required=False)
    data_tags = serializers.ListField(child=serializers.CharField(), required=False)
    strategy = serializers.CharField(required=False, help_text="In place of the policy's own, for trying out.")
    wanted = serializers.CharField(required=False, help_text="Tell what would have to change for this model to win.")
    client_key = serializers.CharField(
        required=False, help_text="The prefix of another client key, in whose name is asked; needs registry:read."
    )


class CandidateOut(serializers.Serializer):
    place = serializers.IntegerField()
    route = serializers.CharField(help_text="provider/model.")
    provider_id = serializers.CharField()
    provider_type = serializers.CharField()
    model_id = serializers.CharField()
    via = serializers.CharField(help_text="The policy through which it was reached.")
    role = serializers.ChoiceField(["override", "preferred", "target", "fallback"])
    reason = serializers.CharField()
    score = serializers.FloatField(allow_null=True)
    parts = serializers.DictField(child=serializers.FloatField())
    priority = serializers.IntegerField()
    weight = serializers.IntegerField()
    estimated_cost_usd = serializers.FloatField(allow_null=True)
    cost_tier = serializers.CharField()
    breaker = serializers.ChoiceField(["closed", "open", "half_open"])
    needs_permit = serializers.BooleanField()
    latency_seconds = serializers.FloatField(allow_null=True)
    success_rate = serializers.FloatField(allow_null=True)
    in_flight = serializers.IntegerField()
    keys = serializers.ListField(child=serializers.DictField())


class DroppedOut(serializers.Serializer):
    route = serializers.CharField()
    reason = serializers.CharField(help_text="A code; see docs/explaining.md.")
    detail = serializers.CharField()
    back_at = serializers.DateTimeField(allow_null=True)


class RouteOut(serializers.Serializer):
    provider_id = serializers.CharField()
    model_id = serializers.CharField()
    estimated_cost = serializers.FloatField(allow_null=True, help_text="USD; null is unknown.")
    reason = serializers.CharField()
    provider_type = serializers.CharField()
    request = serializers.DictField()
    policy = serializers.DictField(allow_null=True)
    bucket = serializers.DictField(allow_null=True)
    demands = serializers.DictField(help_text="Of the policy and the request together.")
    strategy = serializers.CharField()
    confidence = serializers.FloatField()
    estimate = serializers.DictField(allow_null=True)
    candidates = CandidateOut(many=True)
    dropped = DroppedOut(many=True)
    dropped_by_reason = serializers.DictField(child=serializers.IntegerField())
    left_out = serializers.DictField(child=serializers.IntegerField())
    notices = serializers.ListField(child=serializers.CharField())
    nearest = serializers.ListField(child=serializers.CharField())
    revision = serializers.IntegerField()
    made_at = serializers.DateTimeField()
    what_would_change = serializers.DictField(required=False)


class RouteView(GeneratingView):
    required_scopes = {"POST": GENERATE}

    @extend_schema(request=RouteIn, responses=RouteOut)
    def post(self, request: Request) -> Response:
        """Which model a request would get, what it would cost, and why not another. Calls nobody and changes nothing."""
        if not isinstance(request.data, dict):
            raise InvalidRequest("The request body must be a JSON object.")
        identity: Identity = request.auth
        question = explaining.read(request.data, identity, _sent(request))
        everything = identity.may(explaining.READS_REGISTRY)
        explanation = explaining.explained(question, most=MOST, everything=everything)
        route_times.tell(explanation.document)
        told = explaining.for_caller(explanation, question, identity)
        if explanation.refusal is not None:
            return _nobody(explanation, told, getattr(request, "request_id", ""))
        return Response(answer(told))


def answer(told: dict[str, Any]) -> dict[str, Any]:
    """The explanation, with what the source systems' clients read at its top."""
    first = told["candidates"][0]
    return {
        "provider_id": first["provider_id"],
        "model_id": first["model_id"],
        "estimated_cost": first["estimated_cost_usd"],
        "provider_type": first["provider_type"],
        **told,
    }


def _nobody(explanation: Explanation, told: dict[str, Any], request_id: str) -> Response:
    error = explanation.refusal
    status = error.status if isinstance(error, ModelNotFound) and told["request"].get("model") else NOBODY
    body = problems.document(error, request_id) | {
        "title": HTTPStatus(status).phrase,
        "status": status,
        "live_status": error.status,
        "explanation": told,
    }
    response = Response(body, status=status, content_type=CONTENT_TYPE)
    for name, value in problems.headers_of(error):
        response[name.decode()] = value.decode()
    response.exception = True
    return response


def _sent(request: Request) -> dict[bytes, bytes]:
    """The headers that a live request would be read by."""
    names = ((name, name.decode()) for name in asking.HEADERS)
    return {
        name: request.headers[shown].encode("latin-1", "replace") for name, shown in names if shown in request.headers
    }
