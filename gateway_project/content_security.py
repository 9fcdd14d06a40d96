"""Whom a page of ours may load from and send to: ourselves alone; nobody may frame it. https://www.w3.org/TR/CSP3/

The admin's theme evaluates expressions that stand in its templates (Alpine.js), so scripts may be inline. One that should not be
there still has no other place to tell what it read: no script, picture, form or request leads away from the gateway.
"""

from __future__ import annotations

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase

HEADER = "Content-Security-Policy"
_RULES = {
    "default-src": "'self'",
    "script-src": "'self' 'unsafe-inline' 'unsafe-eval'",
    "style-src": "'self' 'unsafe-inline'",
    "img-src": "'self' data: blob:",
    "font-src": "'self' data:",
    "object-src": "'none'",
    "base-uri": "'self'",
    "frame-ancestors": "'none'",
}
_OWN_FORMS = {"form-action": "'self'"}


def policy(*, signs_on_elsewhere: bool) -> str:
    """Sign-on begins with a form of ours that leads to the identity provider, at an address which only that provider knows."""
    rules = _RULES if signs_on_elsewhere else _RULES | _OWN_FORMS
    return "; ".join(f"{name} {value}" for name, value in rules.items())


class ContentSecurityMiddleware:
    """Says it on pages; data has no use for it."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response
        self._policy = policy(signs_on_elsewhere=settings.SIGN_ON is not None)

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        if response.get("Content-Type", "").startswith("text/html"):
            response.setdefault(HEADER, self._policy)
        return response
