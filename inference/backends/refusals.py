"""What an upstream's refusal means: its status and error body as one of our errors, without our secrets in it."""

from __future__ import annotations

import email.utils
import re
import time
from typing import Any

import msgspec

from inference.backends import http
from inference.errors import (
    GatewayError,
    UpstreamBroken,
    UpstreamFailed,
    UpstreamRateLimited,
    UpstreamRefusedOurKey,
    UpstreamRejected,
    UpstreamTimeout,
)
from inference.told_usage import usage_tail

_SHORTEST_SECRET = 4
_LONGEST_MESSAGE = 500
_CODE = re.compile(r"[\w.-]{1,64}", re.ASCII)
_LONGEST_WAIT_SECONDS = 86_400.0
_UNAVAILABLE = (503, 529)
_BAD_KEY = ("API_KEY_INVALID", "API_KEY_EXPIRED")
_DELAY = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)s")


class Reader:
    """Reads refusals of one provider; `secrets` are never relayed."""

    def __init__(self, secrets: list[str]) -> None:
        found: set[bytes] = set()
        for secret in secrets:
            if len(secret) >= _SHORTEST_SECRET:
                found |= {secret.encode(), msgspec.json.encode(secret)[1:-1]}
        self._secrets = sorted(found, key=len, reverse=True)

    async def refusal(self, reply: http.HttpReply) -> GatewayError:
        status = reply.status
        if status < 200 or 300 <= status < 400:
            await reply.aclose()
            return UpstreamBroken(
                "The provider answered with a redirect, which is not followed.", detail=f"status {status}"
            )
        body = self.redacted(await http.whole_body(reply))
        refusal = self._refusal_of(reply, body)
        refusal.used = usage_tail(body) or b""
        return refusal

    def _refusal_of(self, reply: http.HttpReply, body: bytes) -> GatewayError:
        status = reply.status
        error, wrapped = _error_of(body)
        message = _message_of(error, body)
        wait = _retry_after(reply)
        if wait is None:
            wait = _retry_delay(error)
        if status == 401 or _is_about_the_key(error):
            return UpstreamRefusedOurKey("The provider refused the gateway's key.", detail=_facts(status, error))
        if status == 408:
            return UpstreamTimeout("The provider gave up waiting.", detail=_facts(status, error), retry_after=wait)
        if status >= 500:
            kept = 503 if status in _UNAVAILABLE else 502
            text = f"The provider failed: {message}" if error else "The provider failed."
            return UpstreamFailed(text, detail=_facts(status, error), status=kept, retry_after=wait)
        refused = UpstreamRateLimited if status == 429 else UpstreamRejected
        return refused(
            message,
            body=body if wrapped and isinstance(error, dict) else _wrapped(error, message, refused.type),
            status=status,
            code=_text(error, "code"),
            param=_text(error, "param"),
            detail=_facts(status, error),
            retry_after=wait,
        )

    def in_band(self, body: bytes) -> GatewayError:
        """An error under a status that says all is well."""
        body = self.redacted(body)
        message = _message_of(_error_of(body)[0], body)
        failed = UpstreamFailed(f"The provider failed: {message}", detail="an error body under status 200")
        failed.used = usage_tail(body) or b""
        return failed

    def redacted(self, data: bytes) -> bytes:
        for secret in self._secrets:
            data = data.replace(secret, "••••".encode())
        return data

    def redacted_text(self, text: str) -> str:
        return self.redacted(text.encode()).decode("utf-8", "replace")


def _error_of(body: bytes) -> tuple[Any, bool]:
    """What a body says of the error, and whether it does so in OpenAI's member `error` (an object; Ollama: a text).

    Without that wrapping the body is the error itself (Mistral, older vLLM) or holds it as `detail` (FastAPI).
    """
    try:
        told = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None, False
    if isinstance(told, list) and len(told) == 1 and isinstance(told[0], dict) and "error" in told[0]:
        return told[0]["error"], False  # Google's endpoint wraps it so
    if not isinstance(told, dict):
        return None, False
    if "error" in told:
        return told["error"], True
    return told if "message" in told else told.get("detail"), False


def _details(error: Any) -> list[dict[str, Any]]:
    """Of an error as Google's APIs tell it: https://cloud.google.com/apis/design/errors."""
    told = error.get("details") if isinstance(error, dict) else None
    return [one for one in told if isinstance(one, dict)] if isinstance(told, list) else []


def _is_about_the_key(error: Any) -> bool:
    """Google says 400 of a key that is not valid."""
    return any(one.get("reason") in _BAD_KEY for one in _details(error))


def _retry_delay(error: Any) -> float | None:
    """Google says in the body when to come back: "34s"."""
    for one in _details(error):
        found = _DELAY.fullmatch(str(one.get("retryDelay", "")))
        if found is not None:
            return _bounded(float(found.group(1)))
    return None


def _message_of(error: Any, body: bytes) -> str:
    said = error.get("message") if isinstance(error, dict) else error
    if isinstance(said, (dict, list)):
        said = msgspec.json.encode(said).decode()
    text = said if isinstance(said, str) else body[: 4 * _LONGEST_MESSAGE].decode("utf-8", "replace")
    text = " ".join(text.split())
    if text.startswith("<"):
        return "an HTML page"
    return text[:_LONGEST_MESSAGE] or "no reason given"


def _facts(status: int, error: Any) -> str:
    """For the log, which holds no sentence of an upstream's: it may quote the prompt."""
    code = _text(error, "code")
    return f"status {status}" + (f", code {code}" if code is not None and _CODE.fullmatch(code) else "")


def _text(error: Any, name: str) -> str | None:
    value = error.get(name) if isinstance(error, dict) else None
    return str(value) if value is not None else None


def _wrapped(error: Any, message: str, kind: str) -> bytes:
    """The error as OpenAI's clients read it, with what the upstream said of its type, param and code."""
    said = error if isinstance(error, dict) else {}
    facts = {name: said.get(name) for name in ("type", "param", "code")}
    return msgspec.json.encode({"error": {"message": message, **facts, "type": facts["type"] or kind}})


def _retry_after(reply: http.HttpReply) -> float | None:
    """Seconds to wait, by OpenAI's `retry-after-ms` or by RFC 9110's two forms of Retry-After."""
    try:
        milliseconds = http.header(reply, b"retry-after-ms")
        if milliseconds:
            return _bounded(float(milliseconds) / 1000)
        value = http.header(reply, b"retry-after").decode("latin-1").strip()
        if not value:
            return None
        if value[:1].isdigit():
            return _bounded(float(value))
        return _bounded(email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def _bounded(seconds: float) -> float | None:
    return min(max(seconds, 0.0), _LONGEST_WAIT_SECONDS) if seconds == seconds else None
