"""What drf-spectacular cannot see by itself: how calls are authenticated, and that a slash at the end is optional."""

from __future__ import annotations

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension


class ClientKeyScheme(OpenApiAuthenticationExtension):
    target_class = "routing.api.authentication.ClientKeyAuthentication"
    name = "clientKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        return {"type": "http", "scheme": "bearer", "description": "A client key, such as gw-0123456789ab-…"}


def without_trailing_slashes(endpoints: list[tuple[Any, ...]], **kwargs: Any) -> list[tuple[Any, ...]]:
    """Both forms of a path answer; the schema shows one."""
    return [(path.rstrip("/") or "/", regex, method, view) for path, regex, method, view in endpoints]
