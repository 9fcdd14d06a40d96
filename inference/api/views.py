"""Generation over REST: at once, as a background job, and in the backoffice's shape.

A generation that failed is an error: an HTTP status with a problem document that also holds `error_details` as the source
systems' clients read them. It is never text in the content.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.db.models import QuerySet
from django.http import Http404, StreamingHttpResponse
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import exceptions, serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from inference import client, events, jobs
from inference.api import streams
from inference.api.serializers import (
    BackofficeGenerateIn,
    BackofficeGenerateOut,
    JobOut,
    LLMRequestIn,
    LLMResponseOut,
)
from inference.client import Completion, LLMRequest, LLMResponse
from inference.errors import GatewayError
from inference.models import Job
from inference.wire import errors as wire_errors
from inference.wire import problems
from providers.resources import NewestFirst
from routing.api.problems import CONTENT_TYPE, as_problem

GENERATE, ADMIN = "generate", "admin"


def failure_as_problem(error: Exception, context: dict[str, Any]) -> Response | None:
    if not isinstance(error, GatewayError):
        return as_problem(error, context)
    request_id = getattr(context.get("request"), "request_id", "")
    wire_errors.log(error, request_id, "")
    response = Response(problems.document(error, request_id), status=error.status, content_type=CONTENT_TYPE)
    for name, value in problems.headers_of(error):
        response[name.decode()] = value.decode()
    response.exception = True
    return response


class GeneratingView(APIView):
    required_scopes = {"GET": GENERATE, "POST": GENERATE}

    def get_exception_handler(self) -> Callable[..., Response | None]:
        return failure_as_problem

    def read(self, body: type[serializers.Serializer]) -> dict[str, Any]:
        serializer = body(data=self.request.data)
        serializer.is_valid(raise_exception=True)
        if serializer.validated_data.get("stream"):
            raise serializers.ValidationError(
                {"stream": "For a stream use POST /v1/chat/completions, or a job (POST /api/v1/jobs) and its events."}
            )
        return dict(serializer.validated_data)


class GenerateView(GeneratingView):
    @extend_schema(request=LLMRequestIn, responses=LLMResponseOut)
    def post(self, request: Request) -> Response:
        """Generate and wait for the whole answer."""
        asked = LLMRequest.from_dict(self.read(LLMRequestIn))
        completion = _complete(asked, request)
        return Response(LLMResponse.from_completion(completion, asked.request_id or str(uuid.uuid4())).to_dict())


class BackofficeGenerateView(GeneratingView):
    @extend_schema(request=BackofficeGenerateIn, responses=BackofficeGenerateOut)
    def post(self, request: Request) -> Response:
        """The same in the backoffice's shape."""
        told = self.read(BackofficeGenerateIn)
        config = {"model_identifier": told["model"]}
        for name in ("provider_id", "temperature", "max_tokens", "system_prompt"):
            if told.get(name) is not None:
                config[name] = told[name]
        created_at = timezone.now()
        completion = _complete(LLMRequest(prompt_content=told["prompt"], config=config), request)
        answer = LLMResponse.from_completion(completion)
        return Response(
            {
                "request_id": answer.request_id,
                "content": answer.generated_content or "",
                "model": completion.model_id,
                "provider_id": completion.provider_id,
                "finish_reason": answer.finish_reason,
                **(answer.usage or {}),
                "latency_ms": round(completion.total_seconds * 1000, 3),
                "created_at": created_at.isoformat(),
            }
        )


def _complete(asked: LLMRequest, request: Request) -> Completion:
    return client.complete(
        asked.chat_body(),
        identity=request.auth,
        provider_id=asked.provider_id,
        session_id=asked.session_id,
        timeout_seconds=asked.config.get("timeout_seconds"),
    )


# Jobs -----------------------------------------------------------------------------------------------------------------


