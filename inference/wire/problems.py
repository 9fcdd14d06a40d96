"""Errors on paths other than `/v1`, as the REST views write them: RFC 9457, with `error_details` for the source systems' clients.
No I/O."""

from __future__ import annotations

from http import HTTPStatus

import orjson

from inference.errors import GatewayError

CONTENT_TYPE = (b"content-type", b"application/problem+json")


def body_of(error: GatewayError, request_id: str) -> bytes:
    return orjson.dumps(
        {
            "type": "about:blank",
            "title": HTTPStatus(error.status).phrase,
            "status": error.status,
            "detail": error.message,
            "code": error.code,
            "request_id": request_id,
            "error_details": {
                "code": error.code.upper(),
                "message": error.message,
                "level": "warning" if error.owner == "caller" else "error",
                "retryable": error.retryable,
                "retry_after_seconds": None,
                "details": {"code": error.code, "status": error.status, "param": error.param},
            },
        }
    )
