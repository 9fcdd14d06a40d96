from datetime import UTC, datetime
from decimal import Decimal
from itertools import islice

import pytest

from routing.allowances import DAY, HOUR, MONTH
from routing.budget_periods import forecast, span, spans_before


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("period", "zone", "now", "start", "end"),
    [
        (HOUR, "UTC", "2026-11-21T18:49:30", "2026-11-21T18:00+00:00", "2026-11-21T19:00+00:00"),
        (HOUR, "Asia/Kolkata", "2026-11-21T18:49:30", "2026-11-22T00:00+05:30", "2026-11-22T01:00+05:30"),
        (DAY, "Europe/Berlin", "2026-11-21T23:30:00", "2026-11-22T00:00+01:00", "2026-11-23T00:00+01:00"),
        (DAY, "Europe/Berlin", "2026-03-29T12:00:00", "2026-03-29T00:00+01:00", "2026-03-30T00:00+02:00"),
        (MONTH, "UTC", "2026-12-31T23:59:59", "2026-12-01T00:00+00:00", "2027-01-01T00:00+00:00"),
        (MONTH, "America/New_York", "2027-01-01T03:00:00", "2026-12-01T00:00-05:00", "2027-01-01T00:00-05:00"),
    ],
)
def test_a_period_is_of_the_calendar_in_its_zone(period, zone, now, start, end):
    found = span(period, at(now), zone)
    assert (found.start, found.end) == (datetime.fromisoformat(start), datetime.fromisoformat(end))


def test_the_hour_that_comes_twice_is_two_periods():
    first, second = at("2026-10-25T00:30:00"), at("2026-10-25T01:30:00")
    assert span(HOUR, first, "Europe/Berlin").end.astimezone(UTC) == at("2026-10-25T01:00:00")
    assert span(HOUR, second, "Europe/Berlin").start.astimezone(UTC) == at("2026-10-25T01:00:00")


@pytest.mark.parametrize("period", [HOUR, DAY, MONTH])
def test_past_periods_lie_edge_to_edge(period):
    now = at("2026-04-02T10:20:00")
    following = span(period, now, "Europe/Berlin")
    for past in islice(spans_before(period, now, "Europe/Berlin"), 40):
        assert past.end.timestamp() == following.start.timestamp()
        following = past


def test_a_pace_that_lasts_has_no_end():
    told = forecast(Decimal(10), Decimal(100), span(MONTH, at("2026-11-16T00:00:00")), at("2026-11-16T00:00:00"))
    assert told is not None
    assert (told.at_end, told.empty_at) == (Decimal(20), None)


def test_a_pace_that_does_not_last_names_the_moment():
    now = at("2026-11-16T00:00:00")
    told = forecast(Decimal(60), Decimal(100), span(MONTH, now), now)
    assert told is not None
    assert told.at_end == Decimal(120)
    assert told.empty_at == at("2026-11-26T00:00:00")


def test_what_is_spent_already_is_empty_now():
    now = at("2026-11-16T00:00:00")
    told = forecast(Decimal(100), Decimal(100), span(MONTH, now), now)
    assert told is not None
    assert told.empty_at == now


@pytest.mark.parametrize(("used", "now"), [(Decimal(0), "2026-11-16T00:00:00"), (Decimal(5), "2026-11-01T00:01:00")])
def test_too_little_to_go_by_is_no_forecast(used, now):
    assert forecast(used, Decimal(100), span(MONTH, at(now)), at(now)) is None
