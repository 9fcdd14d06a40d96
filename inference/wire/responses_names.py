"""One name for a tool and its namespace: the Responses API groups tools, a chat completion has names alone. No I/O.

Anthropic takes names twice as long as OpenAI does, and Claude Code gives such to the tools of MCP servers. The same pair has the same name in every request, so that what was called earlier in a conversation is still known by it.
"""

from __future__ import annotations

import hashlib
from typing import Any

MOST_LETTERS = 64
"""Of a function's name, at OpenAI; others take no more."""
_BETWEEN = "__"
_DIGEST_BYTES = 4


def said_name(name: Any, namespace: Any) -> str:
    if not namespace:
        return str(name or "")
    return shortened(f"{namespace}{_BETWEEN}{name}")


def shortened(whole: str) -> str:
    """The name itself as long as others take it."""
    if len(whole) <= MOST_LETTERS:
        return whole
    mark = hashlib.blake2s(whole.encode(), digest_size=_DIGEST_BYTES).hexdigest()
    return f"{whole[: MOST_LETTERS - len(mark) - 1]}_{mark}"
