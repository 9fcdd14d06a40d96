"""Registry entries of local models, as the snapshot would hold them."""

from __future__ import annotations

from typing import Any

from inference.engine.spec import BUILTIN_DEMO
from routing.types import ModelView, Prices, ProviderView


def local_model(
    parameters: dict[str, Any] | None = None,
    *,
    connection: dict[str, Any] | None = None,
    max_tokens: int | None = None,
    model_id: str = "demo",
) -> ModelView:
    provider = ProviderView(
        provider_id="local",
        provider_type="llama_cpp",
        backend="inference.backends.llama_cpp.LlamaCpp",
        runs_in="worker",
        priority=1,
        connection=connection or {},
        settings={},
        keys=(),
        fingerprint="f",
    )
    return ModelView(
        provider=provider,
        model_id=model_id,
        display_name=model_id,
        model_type="chat",
        context_window=None,
        max_tokens=max_tokens,
        dimension=None,
        capabilities=frozenset(),
        tasks=frozenset(),
        parameters={"model_path": BUILTIN_DEMO, "threads": 1} if parameters is None else parameters,
        prices=Prices(),
        created=0,
    )
