from __future__ import annotations

from datetime import UTC, datetime

import pytest

from inference.batch_hours import closed_until, read


@pytest.mark.parametrize(
    ("clock", "opens"),
    [("23:00", None), ("05:59", None), ("06:00", "22:00"), ("12:00", "22:00"), ("22:00", None)],
)
def test_hours_over_midnight(clock: str, opens: str | None) -> None:
    now = datetime.fromisoformat(f"2026-03-03T{clock}+00:00")
    found = closed_until(now, ["22:00-06:00", ""], "UTC")
    assert (None if found is None else f"{found:%H:%M}") == opens


def test_all_spans_have_to_be_open() -> None:
    now = datetime(2026, 3, 3, 23, 0, tzinfo=UTC)
    assert closed_until(now, ["22:00-06:00", "01:00-02:00"], "UTC") == datetime(2026, 3, 4, 1, 0, tzinfo=UTC)
    assert closed_until(now, [], "UTC") is None


@pytest.mark.parametrize("text", ["22-6", "24:00-06:00", "06:00-06:00", "22:00-06:00 "])
def test_what_is_no_span_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="span of hours"):
        read(text)
