"""How an upstream is addressed that speaks the OpenAI protocol, or Anthropic's: paths, headers, and where the key stands.

Traffic and probes both ask here, so that what a probe says holds for traffic. Connection parameters in, texts out; no I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from providers import kamiwaza, ollama
from providers.addresses import ParsedURL
from providers.connection import text
from providers.secrets import Secret

PATHS = {
    "chat": "/chat/completions",
    "completions": "/completions",
    "embeddings": "/embeddings",
    "responses": "/responses",
    "models": "/models",
    "moderations": "/moderations",
    "rerank": "/rerank",
    "images": "/images/generations",
    "image_edits": "/images/edits",
    "image_variations": "/images/variations",
    "speech": "/audio/speech",
    "transcriptions": "/audio/transcriptions",
    "translations": "/audio/translations",
}
ANTHROPIC_PATHS = {
    "messages": "/messages",
    "count_tokens": "/messages/count_tokens",
    "models": "/models?limit=1000",  # a page holds 20 otherwise
}

OLLAMA_PATHS = {
    "chat": "/api/chat",
    "completions": "/api/generate",
    "embeddings": "/api/embed",
    "embedding": "/api/embeddings",
    "models": "/api/tags",
    "model": "/api/show",
}
"""https://github.com/ollama/ollama/blob/main/docs/api.md; `embedding` is what came before `/api/embed`."""

Target = Callable[[str, str], str]
"""Operation (one of `PATHS`) and the upstream's name of the model, to path and query."""

_OURS = ("host", "content-length", "transfer-encoding", "connection")


def target(base: ParsedURL, connection: Mapping[str, Any]) -> Target:
    style = connection.get("url_style")
    if style == "azure":
        return _azure(base, connection)
    if style == ollama.STYLE:
        return _ollama(base)
    if style == "kamiwaza" and kamiwaza.is_platform(base.path or "/"):
        return _openai(base, models=kamiwaza.LIST_PATH)
    if text(connection, "anthropic_version"):
        return _anthropic(base)
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
    for name in ("anthropic_version", "anthropic_beta"):
        value = text(connection, name)
        if value:
            found[name.replace("_", "-")] = value
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


def _anthropic(base: ParsedURL) -> Target:
    """Its own clients are told the address without `/v1`, so both are understood."""
    start = root(base) or "/v1"
    targets = {operation: start + path for operation, path in ANTHROPIC_PATHS.items()}
    if base.query:
        targets = {name: f"{path}{'&' if '?' in path else '?'}{base.query}" for name, path in targets.items()}
    return lambda operation, model: targets[operation]


def _azure(base: ParsedURL, connection: Mapping[str, Any]) -> Target:
    """https://learn.microsoft.com/azure/ai-services/openai/reference: the model's deployment stands in the path. A base URL that
    ends in `/openai/v1` is the newer API, where it stands in the body and no dated version is taken."""
    resource = root(base)
    if resource.endswith("/openai/v1"):
        return _openai(base)
    if not resource.endswith("/openai"):
        resource += "/openai"
    version = text(connection, "api_version")
    queries = [each for each in (base.query, f"api-version={quote(version, safe='')}" if version else "") if each]
    query = f"?{'&'.join(queries)}" if queries else ""

    def to(operation: str, model: str) -> str:
        if operation == "responses":  # the model stands in the body there, and the version in the path
            return f"{resource}/v1/responses{f'?{base.query}' if base.query else ''}"
        deployment = "" if operation == "models" else f"/deployments/{quote(model, safe='')}"
        return f"{resource}{deployment}{PATHS[operation]}{query}"

    return to


def _ollama(base: ParsedURL) -> Target:
    """Its own protocol stands at the root; rows from when it was asked in OpenAI's end in /v1."""
    query = f"?{base.query}" if base.query else ""
    targets = {operation: f"{root(base).removesuffix('/v1')}{path}{query}" for operation, path in OLLAMA_PATHS.items()}
    return lambda operation, model: targets[operation]


def root(base: ParsedURL) -> str:
    """What stands before every path."""
    return quote(base.path.rstrip("/"), safe="/%:@!$&'()*+,;=~-._")
