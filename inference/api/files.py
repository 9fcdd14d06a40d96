"""`/v1/files`: https://platform.openai.com/docs/api-reference/files, and https://platform.claude.com/docs/en/api/beta/files

Both see the same files of the key, each in its own words.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db.models import QuerySet
from django.http import StreamingHttpResponse
from django.utils import timezone
from django.utils.http import content_disposition_header
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.parsers import FormParser, MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from inference import batches, kept_files, upload_guard
from inference.api import anthropic_lists
from inference.api.anthropic_shape import EitherView
from inference.api.openai_lists import listed
from inference.errors import InvalidRequest, NotFound
from inference.file_models import KeptFile
from inference.recording import storable
from inference.wire import anthropic_files

MOST_LISTED = 10_000
_OBJECT = OpenApiTypes.OBJECT


class FileView(EitherView):
    """One file of the key that asks."""

    def own(self) -> QuerySet[KeptFile]:
        return kept_files.own(self.request.auth.prefix)

    def file(self) -> KeptFile:
        return self.named(self.kwargs["file_id"], "file_id")

    def named(self, file_id: str, param: str) -> KeptFile:
        found = self.own().filter(pk=file_id).first()
        if found is None:
            raise NotFound(f"There is no file '{file_id[:64]}'.", param=param)
        return found

    def told(self, file: KeptFile) -> dict[str, Any]:
        if self.is_anthropics:
            return anthropic_files.metadata(file.pk, file.filename, file.size, file.created_at, file.expires_at)
        return kept_files.document(file)

    @extend_schema(responses=_OBJECT)
    def get(self, request: Request, file_id: str) -> Response:
        """What is known of the file."""
        return Response(self.told(self.file()))

    @extend_schema(responses={200: _OBJECT})
    def delete(self, request: Request, file_id: str) -> Response:
        """Delete the file; refused while a batch reads it."""
        file = self.file()
        if not kept_files.delete_unread(file.pk):
            raise InvalidRequest("The file is the input of a batch that is not over.", status=409, param="file_id")
        if self.is_anthropics:
            return Response(anthropic_files.deleted(file.pk))
        return Response({"id": file.pk, "object": "file", "deleted": True})


class FilesView(FileView):
    http_method_names = ["get", "post", "options"]
    parser_classes = [MultiPartParser, FormParser]

    @extend_schema(request={"multipart/form-data": _OBJECT}, responses=_OBJECT)
    def post(self, request: Request) -> Response:
        """Leave a file: `file`, `purpose`, and `expires_after[anchor]` with `expires_after[seconds]`; of Anthropic's clients `file`
        and `expires_in_seconds`."""
        told, sent = request.data, request.FILES.get("file")
        purpose = told.get("purpose", kept_files.USER_DATA if self.is_anthropics else None)
        if sent is None:
            raise InvalidRequest("Missing required parameter: 'file', as a part of a form.", param="file")
        if purpose not in kept_files.PURPOSES:
            raise InvalidRequest(f"'purpose' must be one of: {', '.join(kept_files.PURPOSES)}.", param="purpose")
        if sent.size > settings.GATEWAY_MAX_FILE_BYTES:
            raise upload_guard.too_large(settings.GATEWAY_MAX_FILE_BYTES)
        if sent.size > kept_files.room_of(request.auth.prefix):
            raise kept_files.full("file")
        now = timezone.now()
        kept = self.seconds_kept(told)
        usual = kept_files.usual_expiry(now) if purpose == kept_files.BATCH else None
        file = KeptFile(
            owner=request.auth.prefix,
            filename=storable(sent.name or "file"),
            purpose=purpose,
            created_at=now,
            expires_at=usual if kept is None else now + timedelta(seconds=kept),
        )
        stored = kept_files.keep(file, sent.chunks(kept_files.PIECE_BYTES), settings.GATEWAY_MAX_FILE_BYTES)
        kept_files.check_room(stored, "file")
        return Response(self.told(stored))

    def seconds_kept(self, told: Any) -> int | None:
        if self.is_anthropics:
            return anthropic_files.seconds_kept(told.get("expires_in_seconds"))
        return batches.seconds_kept(_expires_after(told), "expires_after")

    @extend_schema(
        operation_id="v1_files_list",
        responses=_OBJECT,
        parameters=[
            OpenApiParameter("after", str),
            OpenApiParameter("limit", int),
            OpenApiParameter("order", str, enum=["asc", "desc"]),
            OpenApiParameter("purpose", str),
            *(OpenApiParameter(name, str) for name in ("after_id", "before_id", "page", "ids[]")),
        ],
    )
    def get(self, request: Request) -> Response:  # type: ignore[override]
        """Your files, the newest first; of Anthropic's clients `after_id`, `before_id`, `page` and `ids[]` are theirs."""
        rows = self.own()
        if self.is_anthropics:
            return Response(self.page(rows))
        if purpose := request.query_params.get("purpose"):
            rows = rows.filter(purpose=purpose)
        return Response(listed(rows, request, kept_files.document, most=MOST_LISTED, usual=MOST_LISTED))

    def page(self, rows: QuerySet[KeptFile]) -> dict[str, Any]:
        """By their clients' older way of paging, and by `page`, which knows one direction."""
        asked = self.request.query_params
        if ids := anthropic_files.ids_of([*asked.getlist("ids[]"), *asked.getlist("ids")]):
            found = [self.told(file) for file in rows.filter(pk__in=ids).order_by("-created_at", "-id")]
            return {"data": found, "has_more": False, "next_page": None}
        words, named = asked.dict(), self.named
        if cursor := words.get("page"):
            words["after_id"], named = cursor, _placed
        page = anthropic_lists.listed(rows, words, named, self.told)
        goes_on = page["has_more"] and "before_id" not in words
        return page | {"next_page": anthropic_files.cursor_after(page["data"][-1]) if goes_on else None}


class FileContentView(FileView):
    http_method_names = ["get", "options"]

    @extend_schema(responses={(200, "application/octet-stream"): OpenApiTypes.BINARY})
    def get(self, request: Request, file_id: str) -> StreamingHttpResponse:  # type: ignore[override]
        """The file's content."""
        file = self.file()
        told = kept_files.to_send(request._request, file.pk)
        response = StreamingHttpResponse(told, content_type="application/octet-stream")
        response["Content-Length"] = str(file.size)
        response["Content-Disposition"] = content_disposition_header(True, file.filename)
        return response


def _placed(cursor: str, _: str) -> KeptFile:
    """What a page comes after, which need not be there any more."""
    created_at, file_id = anthropic_files.place_of(cursor)
    return KeptFile(id=file_id, created_at=created_at)


def _expires_after(told: Any) -> dict[str, Any] | None:
    """A form's members as an object."""
    found = {name: told.get(f"expires_after[{name}]") for name in ("anchor", "seconds")}
    return found if any(value is not None for value in found.values()) else None
