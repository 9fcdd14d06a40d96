"""What stands where no view answered: a problem document for the API's callers, Django's pages for people."""

from __future__ import annotations

from http import HTTPStatus

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views import defaults

_API = ("/api/", "/providers", "/generate")


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """What Django refuses before any view: a Host that is not ours, too many fields. The log says which."""
    if _is_of_the_api(request):
        return _problem(request, 400, "The request cannot be served as it is.", "bad_request")
    return defaults.bad_request(request, exception)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    if _is_of_the_api(request):
        return _problem(request, 404, "There is nothing at this path.", "not_found")
    return defaults.page_not_found(request, exception)


def server_error(request: HttpRequest) -> HttpResponse:
    """The reason stands in the log, beside the request id."""
    if _is_of_the_api(request):
        return _problem(request, 500, "The gateway failed; its log says why.", "internal_error")
    return defaults.server_error(request)


def _is_of_the_api(request: HttpRequest) -> bool:
    """By its path; elsewhere (a client whose base URL lacks `/v1`) by who asks: only browsers ask for HTML by name."""
    return request.path.startswith(_API) or "text/html" not in request.headers.get("Accept", "")


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
