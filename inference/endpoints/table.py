"""Which path is whose: every endpoint of the data plane."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from inference.endpoints import media, ollama, responses
from inference.endpoints.chat import chat
from inference.endpoints.completions import completions
from inference.endpoints.embeddings import embeddings
from inference.endpoints.exchange import Receive, Send
from inference.endpoints.messages import count_tokens, messages
from inference.endpoints.playground import playground
from routing import permits

if TYPE_CHECKING:
    from inference.plane import DataPlane

Endpoint = Callable[["DataPlane", dict[str, Any], Receive, Send], Coroutine[Any, Any, None]]

GENERATING: dict[str, Endpoint] = {
    "/v1/chat/completions": chat,
    "/v1/completions": completions,
    "/v1/embeddings": embeddings,
    "/v1/messages": messages,
    "/v1/messages/count_tokens": count_tokens,
    **responses.ENDPOINTS,
    **media.ENDPOINTS,
    **ollama.ENDPOINTS,
    permits.TAKEN_AT: playground,
}
"""All of them take POST and go through an exchange."""

RERANK_PATHS = frozenset(media.ALIASES)
OLLAMA_PATHS = frozenset({*ollama.ENDPOINTS, *ollama.SMALL} - {ollama.GREETING})
