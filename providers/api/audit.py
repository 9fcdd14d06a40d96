"""`/api/v1/audit/export`: the audit log as a file."""

from __future__ import annotations

from typing import Any

from django.http import StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.exceptions import ValidationError
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.views import APIView

from providers import audit_files, streaming
from providers.api.resources import AuditFilter
from providers.models import AuditEntry


class CsvLines(BaseRenderer):
    """Named so that a client may ask for it; the lines are streamed past it. A refusal stays JSON."""

    media_type, format, charset = "text/csv", "csv", "utf-8"

    def render(self, data: Any, accepted_media_type: Any = None, renderer_context: Any = None) -> bytes:
        return JSONRenderer().render(data)


class JsonLines(CsvLines):
    media_type, format = "application/x-ndjson", "json"


class AuditExport(APIView):
    required_scopes = {"GET": "admin"}
    renderer_classes = [CsvLines, JsonLines]

    @extend_schema(
        parameters=[
            OpenApiParameter("format", str, enum=["csv", "json"], description="CSV, or an object a line."),
            *(
                OpenApiParameter(name, str)
                for name in ("actor", "action", "target_type", "target_id", "request_id", "since", "until")
            ),
        ],
        responses={(200, "text/csv"): OpenApiTypes.STR},
    )
    def get(self, request: Request) -> StreamingHttpResponse:
        """Entries, newest first, a hundred thousand at most. Secrets are fingerprints."""
        asked = AuditFilter(request.query_params, queryset=AuditEntry.objects.order_by("-id"))
        if not asked.is_valid():
            raise ValidationError(asked.errors)
        chosen = request.accepted_renderer
        lines = audit_files.lines(asked.qs, chosen.format)
        parts = streaming.parts_for(request._request, streaming.together(lines))
        response = StreamingHttpResponse(parts, content_type=f"{chosen.media_type}; charset=utf-8")
        response["Content-Disposition"] = f'attachment; filename="audit.{chosen.format}"'
        return response
