"""Middleware of the control plane: a request id on every answer, the actor that changes are attributed to, and who still uses
the old paths."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from inference import old_paths, trace_ids
from providers import actor
from routing import client_addresses, scope_grants
from routing.types import Identity

SECRETS = "secrets:read"
_SAFE_ID = re.compile(r"[A-Za-z0-9._:\-]{1,128}")


class RequestIdMiddleware:
    """Takes a well-formed `X-Request-Id` of the client, else makes one; and names the trace on every answer."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        given = request.headers.get("X-Request-Id", "")
        request.request_id = given if _SAFE_ID.fullmatch(given) else f"req_{uuid.uuid4().hex}"  # type: ignore[attr-defined]
        origin = trace_ids.origin_of(
            request.headers, client_addresses.of_meta(request.META, settings.GATEWAY_TRUSTED_PROXIES)
        )
        if not origin.trace_id:
            origin = origin._replace(trace_id=request.request_id)  # type: ignore[attr-defined]
        with trace_ids.arriving(origin):
            response = self.get_response(request)
        response["X-Request-Id"] = request.request_id  # type: ignore[attr-defined]
        response["X-Trace-Id"] = trace_ids.trace_of(request.headers, request.request_id)  # type: ignore[attr-defined]
        return response


class ActorMiddleware:
    """Names the admin's user; the API's authentication names the key that it found."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        user = getattr(request, "user", None)
        name = f"user:{user.get_username()}" if user is not None and user.is_authenticated else "anonymous"
        with actor.acting_as(
            name,
            request_id=getattr(request, "request_id", ""),
            may_handle_secrets=lambda: scope_grants.may_handle(request.user, [SECRETS]),
        ):
            return self.get_response(request)


class OldPathsMiddleware:
    """Counts who comes through the paths of the replaced systems, answered or refused; see `inference.old_paths`."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if family := old_paths.family_of(request.path_info):
            old_paths.counting.note(family, *_client_of(request))
        return response


def _client_of(request: HttpRequest) -> tuple[str, str]:
    """Who asked, and that client's name; a stranger is known by the address that it came from."""
    identity = getattr(request, "auth", None)
    if isinstance(identity, Identity):
        return f"key:{identity.prefix}", identity.name
    user = getattr(request, "user", None)
    if user is not None and getattr(user, "is_authenticated", False):
        return f"user:{user.get_username()}", ""
    return f"address:{request.META.get('REMOTE_ADDR', '') or 'unknown'}", ""
