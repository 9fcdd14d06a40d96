"""What stands where no view answered: a problem document for the API's callers, Django's pages for people."""

from __future__ import annotations

from http import HTTPStatus

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views import defaults

_API = ("/api/", "/providers", "/generate")


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    if request.path.startswith(_API):
        return _problem(request, 404, "There is nothing at this path.", "not_found")
    return defaults.page_not_found(request, exception)


def server_error(request: HttpRequest) -> HttpResponse:
    """The reason stands in the log, beside the request id."""
    if request.path.startswith(_API):
        return _problem(request, 500, "The gateway failed; its log says why.", "internal_error")
    return defaults.server_error(request)


def _problem(request: HttpRequest, status: int, detail: str, code: str) -> HttpResponse:
    document = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
    }
    document["request_id"] = getattr(request, "request_id", "")
    return JsonResponse(document, status=status, content_type="application/problem+json")
