"""`/api/v1/policies/{id}/trial`: a new version of a policy, tried on a share of its clients."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.http import Http404
from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.exceptions import APIException
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from providers import ownership
from routing import trials
from routing.models import Policy
from routing.trials import NoTrial, TrialRunning

_SCOPES = {
    "GET": "registry:read",
    "PUT": "registry:write",
    "PATCH": "registry:write",
    "POST": "registry:write",
    "DELETE": "registry:write",
}


class InTheWay(APIException):
    """Another candidate is being tried."""

    status_code = status.HTTP_409_CONFLICT
    default_code = "trial_running"


class FiguresShown(serializers.Serializer):
    requests = serializers.IntegerField()
    errors = serializers.IntegerField()
    error_rate = serializers.FloatField()
    latency_ms = serializers.FloatField(allow_null=True, help_text="Median of the requests that succeeded.")
    cost = serializers.FloatField(allow_null=True, help_text="Of the average request.")


class ComparisonShown(serializers.Serializer):
    since = serializers.DateTimeField()
    active_since = serializers.DateTimeField()
    candidate = FiguresShown()
    active = FiguresShown()
    outcome = serializers.CharField(source="verdict.outcome", help_text="waiting, kept or broken.")
    sentence = serializers.CharField(source="verdict.sentence")


class GateShown(serializers.Serializer):
    max_error_rate_increase = serializers.FloatField(allow_null=True)
    max_latency_ratio = serializers.FloatField(allow_null=True)
    min_requests = serializers.IntegerField()
    window_seconds = serializers.FloatField()


class TrialShown(serializers.Serializer):
    state = serializers.CharField(help_text="none, running, paused (nobody gets it) or rolled_back.")
    policy = serializers.CharField()
    active_version = serializers.IntegerField()
    candidate_version = serializers.IntegerField(allow_null=True)
    document = serializers.JSONField(allow_null=True)
    percentage = serializers.DecimalField(max_digits=5, decimal_places=2)
    gate = GateShown(allow_null=True)
    since = serializers.DateTimeField(allow_null=True)
    finding = serializers.JSONField(allow_null=True, help_text="Why it was rolled back, with the figures.")
    comparison = ComparisonShown(allow_null=True)


class TrialBody(serializers.Serializer):
    """PUT begins a trial, or, without `document`, changes the one that runs."""

    document = serializers.JSONField(required=False)
    percentage = serializers.DecimalField(max_digits=5, decimal_places=2, min_value=0, max_value=100, required=False)
    gate = serializers.JSONField(required=False)
    note = serializers.CharField(required=False, allow_blank=True, max_length=500, default="")

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict) and (unknown := sorted(data.keys() - self.fields.keys())):
            raise serializers.ValidationError({name: ["There is no such field."] for name in unknown})
        return super().to_internal_value(data)


class NoteBody(serializers.Serializer):
    note = serializers.CharField(required=False, allow_blank=True, max_length=500, default="")


def shown(policy: Policy) -> dict[str, Any]:
    trial = trials.of(policy)
    return {
        **{name: getattr(trial, name) for name in trial.__slots__},
        "comparison": trials.compare(trial, timezone.now()),
    }


class _OfAPolicy(APIView):
    required_scopes = _SCOPES

    def policy(self) -> Policy:
        return get_object_or_404(Policy, pk=self.kwargs["pk"])

    def answer(self, policy: Policy, code: int = 200) -> Response:
        return Response(TrialShown(shown(policy)).data, status=code)


class TrialView(_OfAPolicy):
    @extend_schema(responses=TrialShown)
    def get(self, request: Request, pk: str) -> Response:
        """The candidate, its share, its gate, and how both versions do."""
        return self.answer(self.policy())

    @extend_schema(request=TrialBody, responses={200: TrialShown, 201: TrialShown})
    def put(self, request: Request, pk: str) -> Response:
        """Begin a trial with a document and a share; without a document, change the share or the gate of the one that runs."""
        body = TrialBody(data=request.data)
        body.is_valid(raise_exception=True)
        told, policy = body.validated_data, self.policy()
        ownership.refuse_if_owned(policy)
        try:
            if "document" not in told:
                return self.answer(
                    trials.change(policy, percentage=told.get("percentage"), gate=told.get("gate"), note=told["note"])
                )
            if "percentage" not in told:
                raise serializers.ValidationError({"percentage": ["Say how many percent of the clients get it."]})
            policy = trials.start(policy, told["document"], told["percentage"], told.get("gate"), note=told["note"])
        except NoTrial as error:
            raise serializers.ValidationError({"document": [f"{error} Say what to try."]}) from None
        except TrialRunning as error:
            raise InTheWay(str(error)) from None
        except ValidationError as error:
            raise _refused(error) from None
        return self.answer(policy, status.HTTP_201_CREATED)

    @extend_schema(responses={204: None})
    def delete(self, request: Request, pk: str) -> Response:
        """End the trial: every client gets the version that counts."""
        try:
            trials.stop(self.policy())
        except NoTrial as error:
            raise Http404(str(error)) from None
        return Response(status=status.HTTP_204_NO_CONTENT)


class PromoteView(_OfAPolicy):
    @extend_schema(request=NoteBody, responses=TrialShown)
    def post(self, request: Request, pk: str) -> Response:
        """Let the candidate count for all, under the number that it has."""
        body = NoteBody(data=request.data or {})
        body.is_valid(raise_exception=True)
        policy = self.policy()
        ownership.refuse_if_owned(policy)
        try:
            return self.answer(trials.promote(policy, note=body.validated_data["note"]))
        except NoTrial as error:
            raise Http404(str(error)) from None
        except ValidationError as error:
            raise _refused(error) from None


def _refused(error: ValidationError) -> serializers.ValidationError:
    """The row's fields by the names that the body has for them."""
    names = {"candidate": "document", "candidate_percentage": "percentage", "candidate_gate": "gate"}
    return serializers.ValidationError(
        {names.get(field, field): sentences for field, sentences in error.message_dict.items()}
    )
