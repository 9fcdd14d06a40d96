"""`/api/v1/workers`: who lives, what runs and waits, which models are loaded; and what may be asked of a worker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import exceptions, serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from inference import process_list, worker_actions
from inference.process_list import RedisAway
from inference.worker_actions import NoSuchWorker, NotTold


class NotReached(exceptions.APIException):
    status_code = 503
    default_detail = "Redis does not answer."
    default_code = "not_shared"


class Unload(serializers.Serializer):
    model = serializers.CharField(max_length=64, help_text="The `id` that the list tells of a loaded model.")


class OfQueue(serializers.Serializer):
    queue = serializers.CharField(
        max_length=64, required=False, default="", allow_blank=True, help_text="All, without."
    )


class WorkersView(APIView):
    required_scopes = {"GET": "registry:read"}

    @extend_schema(responses=OpenApiTypes.OBJECT, operation_id="workers_list")
    def get(self, request: Request) -> Response:
        """Workers, the clock, web processes and queues, as they told of themselves in the last seconds."""
        try:
            return Response(process_list.document(process_list.look()))
        except RedisAway as error:
            raise NotReached(str(error)) from error


class _Asking(APIView):
    required_scopes = {"POST": "admin"}

    def asked(self, ask: Callable[..., Any], *arguments: str) -> Any:
        try:
            return ask(*arguments)
        except NoSuchWorker as error:
            raise exceptions.NotFound(str(error)) from error
        except NotTold as error:
            raise NotReached(str(error)) from error


class UnloadView(_Asking):
    @extend_schema(request=Unload, responses={202: OpenApiTypes.OBJECT}, operation_id="workers_unload")
    def post(self, request: Request, worker: str) -> Response:
        """Ask a worker to unload a model; one that is in use stays. The list tells within seconds how that went."""
        told = Unload(data=request.data)
        told.is_valid(raise_exception=True)
        return Response(
            {"asked_to_unload": self.asked(worker_actions.unload, worker, told.validated_data["model"])}, 202
        )


class PauseView(_Asking):
    @extend_schema(request=OfQueue, responses={202: OpenApiTypes.OBJECT}, operation_id="workers_pause")
    def post(self, request: Request, worker: str) -> Response:
        """Let a worker take no more from a queue, or from any; what runs ends by itself. A restarted one takes again."""
        told = OfQueue(data=request.data)
        told.is_valid(raise_exception=True)
        return Response({"paused": self.asked(worker_actions.pause, worker, told.validated_data["queue"])}, 202)


class ResumeView(_Asking):
    @extend_schema(request=OfQueue, responses={202: OpenApiTypes.OBJECT}, operation_id="workers_resume")
    def post(self, request: Request, worker: str) -> Response:
        """Let a worker take from a queue again, or from all that it serves."""
        told = OfQueue(data=request.data)
        told.is_valid(raise_exception=True)
        return Response({"resumed": self.asked(worker_actions.resume, worker, told.validated_data["queue"])}, 202)
