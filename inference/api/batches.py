"""`/v1/batches`: https://platform.openai.com/docs/api-reference/batch"""

from __future__ import annotations

from django.db.models import QuerySet
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.parsers import JSONParser
from rest_framework.request import Request
from rest_framework.response import Response

from inference import batches
from inference.api.openai_lists import listed
from inference.api.openai_shape import KeptView
from inference.batch_models import Batch
from inference.errors import InvalidRequest, NotFound

MOST_LISTED, USUALLY_LISTED = 100, 20
_OBJECT = OpenApiTypes.OBJECT


class BatchView(KeptView):
    """One batch of the key that asks."""

    http_method_names = ["get", "options"]

    def own(self) -> QuerySet[Batch]:
        return Batch.objects.filter(owner=self.request.auth.prefix)

    def batch(self) -> Batch:
        found = self.own().filter(pk=self.kwargs["batch_id"]).first()
        if found is None:
            raise NotFound(f"There is no batch '{self.kwargs['batch_id'][:64]}'.", param="batch_id")
        return found

    @extend_schema(responses=_OBJECT)
    def get(self, request: Request, batch_id: str) -> Response:
        """How the batch stands."""
        return Response(batches.document(self.batch()))


class BatchesView(BatchView):
    http_method_names = ["get", "post", "options"]
    parser_classes = [JSONParser]

    @extend_schema(
        request=_OBJECT,
        responses=_OBJECT,
        parameters=[
            OpenApiParameter(batches.PRIORITY_HEADER, str, OpenApiParameter.HEADER, enum=["high", "normal", "low"])
        ],
    )
    def post(self, request: Request) -> Response:
        """Have the requests of a file answered when there is time for them."""
        if not isinstance(request.data, dict):
            raise InvalidRequest("The request body must be a JSON object.")
        priority = request.headers.get(batches.PRIORITY_HEADER, "")
        return Response(batches.document(batches.create(request.data, request.auth, priority)))

    @extend_schema(
        operation_id="v1_batches_list",
        responses=_OBJECT,
        parameters=[OpenApiParameter("after", str), OpenApiParameter("limit", int)],
    )
    def get(self, request: Request) -> Response:  # type: ignore[override]
        """Your batches, the newest first."""
        return Response(listed(self.own(), request, batches.document, most=MOST_LISTED, usual=USUALLY_LISTED))


class BatchCancelView(BatchView):
    http_method_names = ["post", "options"]

    @extend_schema(request=None, responses=_OBJECT)
    def post(self, request: Request, batch_id: str) -> Response:
        """Begin no further line; what is answered is kept. A batch that is over stays as it ended."""
        return Response(batches.document(batches.cancel(self.batch())))
