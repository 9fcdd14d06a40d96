"""A request in Anthropic's own words, made fit for the model that gets it; everything else of it passes byte for byte. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

_SMALLEST_BUDGET = 1024
_UNSIGNED = (b'"signature":""', b'"signature": ""')
_MOST_DIGITS = 18

_encode = msgspec.json.Encoder().encode


def most_output(fields: Mapping[str, msgspec.Raw], most: int) -> dict[str, msgspec.Raw]:
    """The members that change where the answer may be `most` tokens long: the limit, and a budget to think with that exceeds it."""
    digits = bytes(fields.get("max_tokens", b""))
    if not digits.isdigit() or (len(digits) <= _MOST_DIGITS and int(digits) <= most):
        return {}
    changed = {"max_tokens": msgspec.Raw(b"%d" % most)}
    if "thinking" in fields:
        thinking = msgspec.json.decode(fields["thinking"])
        budget = thinking.get("budget_tokens") if isinstance(thinking, dict) else None
        if isinstance(budget, int) and budget >= most:
            fits = most // 2 >= _SMALLEST_BUDGET
            smaller = {**thinking, "budget_tokens": most // 2} if fits else {"type": "disabled"}
            changed["thinking"] = msgspec.Raw(_encode(smaller))
    return changed


def without_unsigned_thoughts(messages: msgspec.Raw) -> msgspec.Raw:
    """Without the thoughts that another provider's model had in this conversation: Anthropic takes none that it has not signed."""
    raw = bytes(messages)
    if not any(mark in raw for mark in _UNSIGNED):
        return messages
    told = msgspec.json.decode(raw)
    if not isinstance(told, list):
        return messages
    return msgspec.Raw(_encode([_signed(message) for message in told]))


def _signed(message: Any) -> Any:
    content = message.get("content") if isinstance(message, dict) else None
    if not isinstance(content, list):
        return message
    kept = [block for block in content if not _is_unsigned_thought(block)]
    return message if len(kept) == len(content) or not kept else {**message, "content": kept}


def _is_unsigned_thought(block: Any) -> bool:
    return isinstance(block, dict) and block.get("type") == "thinking" and not block.get("signature")
