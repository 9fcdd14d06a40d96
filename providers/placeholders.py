"""Texts that stand where a secret should be: copied from documentation, accepted, and worth a word."""

from __future__ import annotations

import re

_PLACEHOLDER = re.compile(
    r"(sk-)?(your|my|insert|enter|put|paste|add|replace)[\W_].*"
    r"|<.*>|\{\{?[^{}\"]*\}?\}|\$\{.*\}"
    r"|(sk-)?(x+|\.+|…+|\*+|-+)"
    r"|change[\W_]?me|placeholder|example|dummy|none|null|todo|tbd|api[\W_]?key|secret|token|key",
    re.IGNORECASE,
)


def looks_like_placeholder(value: str) -> bool:
    """Whether no vendor would have issued this as a key."""
    return bool(_PLACEHOLDER.fullmatch(value.strip()))


def warning(value: str) -> str | None:
    if looks_like_placeholder(value):
        return "The API key looks like a placeholder; calls will be refused upstream until a real one is stored."
    return None
