from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models import BooleanField
from django.db.models.expressions import RawSQL

from inference import trace_search
from inference.models import Trace
from inference.trace_search import EVERYTHING, BadCursor, Search, Sight, find, one
from routing import issuing

NOW = datetime(2031, 5, 7, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)

pytestmark = pytest.mark.django_db


def a_trace(name: str, minutes_ago: float = 1, **fields: Any) -> Trace:
    told = {"operation": "chat", "requested_model": "writer", "status": 200, "trace_id": name, **fields}
    return Trace.objects.create(request_id=name, at=NOW - minutes_ago * MINUTE, **told)


def found(search: Search | None = None, sight: Sight = EVERYTHING, **more: Any) -> list[str]:
    return [row.request_id for row in find(search or Search(), sight, now=NOW, **more).rows]


def test_the_newest_come_first() -> None:
    a_trace("older", 2)
    a_trace("newer", 1)
    a_trace("days ago", 60 * 24 * 5)
    assert found() == ["newer", "older", "days ago"]


def test_what_is_older_than_the_hours_that_are_kept_is_not_shown(settings) -> None:
    settings.GATEWAY_TRACE_HOURS = 2
    a_trace("old", 121)
    a_trace("young", 119)
    assert found() == ["young"]
    assert one("old", EVERYTHING, NOW) is None


