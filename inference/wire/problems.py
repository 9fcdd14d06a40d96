"""Errors on paths other than `/v1`: RFC 9457, with `error_details` for the source systems' clients. No I/O."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from inference.errors import BudgetExhausted, ConfigurationError, EngineError, GatewayError, GatewayOverloaded
from inference.wire import errors

CONTENT_TYPE = "application/problem+json"

_TO_CLIENT = frozenset({b"retry-after", b"x-should-retry"})


def document(error: GatewayError, request_id: str) -> dict[str, Any]:
    """The body, before it is written as JSON."""
    told = {
        "type": "about:blank",
        "title": HTTPStatus(error.status).phrase,
        "status": error.status,
        "detail": error.message,
        "code": error.code,
        "request_id": request_id,
        "error_details": error_details(error),
    }
    if error.param and not isinstance(error, BudgetExhausted):
        told["errors"] = [{"field": error.param, "message": error.message, "code": error.code}]
    return told


def headers_of(error: GatewayError) -> list[tuple[bytes, bytes]]:
    """Its headers beside the content type."""
    return [header for header in errors.headers_of(error) if header[0] in _TO_CLIENT]


def error_details(error: GatewayError) -> dict[str, Any]:
    """As the source systems' clients read an error: their code, our message, whether and when to come back."""
    details: dict[str, Any] = {"code": error.code, "status": error.status, "param": error.param}
    if error.attempts:
        details["attempts"] = list(error.attempts)
    return {
        "code": _legacy_code(error),
        "message": error.message,
        "level": "warning" if error.owner in ("caller", "policy") else "error",
        "retryable": error.retryable,
        "retry_after_seconds": None if error.retry_after is None else max(1, round(error.retry_after)),
        "details": details,
    }


def _legacy_code(error: GatewayError) -> str:
    if isinstance(error, ConfigurationError):
        return "PROVIDER_INIT_FAILED"
    if isinstance(error, EngineError):
        return "RESOURCE_ERROR"
    if isinstance(error, GatewayOverloaded):
        return "CIRCUIT_BREAKER_TRIPPED" if error.code == "no_healthy_target" else "RESOURCE_ERROR"
    if isinstance(error, BudgetExhausted) and error.param and error.param.isupper():
        return error.param
    if error.owner == "caller":
        return "CLIENT_PROCESSING_ERROR"
    return error.code.upper()
