"""Requests as the recorder writes them: traces, the ledger and the roll-ups."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from inference import usage_rows
from inference.models import UsageRecord
from inference.recording import Row
from inference.rollups import Corrections

_numbers = itertools.count()


def record(count: int = 1, **fields: Any) -> list[Row]:
    """Write that many requests alike; the fields are the columns of a row."""
    rows = [row(**fields) for _ in range(count)]
    usage_rows.insert(rows)
    return rows


def row(**fields: Any) -> Row:
    told: dict[str, Any] = {
        **dict.fromkeys(Row._fields, ""),
        "request_id": f"req_written_{next(_numbers)}",
        "at": datetime.now(UTC),
        "operation": "chat",
        "client_key_id": None,
        "team_id": None,
        "requested_model": "gpt-test",
        "provider_id": "up",
        "model_id": "gpt-test",
        "status": 200,
        "attempts": 1,
        "currency": "USD",
        "side": "gateway",
        "first_byte_ms": None,
        **dict.fromkeys(("stream", "estimated", "fallback"), False),
        **dict.fromkeys(("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens"), 0),
        **dict.fromkeys(("duration_ms", "upstream_ms", "overhead_ms", "queue_ms"), 0.0),
        "policy_version": 0,
        "attempt": 0,
        "cost": Decimal(0),
        "paid": (),
    } | fields
    return Row(**told)


def correct(line: UsageRecord, difference: Decimal) -> None:
    """As a run that rates the ledger again tells the roll-ups."""
    told = Corrections()
    told.take(line, difference)
    told.store()
