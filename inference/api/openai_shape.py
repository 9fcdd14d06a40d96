"""What `/v1` keeps between requests (files, batches, stored responses) is served by Django, in the shape that OpenAI's clients expect."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from django.core.exceptions import RequestDataTooBig, SuspiciousOperation
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from inference.errors import GatewayError, InvalidRequest
from inference.wire import errors as wire_errors
from routing.api.problems import as_problem

_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


class KeptView(APIView):
    """Scope `generate`; what is another client key's is not there. Errors are OpenAI's envelope, never problem documents."""

    required_scopes = dict.fromkeys(("GET", "POST", "DELETE"), "generate")
    renderer_classes = [JSONRenderer]

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        asked = [value for _, values in request.query_params.lists() for value in values]
        if any("\0" in told for told in (*kwargs.values(), *asked)):
            raise InvalidRequest("The request's URL has a NUL character.")  # no database would take it

    def perform_content_negotiation(self, request: Request, force: bool = False) -> Any:
        """Clients ask for whatever they like and get JSON."""
        return super().perform_content_negotiation(request, force=True)

    def get_exception_handler(self) -> Callable[..., Response | None]:
        return failure_as_envelope


def failure_as_envelope(error: Exception, context: dict[str, Any]) -> Response | None:
    """`{"error": {"message", "type", "param", "code"}}`; None for what nobody knows, which Django logs and answers with 500."""
    if isinstance(error, SuspiciousOperation) and not isinstance(error, RequestDataTooBig):
        error = InvalidRequest("The request has more parameters, fields or files than one may have.")
    if isinstance(error, GatewayError):
        wire_errors.log(error, getattr(context.get("request"), "request_id", ""), "")
        response = Response(orjson.loads(wire_errors.body_of(error)), status=error.status)
        for name, value in wire_errors.headers_of(error):
            response[name.decode()] = value.decode()
        response.exception = True
        return response
    response = as_problem(error, context)
    if response is not None:
        response.data = envelope_of(response.data)
        response.content_type = "application/json"
    return response


def envelope_of(problem: dict[str, Any]) -> dict[str, Any]:
    """A problem document as OpenAI's envelope; of several fields at fault, `param` names the first."""
    status = problem["status"]
    fields = problem.get("errors") or [{}]
    return {
        "error": {
            "message": problem["detail"],
            "type": _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error"),
            "param": fields[0].get("field") or None,
            "code": problem["code"],
        }
    }
