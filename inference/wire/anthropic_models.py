"""What Anthropic's models differ in, told by their names: how they are asked to think, and whether they take a temperature. Pure.

A name that tells no version is taken for a new model when it is one of Claude's, and for an old one when it is somebody else's that
speaks the same protocol. Source: https://platform.claude.com/docs/en/about-claude/models/migration-guide.
"""

from __future__ import annotations

import re

SMALLEST_BUDGET = 1024
"""Tokens; Anthropic's own minimum."""

_VERSION = re.compile(r"claude-(?:[a-z]+-)*(\d{1,2})(?:[-.](\d{1,2}))?(?!\d)")
_FIRST_ADAPTIVE = (4, 6)
_FIRST_WITHOUT_SAMPLING = (4, 7)
_NEWEST = (99, 0)
_OLDEST = (0, 0)
_BUDGETS = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 24_576, "xhigh": 32_768, "max": 32_768}
_EFFORTS = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh", "max": "max"}


def decides_how_long_it_thinks(model: str) -> bool:
    """Whether it is told an effort; older ones are told a budget of tokens."""
    return _version(model) >= _FIRST_ADAPTIVE


def refuses_sampling(model: str) -> bool:
    """Whether a temperature is an error."""
    return _version(model) >= _FIRST_WITHOUT_SAMPLING


def effort(model: str, told: object) -> str:
    """OpenAI's word for it in Anthropic's; `xhigh` came with Claude 4.7."""
    said = _EFFORTS.get(str(told), "medium")
    return "high" if said == "xhigh" and _version(model) < _FIRST_WITHOUT_SAMPLING else said


def budget(told: object) -> int:
    """Tokens to think with; 0 for none."""
    return _BUDGETS.get(str(told), 0)


def _version(model: str) -> tuple[int, int]:
    name = model.lower()
    if found := _VERSION.search(name):
        return int(found[1]), int(found[2] or 0)
    return _NEWEST if "claude" in name else _OLDEST
