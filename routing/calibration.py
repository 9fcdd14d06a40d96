"""How many tokens a byte of prompt makes, by route, learned from what upstreams counted."""

from __future__ import annotations

from collections.abc import Mapping


def observe(route: str, prompt_bytes: int, input_tokens: int) -> None:
    """Learn from one reply; called off the request path, by the recorder's thread. Never waits, never raises."""


def ratios() -> Mapping[str, float]:
    """Tokens per byte by route, of the routes that have shown enough."""
    return {}
