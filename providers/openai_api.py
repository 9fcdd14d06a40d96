"""How an upstream that speaks the OpenAI protocol is addressed: paths, headers, and where the key stands.

Traffic and probes both ask here, so that what a probe says holds for traffic. Connection parameters in, texts out; no I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from providers import kamiwaza
from providers.addresses import ParsedURL
from providers.connection import text
from providers.secrets import Secret

PATHS = {"chat": "/chat/completions", "completions": "/completions", "embeddings": "/embeddings", "models": "/models"}

Target = Callable[[str, str], str]
"""Operation (one of `PATHS`) and the upstream's name of the model, to path and query."""

_OURS = ("host", "content-length", "transfer-encoding", "connection")


def target(base: ParsedURL, connection: Mapping[str, Any]) -> Target:
    style = connection.get("url_style")
    if style == "azure":
        return _azure(base, connection)
    if style == "kamiwaza" and kamiwaza.is_platform(base.path or "/"):
        return _openai(base, models=kamiwaza.LIST_PATH)
    return _openai(base)


def headers(connection: Mapping[str, Any]) -> dict[str, str]:
    """The headers of every request, by lower-case name; the provider's own win over our defaults."""
    found = {
        "accept": "application/json, text/event-stream",
        "accept-encoding": "identity",
        "user-agent": "llm-gateway",
    }
    for name in ("organization", "project"):
        value = text(connection, name)
        if value:
            found[f"openai-{name}"] = value
    extra = connection.get("headers")
    if isinstance(extra, Mapping):
        found |= {str(name).lower(): text(extra, name) for name in extra}
    return {name: value for name, value in found.items() if name not in _OURS}


def credential(connection: Mapping[str, Any], key: Secret) -> tuple[str, str]:
    """The header that shows the key, in lower case, and its value."""
    name = text(connection, "auth_header").lower() or "authorization"
    return name, f"Bearer {key.reveal()}" if name == "authorization" else key.reveal()


def _openai(base: ParsedURL, models: str = PATHS["models"]) -> Target:
    query = f"?{base.query}" if base.query else ""
    targets = {operation: f"{root(base)}{path}{query}" for operation, path in (PATHS | {"models": models}).items()}
    return lambda operation, model: targets[operation]


def _azure(base: ParsedURL, connection: Mapping[str, Any]) -> Target:
    """https://learn.microsoft.com/azure/ai-services/openai/reference: the model's deployment stands in the path."""
    resource = root(base)
    if not resource.endswith("/openai"):
        resource += "/openai"
    version = text(connection, "api_version")
    queries = [each for each in (base.query, f"api-version={quote(version, safe='')}" if version else "") if each]
    query = f"?{'&'.join(queries)}" if queries else ""

    def to(operation: str, model: str) -> str:
        deployment = "" if operation == "models" else f"/deployments/{quote(model, safe='')}"
        return f"{resource}{deployment}{PATHS[operation]}{query}"

    return to


def root(base: ParsedURL) -> str:
    """What stands before every path."""
    return quote(base.path.rstrip("/"), safe="/%:@!$&'()*+,;=~-._")
