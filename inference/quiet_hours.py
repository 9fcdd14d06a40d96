"""Until when nobody is to be told: hours of the day, in a time zone, over midnight too. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo


def quiet_until(now: datetime, begin: time | None, end: time | None, zone: str) -> datetime | None:
    """When the quiet hours end that `now` lies in; None outside of them, and without any."""
    if begin is None or end is None or begin == end:
        return None
    here = now.astimezone(ZoneInfo(zone))
    clock = here.time().replace(tzinfo=None)
    inside = begin <= clock < end if begin < end else clock >= begin or clock < end
    if not inside:
        return None
    day = here.date() if clock < end else here.date() + timedelta(days=1)
    over = datetime.combine(day, end, tzinfo=here.tzinfo).astimezone(UTC)
    # Where a clock is set back, the hour that comes twice may end before now.
    return over if over > now else over + timedelta(hours=1)
