"""Clients of the REST API, each with a key of its own."""

from __future__ import annotations

from rest_framework.test import APIClient

from routing import issuing

REGISTRY = ("registry:read", "registry:write")
SEED_BODY = {
    "provider_id": "openai",
    "provider_type": "openai",
    "display_name": "OpenAI",
    "enabled": True,
    "connection_params": {"api_base": "https://api.openai.com/v1"},
    "models": [
        {
            "model_id": "gpt-4-turbo-preview",
            "display_name": "GPT-4 Turbo",
            "context_window": 128000,
            "max_tokens": 4096,
        }
    ],
    "api_key": {"key_value": "your-api-key", "is_encrypted": True},
}
"""A provider as the source systems' own client creates one."""


def caller(*scopes: str, name: str = "tests") -> APIClient:
    """A client whose key holds `scopes`; `REGISTRY` without any."""
    _, secret = issuing.issue(name, scopes or REGISTRY)
    return with_key(secret.reveal())


def with_key(key: str) -> APIClient:
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {key}")
    return client
