"""The trace that a request belongs to, as its sender names it. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

HEADERS = ("x-trace-id", "trace-id", "x-request-id", "request-id")
"""Where clients of the source systems name it, the first one first; `traceparent` goes before them all."""

_SAFE_ID = re.compile(r"[A-Za-z0-9._:\-]{1,128}")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


def trace_of(headers: Mapping[str, str], otherwise: str) -> str:
    """The caller's own trace, when it sent one that is fit to be logged. `headers` answer to names in any case."""
    parent = _TRACEPARENT.match(headers.get("traceparent", ""))
    if parent:
        return parent.group(1)
    sent = (headers.get(name, "") for name in HEADERS)
    return next((one for one in sent if _SAFE_ID.fullmatch(one)), otherwise)
