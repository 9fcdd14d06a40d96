"""Which of Anthropic's refusals say that an account's money is used up, and until when."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from inference.backends.anthropic_refusals import judged
from inference.errors import UpstreamFailed, UpstreamRateLimited, UpstreamRejected

NOW = datetime(2026, 12, 30, 12, tzinfo=UTC)
MONTH_TURNS = 36 * 3600.0
SET = "You have reached your specified API usage limits. You will regain access on 2027-01-01 at 00:00 UTC."


def refused(status: int, message: str = "no", *, wait: float | None = None, code: str | None = None) -> Any:
    error: dict[str, Any] = {"type": "x", "message": message}
    if code is not None:
        error["details"] = {"error_code": code}
    kind = UpstreamRateLimited if status == 429 else UpstreamRejected
    return kind(message, body=orjson.dumps({"error": error}), status=status, retry_after=wait)


@pytest.mark.parametrize(
    ("error", "wait"),
    [
        (refused(429, code="enforced_spend_limit_reached"), MONTH_TURNS),
        (refused(429, "You hit your monthly spend limit."), MONTH_TURNS),
        (refused(429, code="contract_spend_limit_reached"), None),
        (refused(400, SET), MONTH_TURNS),
        (refused(400, SET.replace("specified API", "specified workspace API")), MONTH_TURNS),
        (refused(400, "Your credit balance is too low to access the Anthropic API."), None),
        (refused(402, "billing"), None),
    ],
)
def test_money_that_is_used_up_sets_the_key_aside(error: UpstreamRejected, wait: float | None) -> None:
    spent = judged(error, NOW)
    assert isinstance(spent, UpstreamRateLimited)
    assert (spent.status, spent.code, spent.retry_after) == (429, "insufficient_quota", wait)
    assert spent.body == error.body


@pytest.mark.parametrize(
    "error",
    [
        refused(429, "slow down"),
        refused(429, "The workspace has reached its spend limit", wait=30.0),
        refused(400, "max_tokens: Field required"),
        refused(404),
        UpstreamFailed("broke"),
    ],
)
def test_every_other_refusal_stays_what_it_is(error: Any) -> None:
    assert judged(error, NOW) is error
