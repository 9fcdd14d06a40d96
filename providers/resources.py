"""How every resource under `/api/v1/` behaves: pages by cursor, chosen fields, strict bodies, dry runs, conditional writes."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.db.models import Model
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import serializers, status
from rest_framework.exceptions import APIException
from rest_framework.pagination import CursorPagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet, ModelViewSet, ReadOnlyModelViewSet

from providers import ownership


class Changed(APIException):
    status_code = status.HTTP_412_PRECONDITION_FAILED
    default_detail = "The resource was changed since you read it."
    default_code = "changed"


class Pages(CursorPagination):
    """A page stays the same page while rows are added."""

    ordering = "id"
    page_size = 50
    page_size_query_param = "limit"
    max_page_size = 500


class NewestFirst(Pages):
    ordering = "-id"


class ResourceSerializer(serializers.ModelSerializer):
    """Refuses fields that it does not know, and shows the fields that `?fields=` names."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        request = self.context.get("request")
        wanted = request.query_params.get("fields") if request is not None and request.method == "GET" else None
        if wanted:
            self._show_only([name.strip() for name in wanted.split(",") if name.strip()])

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict) and (unknown := sorted(data.keys() - self.fields.keys())):
            raise serializers.ValidationError({name: ["There is no such field."] for name in unknown})
        return super().to_internal_value(data)

    def _show_only(self, names: list[str]) -> None:
        unknown = [name for name in names if name not in self.fields]
        if unknown:
            raise serializers.ValidationError({"fields": [f"Not a field: {', '.join(unknown)}."]})
        for name in set(self.fields) - set(names):
            self.fields.pop(name)


class CheckedSerializer(ResourceSerializer):
    """Rows whose own rules answer: they are checked in one place, the model's `clean`."""

    def create(self, validated_data: dict[str, Any]) -> Any:
        return self._stored(self.Meta.model(), validated_data)

    def update(self, instance: Any, validated_data: dict[str, Any]) -> Any:
        return self._stored(instance, validated_data)

    def _stored(self, row: Any, values: dict[str, Any]) -> Any:
        for name, value in values.items():
            setattr(row, name, value)
        row.full_clean()
        row.save()
        return row


def asked(request: Request, name: str, *, default: bool = False) -> bool:
    """A yes or no of the query string."""
    value = request.query_params.get(name)
    return default if value is None else serializers.BooleanField().run_validation(value)


_FIELDS = OpenApiParameter("fields", str, description="Show these fields only, separated by commas.")
_DRY_RUN = OpenApiParameter("dry_run", bool, description="Check everything, answer as if done, and change nothing.")
_IF_MATCH = OpenApiParameter(
    "If-Match", str, OpenApiParameter.HEADER, description="Refuse with 412 unless it is the ETag."
)


class _Reading(GenericViewSet):
    lookup_value_regex = "[0-9]{1,18}"
    pagination_class: Any = Pages

    def etag(self, row: Model) -> str:
        changed_at = getattr(row, "updated_at", None) or getattr(row, "at", None)
        return f'"{row.pk}-{changed_at.timestamp() * 1_000_000:.0f}"' if changed_at else f'"{row.pk}"'

    def shown(self, row: Model, code: int = 200) -> Response:
        return Response(self.get_serializer(row).data, status=code, headers={"ETag": self.etag(row)})


@extend_schema_view(list=extend_schema(parameters=[_FIELDS]), retrieve=extend_schema(parameters=[_FIELDS]))
class ReadOnlyResource(_Reading, ReadOnlyModelViewSet):
    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return self.shown(self.get_object())


@extend_schema_view(
    list=extend_schema(parameters=[_FIELDS]),
    retrieve=extend_schema(parameters=[_FIELDS]),
    create=extend_schema(parameters=[_DRY_RUN]),
    update=extend_schema(parameters=[_DRY_RUN, _IF_MATCH]),
    partial_update=extend_schema(parameters=[_DRY_RUN, _IF_MATCH]),
    destroy=extend_schema(parameters=[_DRY_RUN, _IF_MATCH]),
)
class Resource(_Reading, ModelViewSet):
    """A dry run goes through the whole write and is rolled back: what it answers is what would have happened."""

    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        row = self.get_object()
        if request.headers.get("If-None-Match") == self.etag(row):
            return Response(status=status.HTTP_304_NOT_MODIFIED, headers={"ETag": self.etag(row)})
        return self.shown(row)

    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        with transaction.atomic():
            serializer = self.get_serializer(data=request.data)
            serializer.is_valid(raise_exception=True)
            row = serializer.save()
            return self._ended(self.shown(row, status.HTTP_201_CREATED))

    def update(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        with transaction.atomic():
            row = self._unchanged(self._locked())
            if hasattr(row, "managed_by"):
                ownership.refuse_if_owned(row)
            serializer = self.get_serializer(row, data=request.data, partial=kwargs.get("partial", False))
            serializer.is_valid(raise_exception=True)
            return self._ended(self.shown(serializer.save()))

    def destroy(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        with transaction.atomic():
            row = self._unchanged(self._locked())
            ownership.refuse_removal_if_owned(row)
            row.delete()
            return self._ended(Response(status=status.HTTP_204_NO_CONTENT))

    def is_dry_run(self) -> bool:
        return asked(self.request, "dry_run")

    def _locked(self) -> Any:
        row = self.get_object()
        return type(row)._base_manager.select_for_update().get(pk=row.pk)

    def _unchanged(self, row: Any) -> Any:
        expected = self.request.headers.get("If-Match")
        if expected and expected != "*" and self.etag(row) not in [tag.strip() for tag in expected.split(",")]:
            raise Changed
        return row

    def _ended(self, response: Response) -> Response:
        if self.is_dry_run():
            transaction.set_rollback(True)
            response.status_code = status.HTTP_200_OK
            response["Dry-Run"] = "true"
        return response
