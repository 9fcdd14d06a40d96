"""Habits of legacy providers that the gateway says otherwise: names of types, Azure's parameters. Pure."""

from __future__ import annotations

from typing import Any

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
    return params, said


def _is_azure(params: dict[str, Any]) -> bool:
    return str(params.get("api_type") or "").strip().casefold().startswith("azure") or bool(
        params.get("azure_endpoint")
    )
