"""Logs as JSON: one object a line, and one line for each request, written by the recorder's thread after the reply.

Of a request it says who, what, how it went, how long it took and what it cost; no content, no key beyond its prefix, no address of
an upstream. Whoever was not let in has the line of `gateway.errors` alone.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from inference.recording import Entry, Row

logger = logging.getLogger("gateway.access")

_MEMBERS = (
    *("request_id", "trace_id", "operation", "client_key_prefix", "team_id", "requested_model", "policy"),
    *("provider_id", "model_id", "side", "stream", "status", "error_code", "error_owner", "attempts", "fallback"),
    *("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens", "estimated", "currency", "session_id"),
)
_TIMES = ("duration_ms", "queue_ms", "first_byte_ms", "upstream_ms", "overhead_ms")


def tell(entries: Sequence[Entry], rows: Sequence[Row]) -> None:
    """A line for each row, in one call of the handler's stream each."""
    if not logger.isEnabledFor(logging.INFO):
        return
    for row in rows:
        logger.info("request", extra={"members": members(row)})


def members(row: Row) -> dict[str, Any]:
    told: dict[str, Any] = {"at": row.at.isoformat(timespec="milliseconds")}
    for name in _MEMBERS:
        told[name] = getattr(row, name)
    for name in _TIMES:
        value = getattr(row, name)
        told[name] = None if value is None else round(value, 3)
    told["cost"] = None if row.cost is None else f"{row.cost:f}"
    told["tags"] = [tag for tag in row.tags.split(",") if tag]
    return told


class JSONFormatter(logging.Formatter):
    """`members` of a record stand beside the usual ones. What `orjson` cannot write is written as text."""

    def format(self, record: logging.LogRecord) -> str:
        told: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        told |= getattr(record, "members", {})
        if record.exc_info:
            told["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(told, default=str, option=orjson.OPT_NON_STR_KEYS).decode("utf-8", "replace")
