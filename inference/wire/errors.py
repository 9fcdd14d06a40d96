"""How a failure reads on the wire: status, headers and OpenAI's envelope; and what the operator's log says of it.

`x-should-retry: false` goes with every failure that the gateway has already tried to get around, and with those that no
second try can help: OpenAI's clients obey it before they look at the status, which stops retries from multiplying.
"""

from __future__ import annotations

import logging
import math
import re
from typing import Any

import orjson

from inference.errors import (
    GatewayError,
    InvalidKey,
    NotAllowed,
    UpstreamError,
    UpstreamFailed,
    UpstreamRejected,
)
from inference.wire import sse

logger = logging.getLogger("gateway.errors")

JSON = (b"content-type", b"application/json")
_NO_RETRY = (b"x-should-retry", b"false")
_SECRETS = re.compile(
    r"(?i)((?:authorization[\"'=:\s]+)?(?:bearer|basic)\s+|authorization[\"'=:\s]+|api[-_]?key[\"'=:\s]+"
    r"|\b(?:sk|gsk|xai|gw|pk|rk)-)[^\s\"',;}]+"
)
_CREDENTIALS_IN_URL = re.compile(r"(\w{1,20}://)[^/@\s]+@")
_LINE_ENDS = re.compile(r"[\x00-\x1f\x7f\u0085\u2028\u2029]+")


def redact(text: str) -> str:
    """One line, without anything that looks like a credential."""
    return _LINE_ENDS.sub(" ", without_credentials(text))


def without_credentials(text: str) -> str:
    """The text as it is, but for what looks like a credential."""
    text = _SECRETS.sub(lambda found: found.group(1) + "••••", text)
    return _CREDENTIALS_IN_URL.sub(r"\1••••@", text)


def body_of(error: GatewayError) -> bytes:
    """The JSON body. An upstream's own error object is relayed as it is: its code and param are what clients look at."""
    if isinstance(error, UpstreamRejected):
        said = _error_object(error.body)
        if said is not None:
            own = error.envelope()["error"]
            missing = {name: value for name, value in own.items() if name not in said or name == "attempts"}
            return orjson.dumps({"error": {**said, **missing}}) if missing else error.body
    return orjson.dumps(error.envelope())


def headers_of(error: GatewayError) -> list[tuple[bytes, bytes]]:
    headers = [JSON]
    if not _is_worth_another_try(error):
        headers.append(_NO_RETRY)
    if error.retry_after is not None:
        headers.append((b"retry-after", b"%d" % math.ceil(error.retry_after)))
        headers.append((b"retry-after-ms", b"%d" % round(error.retry_after * 1000)))
    if isinstance(error, InvalidKey):
        headers.append((b"www-authenticate", b"Bearer"))
    if error.status in (408, 413):
        headers.append((b"connection", b"close"))
    return headers


def in_stream(error: GatewayError) -> bytes:
    """The event that ends a stream which has begun; the status is spent by then."""
    return sse.event(error.envelope())


def log(error: GatewayError, request_id: str, route: str) -> None:
    """One line for the operator: never content, keys or headers."""
    level = logging.INFO if error.owner == "caller" else logging.WARNING
    if not logger.isEnabledFor(level):
        return
    logger.log(
        level,
        "request_id=%s status=%d code=%s route=%s owner=%s message=%s detail=%s",
        request_id,
        error.status,
        error.code,
        route or "-",
        error.owner,
        # What an upstream says of a request may quote it.
        orjson.dumps("" if isinstance(error, UpstreamRejected | UpstreamFailed) else redact(error.message)).decode(),
        orjson.dumps(redact(error.detail)).decode(),
    )


def _is_worth_another_try(error: GatewayError) -> bool:
    """Only what is the gateway's own passing state: everything else was tried here, or cannot change."""
    if isinstance(error, NotAllowed):
        return error.retryable
    return error.retryable and not isinstance(error, UpstreamError) and error.owner in ("gateway", "caller")


def _error_object(body: bytes) -> dict[str, Any] | None:
    try:
        decoded = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    said = decoded.get("error") if isinstance(decoded, dict) else None
    return said if isinstance(said, dict) and isinstance(said.get("message"), str) else None
