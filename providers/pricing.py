"""Cost: the only module that multiplies tokens by prices. Decimal throughout; an unknown price is None, never zero."""

from __future__ import annotations

from decimal import Decimal

PER = Decimal(1_000_000)
USD = "USD"
"""What budgets count, and what a price is in that names no other currency."""
_NOTHING = Decimal(0)


def cost(
    input_cost_per_million: Decimal | None,
    output_cost_per_million: Decimal | None,
    *,
    input_tokens: int,
    output_tokens: int,
    cached_tokens: int = 0,
    cached_input_cost_per_million: Decimal | None = None,
) -> Decimal | None:
    """What a call costs, exact. Cached tokens are part of `input_tokens` and cost their own price where there is one.

    None when a price that is needed is unknown: no output tokens need no output price.
    """
    if input_cost_per_million is None and input_tokens:
        return None
    if output_cost_per_million is None and output_tokens:
        return None
    cost = (input_tokens - cached_tokens) * (input_cost_per_million or _NOTHING)
    if cached_tokens:
        known = cached_input_cost_per_million is not None
        cost += cached_tokens * ((cached_input_cost_per_million if known else input_cost_per_million) or _NOTHING)
    return (cost + output_tokens * (output_cost_per_million or _NOTHING)) / PER
