"""Clients of the REST API, each with a key of its own."""

from __future__ import annotations

from rest_framework.test import APIClient

from routing import issuing

REGISTRY = ("registry:read", "registry:write")


def caller(*scopes: str, name: str = "tests") -> APIClient:
    """A client whose key holds `scopes`; `REGISTRY` without any."""
    _, secret = issuing.issue(name, scopes or REGISTRY)
    return with_key(secret.reveal())


def with_key(key: str) -> APIClient:
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {key}")
    return client
