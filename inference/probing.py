"""How a probe asks a model for one token, and a smoke test for an answer: the way of real traffic, from inside the process."""

from __future__ import annotations

from time import perf_counter
from typing import Any

from inference import client
from inference import loop as bridge
from inference.answering import Collected
from inference.backends.base import Usage
from routing import snapshot
from routing.rollout import PROBE

_PATIENCE_SECONDS = 60.0
_TO_FIND_OUT: dict[str, Any] = {"timeout_seconds": _PATIENCE_SECONDS, "asks_the_unwell": True, "side": PROBE}


def one_token(provider_id: str, model_id: str, stream: bool) -> dict[str, Any]:
    """`text`, `first_token_ms` and `total_ms` of one token, or of one vector of an embedding model. Raises `GatewayError`."""
    name = f"{provider_id}/{model_id}"
    named = snapshot.refresh().by_name.get(name, ())
    began = perf_counter()
    if named and named[0].model_type == "embedding":
        body = {"model": name, "input": "ping"}
        client.complete(body, operation="embeddings", provider_id=provider_id, **_TO_FIND_OUT)
        return _told("", None, began)
    body = {"model": name, "messages": [{"role": "user", "content": "ping"}], "max_tokens": 1}
    if stream:
        first = bridge.run(_streamed(body, provider_id), timeout=_PATIENCE_SECONDS)
        return _told("", first - began, began)
    answer = client.complete(body, provider_id=provider_id, **_TO_FIND_OUT)
    return _told(answer.text, None, began)


def one_answer(
    provider_id: str, model_id: str, prompt: str, *, max_tokens: int, timeout_seconds: float
) -> dict[str, Any]:
    """What a chat model says to a prompt: `text`, `first_token_ms`, `total_ms`, `input_tokens` and `output_tokens`.

    Raises `GatewayError`, and `TimeoutError` when the whole answer took longer.
    """
    body = {
        "model": f"{provider_id}/{model_id}",
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": max_tokens,
    }
    return bridge.run(_answer(body, provider_id), timeout=timeout_seconds)


async def _answer(body: dict[str, Any], provider_id: str) -> dict[str, Any]:
    began = perf_counter()
    first: float | None = None
    used: list[Usage] = []
    collected = Collected()
    async for piece in client.stream_async(body, provider_id=provider_id, told=used.append, side=PROBE):
        first = first or perf_counter()
        collected.feed(piece)
    choices = collected.whole("")["choices"]
    text = (choices[0]["message"]["content"] if choices else "") or ""
    told = _told(text, None if first is None else first - began, began)
    return told | {"input_tokens": used[0].input_tokens, "output_tokens": used[0].output_tokens}


async def _streamed(body: dict[str, Any], provider_id: str) -> float:
    """When the first piece came; the rest is read to its end."""
    first = None
    async for _ in client.stream_async(body, provider_id=provider_id, asks_the_unwell=True, side=PROBE):
        first = first or perf_counter()
    return first or perf_counter()


def _told(text: str, first_token_seconds: float | None, began: float) -> dict[str, Any]:
    total = perf_counter() - began
    first = total if first_token_seconds is None else first_token_seconds
    return {"text": text, "first_token_ms": round(first * 1000, 3), "total_ms": round(total * 1000, 3)}
