"""`/v1/responses/resp_…`: what was kept of a response, for the client key that asked it. Made at `inference.endpoints.responses`."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator

from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import close_old_connections
from django.http import HttpResponseBase, StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from inference import jobs, kept_responses, response_following, response_keeper
from inference.api.openai_lists import limit_of
from inference.api.openai_shape import KeptView
from inference.errors import InvalidRequest, NotFound
from inference.response_models import KeptResponse
from inference.wire.responses_objects import OVER

_CANCEL_SECONDS = 3.0
"""How long a client waits to hear that its response has ended; a worker looks twice a second."""
_MOST_ITEMS, _USUAL_ITEMS = 100, 20
_NUMBER = re.compile(r"-?[0-9]{1,18}")
_OBJECT = OpenApiTypes.OBJECT


class _ResponseView(KeptView):
    def row(self, request: Request, response_id: str) -> KeptResponse:
        row = kept_responses.find(request.auth.prefix, response_id)
        if row is None:
            raise NotFound(
                f"Response with id '{response_id}' not found.", param="response_id", code="response_not_found"
            )
        return row


class ResponseView(_ResponseView):
    @extend_schema(
        responses=_OBJECT,
        parameters=[OpenApiParameter("stream", bool), OpenApiParameter("starting_after", int)],
    )
    def get(self, request: Request, response_id: str) -> HttpResponseBase:
        """The response; with `stream=true` the events of one that is answered in the background, also after its end."""
        row = self.row(request, response_id)
        if request.query_params.get("stream") != "true":
            return Response(kept_responses.as_it_stands(row))
        if not row.question.reveal():
            raise InvalidRequest("Only a response made with 'background' can be streamed again.", param="stream")
        after = request.query_params.get("starting_after", "-1")
        if _NUMBER.fullmatch(after) is None:
            raise InvalidRequest("'starting_after' must be the number of an event.", param="starting_after")
        return StreamingHttpResponse(
            _events(row.owner, row.response_id, int(after)),
            content_type="text/event-stream; charset=utf-8",
            headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
        )

    @extend_schema(responses={200: _OBJECT})
    def delete(self, request: Request, response_id: str) -> Response:
        """Forget it; one that is still worked on is cancelled."""
        row = self.row(request, response_id)
        if row.job is not None and not row.job.is_over:
            jobs.cancel(row.job)
        kept_responses.delete(row)
        return Response({"id": response_id, "object": "response", "deleted": True})


class ResponseCancelView(_ResponseView):
    @extend_schema(request=None, responses=_OBJECT)
    def post(self, request: Request, response_id: str) -> Response:
        """End one that is answered in the background. One that is over stays as it ended."""
        row = self.row(request, response_id)
        if not row.question.reveal():
            raise InvalidRequest("Only a response made with 'background' can be cancelled.", param="response_id")
        if row.job is not None and not row.job.is_over:
            jobs.cancel(row.job)
        give_up_at = time.monotonic() + _CANCEL_SECONDS
        while (response := kept_responses.as_it_stands(row))["status"] not in OVER and time.monotonic() < give_up_at:
            time.sleep(0.1)
            row = self.row(request, response_id)
        return Response(response)


class ResponseInputItemsView(_ResponseView):
    @extend_schema(
        operation_id="v1_responses_input_items",
        responses=_OBJECT,
        parameters=[
            OpenApiParameter("after", str),
            OpenApiParameter("limit", int),
            OpenApiParameter("order", str, enum=["asc", "desc"]),
        ],
    )
    def get(self, request: Request, response_id: str) -> Response:
        """What it was asked with, the newest first; `order`, `after` and `limit` as at OpenAI."""
        items = kept_responses.input_of(self.row(request, response_id))
        order = request.query_params.get("order", "desc")
        if order not in ("asc", "desc"):
            raise InvalidRequest("'order' must be asc or desc.", param="order")
        if order == "desc":
            items.reverse()
        if after := request.query_params.get("after"):
            place = next((n for n, item in enumerate(items) if item.get("id") == after), None)
            if place is None:
                raise InvalidRequest(f"There is no item '{after[:100]}' here.", param="after")
            items = items[place + 1 :]
        page = items[: limit_of(request.query_params.get("limit"), _MOST_ITEMS, _USUAL_ITEMS)]
        return Response(
            {
                "object": "list",
                "data": page,
                "first_id": page[0]["id"] if page else None,
                "last_id": page[-1]["id"] if page else None,
                "has_more": len(page) < len(items),
            }
        )


def _events(owner: str, response_id: str, after: int) -> AsyncIterator[bytes]:
    def standing() -> response_following.Standing | None:
        try:
            return response_keeper.standing_of(owner, response_id)
        finally:
            close_old_connections()

    return response_following.follow(sync_to_async(standing), settings.REDIS_URL, after)