class JobView(GeneratingView):
    """Jobs belong to the client key that made them; for any other, but an admin's, they are not there."""

    def own(self) -> QuerySet[Job]:
        identity = self.request.auth
        return Job.objects.all() if identity.may(ADMIN) else Job.objects.filter(owner=identity.prefix)

    def job(self) -> Job:
        job = self.own().filter(pk=self.kwargs["job_id"]).first()
        if job is None:
            raise Http404("There is no such job.")
        return job

    @extend_schema(responses=JobOut)
    def get(self, request: Request, job_id: uuid.UUID) -> Response:
        """How the job stands; its result or error once it is over."""
        return Response(JobOut(self.job()).data)


class JobsView(JobView):
    @extend_schema(request=LLMRequestIn, responses={202: JobOut})
    def post(self, request: Request) -> Response:
        """Generate in the background. The answer's Location tells where the job is."""
        serializer = LLMRequestIn(data=request.data)
        serializer.is_valid(raise_exception=True)
        job = jobs.create(serializer.validated_data, request.auth)
        shown = JobOut(job).data
        return Response(shown, status=202, headers={"Location": shown["links"]["self"]})

    @extend_schema(
        responses=JobOut(many=True),
        parameters=[
            OpenApiParameter("state", str, enum=Job.State.values),
            OpenApiParameter("key", str, description="Prefix of the client key that asked."),
            OpenApiParameter("model", str, description="As it was asked for."),
            OpenApiParameter("cursor", str),
            OpenApiParameter("limit", int),
        ],
    )
    def get(self, request: Request) -> Response:  # type: ignore[override]
        """Your jobs, the newest first."""
        rows = self.own()
        state = request.query_params.get("state")
        if state is not None:
            if state not in Job.State.values:
                raise serializers.ValidationError({"state": f"One of: {', '.join(Job.State.values)}."})
            rows = rows.filter(state=state)
        for name, column in (("key", "owner"), ("model", "model")):
            if told := request.query_params.get(name):
                rows = rows.filter(**{column: told})
        pages = NewestFirst()
        pages.ordering = ("-created_at", "-id")
        return pages.get_paginated_response(JobOut(pages.paginate_queryset(rows, request, self), many=True).data)


class Conflict(exceptions.APIException):
    status_code = 409
    default_code = "conflict"


class JobCancelView(JobView):
    http_method_names = ["post", "options"]

    @extend_schema(request=None, responses=JobOut)
    def post(self, request: Request, job_id: uuid.UUID) -> Response:
        """End a job that waits at once, and one that runs within seconds. One that is over stays as it ended."""
        return Response(JobOut(jobs.cancel(self.job())).data)


class JobRetryView(JobView):
    http_method_names = ["post", "options"]

    @extend_schema(request=None, responses={202: JobOut})
    def post(self, request: Request, job_id: uuid.UUID) -> Response:
        """Ask the same again as a new job, in the name of the key that asked; 409 for one that is not over."""
        try:
            job = jobs.retry(self.job())
        except ValueError as error:
            raise Conflict(str(error)) from error
        shown = JobOut(job).data
        return Response(shown, status=202, headers={"Location": shown["links"]["self"]})


class JobEventsView(JobView):
    def perform_content_negotiation(self, request: Request, force: bool = False) -> Any:
        """Clients ask for `text/event-stream`, which is what they get; errors are JSON all the same."""
        return super().perform_content_negotiation(request, force=True)

    @extend_schema(
        responses={(200, "text/event-stream"): OpenApiTypes.STR},
        parameters=[OpenApiParameter("Last-Event-ID", str, OpenApiParameter.HEADER)],
    )
    def get(self, request: Request, job_id: uuid.UUID) -> StreamingHttpResponse:  # type: ignore[override]
        """The job's events, from the beginning or from `Last-Event-ID` on, until it is over."""
        job = self.job()
        after = request.headers.get("Last-Event-ID") or events.BEGINNING
        if not events.is_event_id(after):
            raise serializers.ValidationError({"Last-Event-ID": "This is not the id of an event."})
        return StreamingHttpResponse(
            streams.job_events(settings.REDIS_URL, job.pk, after),
            content_type="text/event-stream; charset=utf-8",
            headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
        )
