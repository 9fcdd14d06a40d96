"""The traces of a source system's admin API under `/api/admin/gateway`. For admins only."""

from __future__ import annotations

from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from inference import request_traces
from providers import actor

LONGEST_HOURS = 168
MOST_TRACES = 500


class Hours(serializers.Serializer):
    hours = serializers.IntegerField(default=1, min_value=1, max_value=LONGEST_HOURS, help_text="How far to look back.")


class HoursAndLimit(Hours):
    limit = serializers.IntegerField(default=50, min_value=1, max_value=MOST_TRACES)


class Traces(APIView):
    required_scopes = {"GET": "admin"}

    @extend_schema(parameters=[HoursAndLimit], responses=OpenApiTypes.OBJECT, operation_id="gateway_traces")
    def get(self, request: Request) -> Response:
        """The requests of the last hours, newest first."""
        query = HoursAndLimit(data=request.query_params)
        query.is_valid(raise_exception=True)
        hours, limit = query.validated_data["hours"], query.validated_data["limit"]
        now = timezone.now()
        return Response(
            {
                "traces": request_traces.listed(hours, limit, now),
                "hours": hours,
                "limit": limit,
                "requested_by": actor.current().name,
                "timestamp": now.isoformat().replace("+00:00", "Z"),
            }
        )


class Trace(APIView):
    required_scopes = {"GET": "admin"}

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, trace_id: str) -> Response:
        """The requests of a trace with every try at a provider, by the name that its sender gave it or a request's id."""
        found = request_traces.trace(trace_id, timezone.now())
        if found is None:
            raise NotFound(f"No request has the id {trace_id!r}.")
        return Response(found)


class TraceMetrics(APIView):
    required_scopes = {"GET": "admin"}

    @extend_schema(parameters=[Hours], responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        """How the requests of the last hours went, by node."""
        query = Hours(data=request.query_params)
        query.is_valid(raise_exception=True)
        return Response(request_traces.metrics(query.validated_data["hours"], timezone.now()))
