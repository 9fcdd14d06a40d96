from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.importers import legacy_times

BERLIN = ZoneInfo("Europe/Berlin")
NOON = datetime(2024, 3, 5, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    "raw",
    [
        datetime(2024, 3, 5, 12, 0),
        datetime(2024, 3, 5, 13, 0, tzinfo=timezone(timedelta(hours=1))),
        *(
            "2024-03-05 12:00:00",
            "2024-03-05T12:00:00",
            "2024-03-05 12:00",
            "2024-03-05 12:00:00.000",
            " 2024-03-05 12:00:00 ",
        ),
        *("2024-03-05T12:00:00Z", "2024-03-05 12:00:00 UTC", "2024-03-05T13:00:00+01:00", "2024-03-05 13:00:00 +0100"),
        *("20240305120000", "2024-03-05 12:00:00.000000000", b"2024-03-05 12:00:00"),
        *(1709640000, 1709640000.0, 1709640000000, "1709640000", Decimal(1709640000), 2460375.0, "2460375.0"),
    ],
)
def test_every_form_of_a_time_is_read(raw):
    assert legacy_times.read(raw, UTC) == (NOON, False)
    assert legacy_times.read(raw, ZoneInfo("UTC")) == (NOON, False)


@pytest.mark.parametrize("raw", [date(2024, 3, 5), "2024-03-05", "20240305"])
def test_a_day_is_its_midnight(raw):
    assert legacy_times.read(raw, UTC).at == datetime(2024, 3, 5, tzinfo=UTC)


@pytest.mark.parametrize("raw", [datetime(2024, 7, 5, 12, 0), "2024-07-05 12:00:00"])
def test_a_naive_time_is_of_the_zone_that_was_told(raw):
    assert legacy_times.read(raw, BERLIN) == (datetime(2024, 7, 5, 10, 0, tzinfo=UTC), False)


@pytest.mark.parametrize(
    ("raw", "at"),
    [
        ("2024-10-27 02:30:00", datetime(2024, 10, 27, 0, 30, tzinfo=UTC)),
        ("2024-03-31 02:30:00", datetime(2024, 3, 31, 1, 30, tzinfo=UTC)),
    ],
)
def test_a_time_that_the_clock_change_doubles_or_skips_is_a_guess(raw, at):
    assert legacy_times.read(raw, BERLIN) == (at, True)


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "0000-00-00 00:00:00",
        "2024-02-30",
        "soon",
        0,
        -1,
        True,
        float("nan"),
        Decimal("sNaN"),
        10**30,
        "9" * 400,
        [],
        None,
    ],
)
def test_what_is_no_time_is_none(raw):
    assert legacy_times.read(raw, UTC).at is None


@pytest.mark.parametrize(
    "raw", ["0001-01-01 00:00:00+14:00", datetime.max.replace(tzinfo=timezone(-timedelta(hours=1)))]
)
def test_a_time_that_leaves_the_calendar_is_none(raw):
    assert legacy_times.read(raw, BERLIN).at is None


@given(
    st.one_of(st.text(), st.datetimes(timezones=st.none() | st.timezones()), st.floats(), st.integers(), st.binary())
)
def test_no_value_raises(raw):
    found = legacy_times.read(raw, BERLIN).at
    assert found is None or found.utcoffset() == timedelta(0)
