"""How a probe asks a model for one token, and a smoke test for an answer: the way of real traffic, from inside the process.

A model that thinks until its tokens are spent is alive, whether it ends with an empty text or with a refusal that says so.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any, TypeVar

from inference import client, output_limits
from inference import loop as bridge
from inference.answering import Collected
from inference.backends.base import Usage
from inference.errors import UpstreamRejected
from routing import snapshot
from routing.rollout import PROBE

_PATIENCE_SECONDS = 60.0
_TO_FIND_OUT: dict[str, Any] = {"timeout_seconds": _PATIENCE_SECONDS, "asks_the_unwell": True, "side": PROBE}

Answer = TypeVar("Answer")


def one_token(provider_id: str, model_id: str, stream: bool) -> dict[str, Any]:
    """`text`, `first_token_ms` and `total_ms` of one token, or of one vector of an embedding model. Raises `GatewayError`."""
    name = f"{provider_id}/{model_id}"
    named = snapshot.refresh().by_name.get(name, ())
    began = perf_counter()
    if named and named[0].model_type == "embedding":
        body = {"model": name, "input": "ping"}
        client.complete(body, operation="embeddings", provider_id=provider_id, **_TO_FIND_OUT)
        return _told("", None, began)
    body = {"model": name, "messages": [{"role": "user", "content": "ping"}]}
    if stream:
        first = _limited(lambda told: bridge.run(_streamed(told, provider_id), timeout=_PATIENCE_SECONDS), body, 1)
        return _told("", None if first is None else first - began, began)
    answer = _limited(lambda told: client.complete(told, provider_id=provider_id, **_TO_FIND_OUT), body, 1)
    return _told("" if answer is None else answer.text, None, began)


def one_answer(
    provider_id: str, model_id: str, prompt: str, *, max_tokens: int, timeout_seconds: float
) -> dict[str, Any]:
    """What a chat model says to a prompt: `text`, `first_token_ms`, `total_ms`, `input_tokens` and `output_tokens`.

    Raises `GatewayError`, and `TimeoutError` when the whole answer took longer.
    """
    began = perf_counter()
    body = {"model": f"{provider_id}/{model_id}", "messages": [{"role": "user", "content": prompt}]}
    answer = _limited(lambda told: bridge.run(_answer(told, provider_id), timeout=timeout_seconds), body, max_tokens)
    if answer is None:
        return _told("", None, began) | {"input_tokens": None, "output_tokens": max_tokens}
    return answer


def _limited(ask: Callable[[dict[str, Any]], Answer], body: dict[str, Any], tokens: int) -> Answer | None:
    """The answer to a body of at most so many tokens, asked for by the member that the model takes; None where it thought until
    they were spent."""
    models = snapshot.refresh().by_name.get(body["model"], ())
    usual, other = output_limits.names(models[0]) if models else (output_limits.OLDER, output_limits.NEWER)
    try:
        return ask({**body, usual: tokens})
    except UpstreamRejected as error:
        if output_limits.ran_out(error.message):
            return None
        if not output_limits.is_not_taken(usual, error.message, error.param):
            raise
    try:
        return ask({**body, other: tokens})
    except UpstreamRejected as error:
        if output_limits.ran_out(error.message):
            return None
        raise


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
