"""Habits of legacy providers that the gateway says otherwise: names of types, Azure's parameters, Ollama's address. Pure."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

ADDRESSES = ("base_url", "api_base", "api_url", "endpoint", "azure_endpoint")
"""Names under which a provider's address stands."""

RENAMED_TYPES = {
    "mock": "fake",
    "azure": "azure_openai",
    "google": "gemini",
    "llamacpp": "llama_cpp",
    "openai-compatible": "openai_compatible",
}

_AZURE_TYPE = "azure_openai"
_AZURE = {"url_style": "azure", "auth_header": "api-key"}


def adapted(params: dict[str, Any], provider_type: str) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """The parameters as the gateway needs them, and what was done: a field and a sentence without values."""
    params, said = dict(params), []
    if params.get("azure_endpoint"):
        said.append(("azure_endpoint", "It is read as the base URL."))
    if _is_azure(params) and provider_type != _AZURE_TYPE:
        added = {name: value for name, value in _AZURE.items() if name not in params}
        params |= added
        said += [(name, "Added, as the parameters are Azure's and the provider type is not.") for name in added]
    if params.get("azure_deployment"):
        said.append(("azure_deployment", "Not read: the model's id, or its upstream_model_id, names the deployment."))
    if provider_type == "ollama":
        said += _add_version(params)
    return params, said


def _is_azure(params: dict[str, Any]) -> bool:
    return str(params.get("api_type") or "").strip().casefold().startswith("azure") or bool(
        params.get("azure_endpoint")
    )


def _add_version(params: dict[str, Any]) -> list[tuple[str, str]]:
    """Ollama answers OpenAI's protocol below /v1; its own protocol, which the legacy spoke, stands at the root."""
    said = []
    for name in ADDRESSES:
        address = params.get(name)
        if isinstance(address, str) and _is_root(address):
            params[name] = address.strip().rstrip("/") + "/v1"
            said.append((name, "/v1 was appended: OpenAI's protocol stands there."))
    return said


def _is_root(address: str) -> bool:
    try:
        parts = urlsplit(address.strip())
    except ValueError:
        return False
    return bool(parts.scheme and parts.netloc) and parts.path in {"", "/"} and not parts.query and not parts.fragment
