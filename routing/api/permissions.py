"""Deny by default: a view says which scope each of its methods needs, or nobody may call it."""

from __future__ import annotations

from typing import Any

from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from routing.types import Identity

ANY = "any"
"""What a view says that every valid key may call."""
ADMINS_ONLY = dict.fromkeys(("GET", "POST", "PUT", "PATCH", "DELETE"), "admin")
"""What a resource says that only keys with the scope `admin` may read and change."""


class DenyUnlessScoped(BasePermission):
    """Reads the view's `required_scopes`: method to a scope, or to several of which one is enough."""

    code = "insufficient_scope"

    def has_permission(self, request: Request, view: Any) -> bool:
        identity = request.auth
        if not isinstance(identity, Identity):
            return False
        needed = _needed(request.method or "", view)
        self.message = f"This key lacks the scope {' or '.join(needed)}." if needed else "No key may call this."
        return any(scope == ANY or identity.may(scope) for scope in needed)


def _needed(method: str, view: Any) -> tuple[str, ...]:
    declared: dict[str, str | tuple[str, ...]] = getattr(view, "required_scopes", {})
    if (method in {"HEAD", "OPTIONS"} and method not in declared) or method not in view.allowed_methods:
        # A method that only describes, or that the view will answer with 405, needs what the view's mildest method needs.
        method = "GET" if "GET" in declared else next(iter(declared), "")
    needed = declared.get(method, ())
    return (needed,) if isinstance(needed, str) else needed