def test_pages_follow_each_other_without_a_gap_or_a_repetition() -> None:
    for number in range(7):
        a_trace(str(number), 1 + number // 3)  # several of one moment
    page, seen = find(Search(), EVERYTHING, now=NOW, limit=2), []
    while True:
        seen += [row.request_id for row in page.rows]
        if not page.cursor:
            break
        a_trace(f"new {len(seen)}", 0)  # what comes meanwhile moves nothing
        page = find(Search(), EVERYTHING, now=NOW, limit=2, cursor=page.cursor)
    assert seen == ["2", "1", "0", "5", "4", "3", "6"]


@pytest.mark.parametrize(
    ("search", "fields"),
    [
        (Search(team=3), {"team_id": 3}),
        (Search(model="reader"), {"requested_model": "reader"}),
        (Search(served_by="gpt"), {"model_id": "gpt"}),
        (Search(served_by="p/gpt"), {"provider_id": "p", "model_id": "gpt"}),
        (Search(served_by="meta/llama"), {"provider_id": "p", "model_id": "meta/llama"}),
        (Search(provider="p"), {"provider_id": "p"}),
        (Search(policy="writer"), {"policy": "writer"}),
        (Search(session="s"), {"session_id": "s"}),
        (Search(tag="b"), {"tags": ",a,b,"}),
        (Search(error="no_balance"), {"status": 402, "error_code": "no_balance"}),
        (Search(owner="policy"), {"status": 402, "error_owner": "policy"}),
        (Search(status=429), {"status": 429}),
        (Search(outcome="failed"), {"status": 500}),
        (Search(outcome="failed"), {"error_code": "upstream_broken"}),
        (Search(outcome="rescued"), {"attempts": 2}),
        (Search(outcome="cut"), {"error_code": "upstream_broken"}),
        (Search(operation="embeddings"), {"operation": "embeddings"}),
        (Search(side="legacy"), {"side": "legacy"}),
        (Search(slower_than_ms=1000), {"duration_ms": 1500.0}),
        (Search(key="gw_stranger"), {"client_key_prefix": "gw_stranger"}),
    ],
)
def test_a_search_finds_what_it_names_and_nothing_else(search: Search, fields: dict[str, Any]) -> None:
    a_trace("wanted", **fields)
    a_trace("another", tags=",bb,", session_id="other", provider_id="q", model_id="other")
    assert found(search) == ["wanted"]


def test_probes_are_shown_to_who_asks_for_them() -> None:
    a_trace("asked by a client")
    a_trace("probe", side="probe")
    assert found() == ["asked by a client"]
    assert found(Search(side="probe")) == found(Search(id="probe")) == ["probe"]
    assert set(found(Search(side="all"))) == {"asked by a client", "probe"}


def test_answered_ones_are_those_without_an_error() -> None:
    a_trace("good")
    a_trace("failed", status=500)
    a_trace("cut", error_code="upstream_broken")
    assert found(Search(outcome="answered")) == ["good"]


def test_a_time_has_a_beginning_and_an_end() -> None:
    for minutes in (1, 5, 9):
        a_trace(str(minutes), minutes)
    assert found(Search(since=NOW - 6 * MINUTE, until=NOW - 2 * MINUTE)) == ["5"]


def test_a_key_is_found_by_its_prefix_whatever_its_prefix_was_then() -> None:
    key = issuing.issue("Shop", ["generate"])[0]
    a_trace("before", client_key_id=key.pk, client_key_prefix="gw_former")
    a_trace("another", client_key_id=key.pk + 1, client_key_prefix="gw_other")
    assert found(Search(key=key.prefix)) == ["before"]


def test_a_request_is_found_by_every_name_of_its_trace() -> None:
    a_trace("req_" + "ab" * 16, trace_id="order-7")
    for name in ("req_" + "ab" * 16, "ab" * 16, "order-7"):
        assert found(Search(id=name)) == ["req_" + "ab" * 16]
        assert one(name, EVERYTHING, NOW) is not None
    assert found(Search(id="order")) == []


def test_of_a_trace_with_several_requests_the_latest_is_told() -> None:
    a_trace("first", 2, trace_id="order-7")
    a_trace("second", 1, trace_id="order-7")
    latest = one("order-7", EVERYTHING, NOW)
    assert latest is not None
    assert (latest.request_id, found(Search(id="order-7"))) == ("second", ["second", "first"])


def test_a_key_sees_its_own_and_a_user_the_teams_own() -> None:
    a_trace("mine", client_key_id=1, team_id=1)
    a_trace("the team's", client_key_id=2, team_id=1)
    a_trace("nobody's")
    assert found(sight=Sight(key_id=1)) == ["mine"]
    assert sorted(found(sight=Sight(teams={1}))) == ["mine", "the team's"]
    assert found(sight=Sight(teams=())) == []
    assert one("the team's", Sight(key_id=1), NOW) is None


def test_a_search_that_takes_too_long_tells_how_far_it_came_and_goes_on_there(monkeypatch) -> None:
    a_trace("far", 60 * 24 * 3)
    monkeypatch.setattr(trace_search, "_ENOUGH", 0.0)
    search = Search(operation="chat")
    page = find(search, EVERYTHING, now=NOW)
    assert (page.rows, page.looked_back_to) == ([], NOW - trace_search._FIRST_SPAN)
    for _ in range(20):
        if page.rows or not page.cursor:
            break
        page = find(search, EVERYTHING, now=NOW, cursor=page.cursor)
        monkeypatch.setattr(trace_search, "_ENOUGH", 10.0)
    assert [row.request_id for row in page.rows] == ["far"]


@pytest.mark.skipif(connection.vendor != "postgresql", reason="only there a statement has a time limit of its own")
def test_a_span_that_is_read_too_slowly_is_read_in_smaller_parts(monkeypatch) -> None:
    a_trace("near", 5)
    a_trace("far", 60)
    matching = trace_search._matching
    slow = RawSQL("pg_sleep(0.02) IS NOT NULL", [], output_field=BooleanField())
    monkeypatch.setattr(trace_search, "_matching", lambda search, rows: matching(search, rows).filter(slow))
    monkeypatch.setattr(trace_search, "_ENOUGH", 0.01)
    monkeypatch.setattr(trace_search, "_LEAST_SPAN", timedelta(minutes=1))
    page, seen = find(Search(), EVERYTHING, now=NOW), []
    for _ in range(100):
        seen += [row.request_id for row in page.rows]
        if not page.cursor:
            break
        page = find(Search(), EVERYTHING, now=NOW, cursor=page.cursor)
    assert seen == ["near", "far"]


@pytest.mark.parametrize("cursor", ["x", "bm9wZQ", "WzEsMl0", "WyIyMDMxLTA1LTA3IiwxXQ", "é"])
def test_a_cursor_of_ones_own_making_is_refused(cursor: str) -> None:
    with pytest.raises(BadCursor):
        find(Search(), EVERYTHING, now=NOW, cursor=cursor)
