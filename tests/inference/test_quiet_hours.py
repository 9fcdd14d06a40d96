from __future__ import annotations

from datetime import UTC, datetime, time

import pytest

from inference.quiet_hours import quiet_until


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("now", "over"),
    [
        ("2026-11-21 21:30", "2026-11-22 06:00"),  # 22:30 in Berlin, quiet until 7:00 there
        ("2026-11-22 05:59", "2026-11-22 06:00"),
        ("2026-11-22 06:00", None),
        ("2026-11-21 20:59", None),
        ("2026-07-01 20:30", "2026-07-02 05:00"),  # summer time
    ],
)
def test_hours_over_midnight_in_their_zone(now: str, over: str | None) -> None:
    told = quiet_until(at(now), time(22), time(7), "Europe/Berlin")
    assert told == (None if over is None else at(over))


def test_hours_within_a_day() -> None:
    assert quiet_until(at("2026-11-21 13:00"), time(12), time(14), "UTC") == at("2026-11-21 14:00")
    assert quiet_until(at("2026-11-21 14:00"), time(12), time(14), "UTC") is None


def test_a_clock_that_is_set_back_does_not_end_them_in_the_past() -> None:
    now = datetime(2026, 10, 25, 1, 15, tzinfo=UTC)  # 2:15 for the second time in Berlin
    told = quiet_until(now, time(1), time(2, 30), "Europe/Berlin")
    assert told is not None
    assert told > now


def test_without_hours_it_is_never_quiet() -> None:
    assert quiet_until(at("2026-11-21 13:00"), None, None, "UTC") is None
    assert quiet_until(at("2026-11-21 13:00"), time(5), time(5), "UTC") is None
