"""`/api/v1/traces`: what happened to requests. A client key sees its own; one with the scope admin sees them all."""

from __future__ import annotations

from typing import Any

from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from inference import explaining, trace_details, trace_search
from inference.models import Trace, TraceContent
from inference.trace_search import ALL_SIDES, BadCursor, Search, Sight
from routing.rollout import GATEWAY, LEGACY, PROBE, SHADOW

_LONGEST = 512


class TraceQuery(serializers.Serializer):
    id = serializers.CharField(max_length=128, required=False, help_text="Of the request, or of its trace in any form.")
    key = serializers.CharField(max_length=32, required=False, help_text="Prefix of a client key.")
    team = serializers.IntegerField(required=False, help_text="Id of a team.")
    model = serializers.CharField(
        max_length=255, required=False, help_text="As it was asked for: a model, a policy or a node."
    )
    served_by = serializers.CharField(
        max_length=_LONGEST, required=False, help_text="provider/model, or a model of whatever provider."
    )
    provider = serializers.CharField(max_length=255, required=False)
    policy = serializers.CharField(max_length=255, required=False)
    session = serializers.CharField(max_length=255, required=False)
    tag = serializers.CharField(max_length=64, required=False)
    error = serializers.CharField(max_length=64, required=False, help_text="A code, such as upstream_timeout.")
    owner = serializers.ChoiceField(trace_search.OWNERS, required=False, help_text="Whose fault a failure is.")
    status = serializers.IntegerField(min_value=100, max_value=599, required=False)
    outcome = serializers.ChoiceField(trace_search.OUTCOMES, required=False)
    operation = serializers.CharField(max_length=16, required=False)
    side = serializers.ChoiceField((GATEWAY, LEGACY, SHADOW, PROBE, ALL_SIDES), required=False)
    slower_than_ms = serializers.FloatField(min_value=0, required=False)
    since = serializers.DateTimeField(required=False)
    until = serializers.DateTimeField(required=False)
    limit = serializers.IntegerField(min_value=1, max_value=trace_search.MOST_ROWS, default=50)
    cursor = serializers.CharField(max_length=_LONGEST, required=False, help_text="Out of a page's `next_cursor`.")

    def to_internal_value(self, data: Any) -> Any:
        if unknown := sorted(set(data) - set(self.fields)):
            raise serializers.ValidationError({name: ["There is no such filter."] for name in unknown})
        return super().to_internal_value(data)


class TracesView(APIView):
    required_scopes = {"GET": ("generate", "admin")}

    @extend_schema(parameters=[TraceQuery], responses=OpenApiTypes.OBJECT, operation_id="traces_list")
    def get(self, request: Request) -> Response:
        """Requests, the newest first. A page may be short and yet have a `next_cursor`: the search has come to `looked_back_to`."""
        query = TraceQuery(data=request.query_params)
        query.is_valid(raise_exception=True)
        told = dict(query.validated_data)
        limit, cursor = told.pop("limit"), told.pop("cursor", "")
        try:
            page = trace_search.find(Search(**told), sight_of(request), now=timezone.now(), limit=limit, cursor=cursor)
        except BadCursor as error:
            raise serializers.ValidationError({"cursor": [str(error)]}) from None
        return Response(
            {
                "results": [trace_details.summary(row) for row in page.rows],
                "next_cursor": page.cursor or None,
                "looked_back_to": page.looked_back_to,
            }
        )


class TraceView(APIView):
    required_scopes = {"GET": ("generate", "admin")}

    @extend_schema(responses=OpenApiTypes.OBJECT, operation_id="traces_retrieve")
    def get(self, request: Request, trace_id: str) -> Response:
        """One request, by its id or by its trace's (then the latest): its spans, every try, the decision and what each try cost."""
        row = _found(request, trace_id)
        past = explaining.past_of(row) if row.side != LEGACY else None
        document = None if past is None or not request.auth.may("admin") else past.document
        captured = TraceContent.objects.filter(request_id=row.request_id).exists()
        return Response(trace_details.document(row, document, captured=captured))


class TraceContentView(APIView):
    required_scopes = {"GET": ("generate", "admin")}

    @extend_schema(responses=OpenApiTypes.OBJECT, operation_id="traces_content")
    def get(self, request: Request, trace_id: str) -> Response:
        """What was asked and answered, where that was captured: redacted, and kept for hours only."""
        row = _found(request, trace_id)
        content = TraceContent.objects.filter(request_id=row.request_id).first()
        if content is None:
            raise NotFound("Nothing was captured of that request.")
        return Response(trace_details.texts(content), headers={"Cache-Control": "no-store"})


def sight_of(request: Request) -> Sight:
    identity = request.auth
    return trace_search.EVERYTHING if identity.may("admin") else Sight(key_id=identity.key_id)


def _found(request: Request, name: str) -> Trace:
    row = trace_search.one(name, sight_of(request), timezone.now())
    if row is None:
        raise NotFound(f"No request has the id {name!r}.")
    return row
