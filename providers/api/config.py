"""`/api/v1/config`: the whole configuration as one document, out and in."""

from __future__ import annotations

import io
import json
from collections import defaultdict
from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.exceptions import APIException, NotFound, ParseError
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from providers import configuration, exporting
from providers.document_text import as_json, as_yaml
from providers.importers.config_forms import BadConfiguration
from providers.importers.documents import LARGEST_BYTES
from providers.importers.drafts import SourceError
from providers.models import Provider
from providers.resources import asked


class NotApplied(APIException):
    """The run that would have written it did not begin or did not end; its message says why."""

    status_code = 409
    default_code = "not_applied"


class YamlDocument(BaseRenderer):
    media_type = "application/yaml"
    format = "yaml"
    charset = "utf-8"
    heading = exporting.HEADING

    def render(self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None) -> bytes:
        if (renderer_context or {}).get("response") and renderer_context["response"].exception:
            return json.dumps(data).encode()  # a problem document, whatever was asked for
        return as_yaml(data, heading=self.heading).encode()


class OtherYamlDocument(YamlDocument):
    """What YAML was called before it had a name of its own."""

    media_type = "application/x-yaml"
    format = "x-yaml"


class JsonDocument(BaseRenderer):
    media_type = "application/json"
    format = "json"
    charset = None

    def render(self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None) -> bytes:
        return as_json(data).encode()


class AsItCame(BaseParser):
    """The body's bytes: what is wrong with them is told by line."""

    media_type = "*/*"

    def parse(self, stream: io.BufferedIOBase, media_type: str | None = None, parser_context: Any = None) -> bytes:
        return stream.read(LARGEST_BYTES + 1)


class FieldChange(serializers.Serializer):
    field = serializers.CharField()
    before = serializers.JSONField(allow_null=True)
    after = serializers.JSONField(allow_null=True)


class ConfigChange(serializers.Serializer):
    action = serializers.ChoiceField(choices=[configuration.ADD, configuration.CHANGE, configuration.REMOVE])
    kind = serializers.CharField(help_text="provider, model, key, parameter, policy, price or settings.")
    provider_id = serializers.CharField(help_text="Empty for what belongs to no provider.")
    name = serializers.CharField()
    fields = FieldChange(many=True)  # type: ignore[assignment]


class ConfigFinding(serializers.Serializer):
    place = serializers.CharField()
    code = serializers.CharField()
    level = serializers.CharField(help_text="note, or person: somebody should look.")
    detail = serializers.CharField()


class ConfigVariable(serializers.Serializer):
    name = serializers.CharField()
    is_set = serializers.BooleanField(help_text="In the process that answered.")


class ConfigApplied(serializers.Serializer):
    applied = serializers.BooleanField()
    changes = ConfigChange(many=True)
    findings = ConfigFinding(many=True)
    variables = ConfigVariable(many=True)
    run = serializers.IntegerField(allow_null=True, help_text="The import run that wrote it, to be undone by.")


_ONLY = OpenApiParameter("only", str, many=True, description="These providers only.")
_SECTIONS = OpenApiParameter("section", str, many=True, description="These members of the document only.")
_FORMAT = OpenApiParameter("format", str, enum=["yaml", "json"], description="Wins over the Accept header.")


class Config(APIView):
    required_scopes = {"GET": "admin", "POST": "admin"}
    renderer_classes = [YamlDocument, JsonDocument, OtherYamlDocument]
    parser_classes = [AsItCame]

    def get_renderers(self) -> list[Any]:
        """A document is YAML unless asked otherwise; an answer about one is JSON."""
        if self.request.method == "GET":
            return super().get_renderers()
        return [JsonDocument()]

    @extend_schema(
        parameters=[_ONLY, _SECTIONS, _FORMAT],
        responses={
            (200, "application/yaml"): OpenApiTypes.OBJECT,
            (200, "application/json"): OpenApiTypes.OBJECT,
        },
    )
    def get(self, request: Request) -> Response:
        """All providers with their models, parameters and keys; secrets as references. The same registry, the same bytes."""
        only = request.query_params.getlist("only")
        asked_for = [name for name in only if "\0" not in name]  # PostgreSQL takes no question with one
        known = set(Provider.objects.filter(provider_id__in=asked_for).values_list("provider_id", flat=True))
        if missing := sorted(set(only) - known):
            raise NotFound(f"No provider is named {', '.join(map(repr, missing))}.")
        sections = request.query_params.getlist("section")
        if unknown := sorted(set(sections) - set(exporting.members())):
            raise NotFound(f"No section is named {', '.join(map(repr, unknown))}.")
        return Response(configuration.document(only, sections))

    @extend_schema(
        parameters=[
            OpenApiParameter("apply", bool, description="Write it; otherwise the answer says what would change."),
            OpenApiParameter("prune", bool, description="Also remove what the document does not name."),
            _ONLY,
        ],
        request={"application/yaml": OpenApiTypes.OBJECT, "application/json": OpenApiTypes.OBJECT},
        responses=ConfigApplied,
    )
    def post(self, request: Request) -> Response:
        """Bring the registry to what the body says: our own document, or one of the source systems' forms."""
        try:
            applied = configuration.apply_document(
                request.data or b"",  # without a body, an empty object
                label="/api/v1/config",
                file_format=_format(request.content_type or ""),
                only=request.query_params.getlist("only"),
                write=asked(request, "apply"),
                prune=asked(request, "prune"),
            )
        except BadConfiguration as error:
            raise serializers.ValidationError(_by_place(error)) from error
        except SourceError as error:
            raise ParseError(str(error)) from error
        if applied.exit_status == 1:
            raise NotApplied(applied.message)
        return Response(_answer(applied))


def _answer(applied: configuration.Applied) -> dict[str, Any]:
    return {
        "applied": applied.written,
        "changes": [
            {
                "action": change.action,
                "kind": change.kind,
                "provider_id": change.provider_id,
                "name": change.name,
                "fields": [
                    {"field": field, "before": before, "after": after}
                    for field, (before, after) in change.fields.items()
                ],
            }
            for change in applied.changes
        ],
        "findings": [
            {
                "place": ".".join(filter(None, (finding.key, finding.field))),
                "code": finding.code.name,
                "level": finding.code.level.value,
                "detail": finding.detail,
            }
            for finding in applied.findings
        ],
        "variables": [{"name": variable.name, "is_set": variable.is_set} for variable in applied.variables],
        "run": applied.run_pk,
    }


def _by_place(error: BadConfiguration) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for problem in error.problems:
        found[problem.place or "non_field_errors"].append(problem.sentence)
    return dict(found)


def _format(content_type: str) -> str:
    subtype = content_type.partition(";")[0].rpartition("/")[2].strip().lower()
    return {"json": "json", "yaml": "yaml", "x-yaml": "yaml"}.get(subtype, "")
