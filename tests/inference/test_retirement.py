from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from inference import retirement
from inference.models import OldPathTracking, OldPathUse, Trace
from routing import issuing
from routing.models import Rollout
from tests.inference.ledger import record

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def counted_for_long() -> None:
    OldPathTracking.objects.create(since=NOW - timedelta(days=100))


def use(days_ago: float, client: str = "key:gw-a", family: str = "/providers", requests: int = 1) -> None:
    at = NOW - timedelta(days=days_ago)
    OldPathUse.objects.create(
        day=at.date(), client=client, client_name="Ada", family=family, requests=requests, last_at=at
    )


def forwarded(days_ago: float, prefix: str = "", side: str = "legacy") -> None:
    record(at=NOW - timedelta(days=days_ago), client_key_prefix=prefix, side=side)


def told(days: int = 30) -> retirement.Report:
    return retirement.report(days, NOW)


def test_nobody_for_thirty_days_is_safe() -> None:
    use(30.5)
    assert (told().safe, told().exit_status) == (True, 0)
    assert told().verdict == "No request used the old paths for 30 days: safe to remove."


def test_a_client_that_came_is_named_with_its_count_and_its_last_use() -> None:
    use(3, requests=2)
    use(1, requests=5)
    use(2, "address:10.0.0.1", "/generate")

    report = told()

    assert [(one.family, one.client, one.client_name, one.requests, one.last_at) for one in report.uses] == [
        ("/generate", "address:10.0.0.1", "Ada", 1, NOW - timedelta(days=2)),
        ("/providers", "key:gw-a", "Ada", 7, NOW - timedelta(days=1)),
    ]
    assert (report.safe, report.exit_status) == (False, 2)
    assert "2 clients came through them within 30 days" in report.verdict


def test_a_request_forwarded_to_the_legacy_side_is_a_use() -> None:
    row, _ = issuing.issue("the old app", ["generate"])
    forwarded(1, row.prefix)
    forwarded(2, row.prefix)
    forwarded(1, "legacy-0123")
    forwarded(1, "gw-c", side="gateway")

    assert [(one.family, one.client, one.client_name, one.requests) for one in told().uses] == [
        (retirement.FORWARDED, f"key:{row.prefix}", "the old app", 2),
        (retirement.FORWARDED, "legacy-0123", "", 1),
    ]


def test_forwarded_requests_count_long_after_their_traces_are_gone() -> None:
    forwarded(29, "legacy-0123")
    Trace.objects.all().delete()
    assert [one.requests for one in told().uses] == [1]


def test_what_is_known_for_too_short_is_not_called_safe() -> None:
    OldPathTracking.objects.update(since=NOW - timedelta(days=29))
    assert not told(30).safe
    assert "since 2026-10-22 12:00 UTC only" in told(30).verdict
    assert told(29).safe


def test_before_any_process_has_counted_nothing_is_known() -> None:
    OldPathTracking.objects.all().delete()
    assert (told().safe, told().since) == (False, None)


@pytest.mark.parametrize(
    ("rollout", "safe", "said"),
    [
        ({"percentage": 100}, True, "safe to remove"),
        ({"percentage": "99.5"}, False, "keeps only 99.5 %"),
        ({"gateway_enabled": False}, False, "kill switch"),
    ],
)
def test_a_roll_out_that_still_forwards_is_not_safe(rollout: dict[str, Any], safe: bool, said: str) -> None:
    Rollout.objects.create(legacy_base_url="https://legacy.example", **rollout)
    assert told().safe == safe
    assert said in told().verdict
