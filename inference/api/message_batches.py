"""`/v1/messages/batches`: https://platform.claude.com/docs/en/api/messages/batches"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.db.models import QuerySet
from django.http import HttpRequest, StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from inference import batches, kept_files, message_batches
from inference.api.anthropic_lists import listed
from inference.api.anthropic_shape import AnthropicView
from inference.batch_models import Batch
from inference.errors import NotFound
from inference.wire import message_batches as wire

_OBJECT = OpenApiTypes.OBJECT


class MessageBatchView(AnthropicView):
    """One message batch of the key that asks."""

    http_method_names = ["get", "delete", "options"]

    def own(self) -> QuerySet[Batch]:
        return message_batches.own(self.request.auth.prefix)

    def batch(self) -> Batch:
        return self.named(self.kwargs["message_batch_id"], "message_batch_id")

    def named(self, message_batch_id: str, param: str) -> Batch:
        found = self.own().filter(pk=wire.ours(message_batch_id)).first()
        if found is None:
            raise NotFound(f"There is no message batch '{message_batch_id[:64]}'.", param=param)
        return found

    def told(self, batch: Batch) -> dict[str, Any]:
        path = f"{wire.ENDPOINT}/batches/{wire.theirs(batch.pk)}/results"
        return message_batches.document(batch, self.request.build_absolute_uri(path))

    @extend_schema(responses=_OBJECT)
    def get(self, request: Request, message_batch_id: str) -> Response:
        """How the message batch stands."""
        return Response(self.told(self.batch()))

    @extend_schema(responses={200: _OBJECT})
    def delete(self, request: Request, message_batch_id: str) -> Response:
        """Delete it with its results; refused before it has ended."""
        batch = self.batch()
        message_batches.delete(batch)
        return Response({"id": message_batch_id, "type": "message_batch_deleted"})


class MessageBatchesView(MessageBatchView):
    http_method_names = ["get", "post", "options"]

    @extend_schema(
        request=_OBJECT,
        responses=_OBJECT,
        parameters=[
            OpenApiParameter(batches.PRIORITY_HEADER, str, OpenApiParameter.HEADER, enum=["high", "normal", "low"]),
            OpenApiParameter(message_batches.TAGS, str, OpenApiParameter.HEADER),
        ],
    )
    def post(self, request: Request) -> Response:
        """Have `requests` answered when there is time for them: of each the `custom_id` and, as `params`, what `/v1/messages` takes."""
        body = iter(partial(request._request.read, kept_files.PIECE_BYTES), b"")
        return Response(self.told(message_batches.create(body, request.headers, request.auth)))

    @extend_schema(
        operation_id="v1_messages_batches_list",
        responses=_OBJECT,
        parameters=[
            OpenApiParameter("after_id", str),
            OpenApiParameter("before_id", str),
            OpenApiParameter("limit", int),
        ],
    )
    def get(self, request: Request) -> Response:  # type: ignore[override]
        """Your message batches, the newest first."""
        return Response(listed(self.own(), request.query_params, self.named, self.told))


class MessageBatchCancelView(MessageBatchView):
    http_method_names = ["post", "options"]

    @extend_schema(request=None, responses=_OBJECT)
    def post(self, request: Request, message_batch_id: str) -> Response:
        """Begin no further request; what is answered is kept. One that has ended stays as it ended."""
        return Response(self.told(batches.cancel(self.batch())))


class MessageBatchResultsView(MessageBatchView):
    http_method_names = ["get", "options"]

    @extend_schema(responses={(200, "application/x-jsonl"): OpenApiTypes.BINARY})
    def get(self, request: Request, message_batch_id: str) -> StreamingHttpResponse:  # type: ignore[override]
        """A line of JSON for each request, once the message batch has ended."""
        pieces = message_batches.results(self.batch())
        return StreamingHttpResponse(_to_send(request._request, pieces), content_type="application/x-jsonl")


def _to_send(request: HttpRequest, pieces: Iterator[bytes]) -> AsyncIterator[bytes] | Iterator[bytes]:
    """In the colour of the server; see `kept_files.to_send`."""
    return _later(pieces) if isinstance(request, ASGIRequest) else pieces


async def _later(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    def following() -> bytes:
        return next(pieces, b"")

    read = sync_to_async(following)
    while piece := await read():
        yield piece
