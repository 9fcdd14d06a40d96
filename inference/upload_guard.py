"""Who may send a large body, and how large: decided before the first byte of it is taken in. No I/O of its own.

Django writes a body to disk before it asks anybody; a stranger, or a file beyond the limit, is to cost nothing.
"""

from __future__ import annotations

import time
from typing import Any

from inference.admission import admit, presented_key
from inference.errors import BodyTooLarge, GatewayError, InvalidRequest
from inference.request_ids import new_request_id
from inference.wire import anthropic, errors
from routing.client_addresses import address_of
from routing.snapshot import current

FILES = "/v1/files"
"""Where a body is a form with a file in it; everywhere else it is JSON."""
MESSAGE_BATCHES = "/v1/messages/batches"
"""Where it has the requests that are at other paths in a file. Whoever is refused here is one of Anthropic's clients, and so is
whoever names a version of its API."""
AROUND_THE_FILE = 64 * 1024
"""Bytes of the other parts of the form."""


def is_large(path: str) -> bool:
    """Whether a body may have as many bytes as a file."""
    return path.rstrip("/") in (FILES, MESSAGE_BATCHES)


async def serve(application: Any, scope: dict[str, Any], receive: Any, send: Any, most_bytes: int) -> None:
    """The application, for whoever shows a good key and as long as the body stays within the limit; else an error."""
    started, taken = False, 0
    limit = most_bytes + AROUND_THE_FILE

    async def counted() -> Any:
        nonlocal taken
        message = await receive()
        if message["type"] == "http.request":
            taken += len(message.get("body", b""))
            if taken > limit:  # for the application the client is gone: it clears away what it has
                return {"type": "http.disconnect"}
        return message

    async def noted(message: dict[str, Any]) -> None:
        nonlocal started
        started = True
        await send(message)

    try:
        _check(scope, limit, most_bytes)
        await application(scope, counted, noted)
    except GatewayError as error:
        await _refuse(scope, error, send)
        return
    if taken > limit and not started:
        await _refuse(scope, _too_large_at(scope, most_bytes), send)


def too_large(most_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(f"The file is larger than {most_bytes} bytes.", param="file")


def _too_large_at(scope: dict[str, Any], most_bytes: int) -> BodyTooLarge:
    if scope["path"].rstrip("/") == FILES:
        return too_large(most_bytes)
    return BodyTooLarge(f"The request body is larger than {most_bytes} bytes.")


def _check(scope: dict[str, Any], limit: int, most_bytes: int) -> None:
    sent = dict(scope["headers"])
    snapshot = current()
    client = scope.get("client")
    address = client[0] if client else ""
    if snapshot.trusted_proxies and (forwarded := sent.get(b"x-forwarded-for")) is not None:
        address = address_of(address, forwarded.decode("latin-1"), snapshot.trusted_proxies)
    key = presented_key(sent.get(b"authorization"), sent.get(b"x-api-key"), sent.get(b"api-key"))
    admit(key, snapshot, now=time.time(), address=address)
    announced = sent.get(b"content-length", b"0")
    if not announced.isdigit() or int(announced) > limit:
        raise _too_large_at(scope, most_bytes)
    encoding = sent.get(b"content-encoding", b"identity")
    if encoding.lower() != b"identity":
        raise InvalidRequest(f"The request body is encoded ({encoding.decode('latin-1')[:64]}); send it as it is.")


async def _refuse(scope: dict[str, Any], error: GatewayError, send: Any) -> None:
    """In OpenAI's envelope, or in Anthropic's."""
    body, headers = errors.body_of(error), errors.headers_of(error)
    if scope["path"].startswith(MESSAGE_BATCHES) or any(name == b"anthropic-version" for name, _ in scope["headers"]):
        request_id = new_request_id()
        body = anthropic.error_body(body, error.status, request_id)
        headers.append((b"request-id", request_id.encode()))
    headers.append((b"content-length", b"%d" % len(body)))
    if (b"connection", b"close") not in headers:  # the body that was not read
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
