"""What Anthropic's refusals mean beyond their status: that an account's money is used up, and until when. Pure.

A limit that somebody set is told with a 400, the one of the account's tier with a 429 that names no time to come back, an empty balance
with a 402 or a 400. No other try with that key can help, so each is a key that is used up.
Source: https://platform.claude.com/docs/en/api/errors and …/rate-limits.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import orjson

from inference.errors import GatewayError, UpstreamRateLimited, UpstreamRejected
from routing.key_exhaustion import SPENT

_TIER_REACHED = "enforced_spend_limit_reached"
_SPEND_CODES = frozenset({_TIER_REACHED, "contract_spend_limit_reached"})
_SET_LIMIT_REACHED = re.compile(r"reached your specified (?:workspace )?API usage limits")
_SPEND_LIMIT = re.compile(r"spend(?:ing)? limit", re.IGNORECASE)
_EMPTY = re.compile(r"credit balance is too low")
_BACK_ON = re.compile(r"regain access on (\d{4}-\d{2}-\d{2}) at (\d{2}:\d{2})")


def judged(error: GatewayError, now: datetime) -> GatewayError:
    """The same refusal, or that the key is used up; `now` is in UTC."""
    if not isinstance(error, UpstreamRejected):
        return error
    code, message = _told(error.body)
    if not _is_spent(error, code, message):
        return error
    spent = UpstreamRateLimited(
        error.message,
        body=error.body,
        code=SPENT,
        detail=error.detail,
        retry_after=_seconds_until_back(error, code, message, now),
    )
    spent.used = error.used
    return spent


def _is_spent(error: UpstreamRejected, code: str, message: str) -> bool:
    if error.status == 429:
        # With a time to come back it is a limit of a workspace, which the client is told as any other.
        return code in _SPEND_CODES or (error.retry_after is None and bool(_SPEND_LIMIT.search(message)))
    if error.status == 400:
        return bool(_SET_LIMIT_REACHED.search(message) or _EMPTY.search(message))
    return error.status == 402


def _seconds_until_back(error: UpstreamRejected, code: str, message: str, now: datetime) -> float | None:
    if found := _BACK_ON.search(message):
        try:
            back = datetime.fromisoformat(f"{found[1]}T{found[2]}+00:00")
        except ValueError:
            return None
        return max(0.0, (back - now).total_seconds())
    if error.status == 429 and code != "contract_spend_limit_reached":
        return (_next_month(now) - now).total_seconds()
    return None


def _next_month(now: datetime) -> datetime:
    year, month = (now.year + 1, 1) if now.month == 12 else (now.year, now.month + 1)
    return datetime(year, month, 1, tzinfo=UTC)


def _told(body: bytes) -> tuple[str, str]:
    """The code among the error's details, and its message."""
    try:
        told: Any = orjson.loads(body)["error"]
        details = told.get("details")
        code = details.get("error_code") if isinstance(details, dict) else None
        return str(code or ""), str(told.get("message") or "")
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return "", ""
