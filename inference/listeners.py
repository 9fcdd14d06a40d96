"""Who else is told of every request that the recorder writes down, as the settings say: the log, and a collector."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Sequence
from typing import Any

from django.conf import settings

from inference import request_logs
from inference.recording import Entry, Row, Tell

_lock = threading.Lock()
_telemetry: Any = None


def wanted() -> list[Tell]:
    """For a recorder's `tell`. With nothing switched on it is empty, and nothing of OpenTelemetry is imported."""
    listeners: list[Tell] = []
    if settings.GATEWAY_LOG_FORMAT == "json":
        listeners.append(request_logs.tell)
    if settings.GATEWAY_OTEL_ENDPOINT:
        listeners.append(_export)
    return listeners


def _export(entries: Sequence[Entry], rows: Sequence[Row]) -> None:
    """Connects at the first request, which is after every fork."""
    global _telemetry
    with _lock:
        if _telemetry is None:
            from inference import telemetry

            _telemetry = telemetry.connect(
                settings.GATEWAY_OTEL_ENDPOINT,
                headers(settings.GATEWAY_OTEL_HEADERS),
                settings.GATEWAY_OTEL_SERVICE_NAME,
                settings.GATEWAY_OTEL_SAMPLING,
            )
            atexit.register(close)
    _telemetry.tell(entries, rows)


def headers(told: str) -> dict[str, str]:
    """`name=value,name=value`, as OpenTelemetry's own variables have it."""
    pairs = (pair.partition("=") for pair in told.split(",") if "=" in pair)
    return {name.strip(): value.strip() for name, _, value in pairs}


def close() -> None:
    """Export what is left, and forget the collector."""
    global _telemetry
    with _lock:
        left, _telemetry = _telemetry, None
    if left is not None:
        left.close()
