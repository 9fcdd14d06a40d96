"""How a probe asks a model for one token: the way of real traffic, from inside the process."""

from __future__ import annotations

from time import perf_counter
from typing import Any

from inference import client
from inference import loop as bridge
from routing import snapshot

_PATIENCE_SECONDS = 60.0


def one_token(provider_id: str, model_id: str, stream: bool) -> dict[str, Any]:
    """`text`, `first_token_ms` and `total_ms` of one token, or of one vector of an embedding model. Raises `GatewayError`."""
    name = f"{provider_id}/{model_id}"
    named = snapshot.refresh().by_name.get(name, ())
    began = perf_counter()
    if named and named[0].model_type == "embedding":
        body = {"model": name, "input": "ping"}
        client.complete(body, operation="embeddings", provider_id=provider_id, timeout_seconds=_PATIENCE_SECONDS)
        return _told("", None, began)
    body = {"model": name, "messages": [{"role": "user", "content": "ping"}], "max_tokens": 1}
    if stream:
        first = bridge.run(_streamed(body, provider_id), timeout=_PATIENCE_SECONDS)
        return _told("", first - began, began)
    answer = client.complete(body, provider_id=provider_id, timeout_seconds=_PATIENCE_SECONDS)
    return _told(answer.text, None, began)


async def _streamed(body: dict[str, Any], provider_id: str) -> float:
    """When the first piece came; the rest is read to its end."""
    first = None
    async for _ in client.stream_async(body, provider_id=provider_id):
        first = first or perf_counter()
    return first or perf_counter()


def _told(text: str, first_token_seconds: float | None, began: float) -> dict[str, Any]:
    total = perf_counter() - began
    first = total if first_token_seconds is None else first_token_seconds
    return {"text": text, "first_token_ms": round(first * 1000, 3), "total_ms": round(total * 1000, 3)}
