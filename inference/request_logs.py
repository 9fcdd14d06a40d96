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

_TIMES = ("duration_ms", "queue_ms", "first_byte_ms", "upstream_ms", "overhead_ms")
_MEMBERS = (
    *_TIMES,
    *("request_id", "trace_id", "operation", "client_key_prefix", "team_id", "requested_model", "policy"),
    *("provider_id", "model_id", "side", "stream", "status", "error_code", "error_owner", "attempts", "fallback"),
    *("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens", "estimated", "currency", "session_id"),
)


def tell(entries: Sequence[Entry], rows: Sequence[Row]) -> None:
    """A line for each row. A batch is one record: what logging does for a record costs more than a line itself."""
    if rows and logger.isEnabledFor(logging.INFO):
        logger.info("request", extra={"requests": [members(row) for row in rows]})


def members(row: Row) -> dict[str, Any]:
    told: dict[str, Any] = {name: getattr(row, name) for name in _MEMBERS}
    told["at"] = row.at.isoformat(timespec="milliseconds")
    for name in _TIMES:
        value = told[name]
        if value is not None:
            told[name] = round(value, 3)
    told["cost"] = None if row.cost is None else f"{row.cost:f}"
    told["tags"] = [tag for tag in row.tags.split(",") if tag] if row.tags else []
    return told


class JSONFormatter(logging.Formatter):
    """A record with `requests` is a line for each of them. What `orjson` cannot write is written as text."""

    def format(self, record: logging.LogRecord) -> str:
        told: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if (requests := getattr(record, "requests", None)) is not None:
            return "\n".join([_written({**told, **one}) for one in requests])
        if record.exc_info:
            told["exception"] = self.formatException(record.exc_info)
        return _written(told)


def _written(told: dict[str, Any]) -> str:
    return orjson.dumps(told, default=str, option=orjson.OPT_NON_STR_KEYS).decode("utf-8", "replace")
