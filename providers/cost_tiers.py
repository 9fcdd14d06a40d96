"""How dear a model is, in four steps: said by whoever entered it, else read from its prices. Pure."""

from __future__ import annotations

from decimal import Decimal

COST_TIERS = ("LOW", "MEDIUM", "HIGH", "PREMIUM")
"""From cheap to dear."""

_RANKS = {tier: rank for rank, tier in enumerate(COST_TIERS)}
_DEAREST_OUTPUT = ((Decimal(2), "LOW"), (Decimal(10), "MEDIUM"), (Decimal(40), "HIGH"))
"""The most that a million output tokens of a tier cost (USD)."""


def rank(tier: str) -> int:
    """0 for LOW to 3 for PREMIUM. Raises `KeyError` for a word that is no tier."""
    return _RANKS[tier]


def is_tier(word: object) -> bool:
    return word in _RANKS


def tier_of(declared: str, output_cost_per_million: Decimal | None) -> str:
    """The declared tier in any case of letters, else the one that the price falls into; MEDIUM where neither is known."""
    if declared.upper() in _RANKS:
        return declared.upper()
    if output_cost_per_million is None:
        return "MEDIUM"
    return next((tier for most, tier in _DEAREST_OUTPUT if output_cost_per_million <= most), "PREMIUM")
