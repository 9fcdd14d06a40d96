"""How much two sequences of tokens have in common at their beginning."""

from __future__ import annotations

_STRIDE = 256


def common_prefix(one: list[int], other: list[int]) -> int:
    """Whole blocks are compared first: lists compare in C, and shared system prompts are long."""
    end = min(len(one), len(other))
    at = 0
    while at + _STRIDE <= end and one[at : at + _STRIDE] == other[at : at + _STRIDE]:
        at += _STRIDE
    while at < end and one[at] == other[at]:
        at += 1
    return at
