"""Times as databases and their drivers give them, as instants. Pure: the zone of times that name none is an argument."""

from __future__ import annotations

import math
import re
from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Any, NamedTuple

from providers.importers.legacy_texts import readable

_COMPACT = re.compile(r"\d{8}|\d{14}", re.ASCII)
_NUMBER = re.compile(r"-?\d+(\.\d+)?", re.ASCII)
_ZONE = re.compile(r"\s*(z|utc|gmt)$|\s+(?=[+-]\d{2}(:?\d{2})?$)", re.IGNORECASE)
_NO_TIME = timedelta(0)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS = ((1e8, 1e11, 1.0), (1e11, 1e14, 1e3), (1e14, 1e17, 1e6))
"""From, up to, and how many of them are a second: seconds, milliseconds and microseconds since 1970, from 1973 on."""
_JULIAN_DAYS, _JULIAN_EPOCH, _DAY_SECONDS = (2_400_000.0, 2_500_000.0), 2_440_587.5, 86_400


class Moment(NamedTuple):
    """`at` is in UTC, None when the value cannot be read; `is_guessed` where the clock change makes it ambiguous or skips it."""

    at: datetime | None
    is_guessed: bool = False


def read(value: Any, zone: tzinfo) -> Moment:
    """A time in any form that a database holds; the naive ones are of `zone`."""
    try:
        if type(value) is str:
            return _from_text(value.strip(), zone)
        if isinstance(value, datetime):
            return _placed(value, zone)
        if isinstance(value, date):
            return _placed(datetime(value.year, value.month, value.day), zone)
        if isinstance(value, bool):
            return Moment(None)
        if isinstance(value, int | float | Decimal):
            return Moment(_from_number(float(value)))
        return _from_text(readable(value).strip(), zone)
    except (ValueError, OverflowError, ArithmeticError):
        return Moment(None)


def _placed(found: datetime, zone: tzinfo) -> Moment:
    if found.tzinfo is not None:
        return Moment(found.astimezone(UTC))
    if zone is UTC or getattr(zone, "key", "") == "UTC":
        return Moment(found.replace(tzinfo=UTC))
    first, second = (found.replace(tzinfo=zone, fold=fold).utcoffset() for fold in (0, 1))
    return Moment((found - (first or _NO_TIME)).replace(tzinfo=UTC), first != second)


def _from_text(text: str, zone: tzinfo) -> Moment:
    if text[4:5] == "-" and text[-1:].isdigit():
        try:
            return _placed(datetime.fromisoformat(text), zone)
        except ValueError:
            pass  # another form, such as one with a blank before the offset
    if _COMPACT.fullmatch(text):
        return _placed(datetime.strptime(text.ljust(14, "0"), "%Y%m%d%H%M%S"), zone)
    if _NUMBER.fullmatch(text):
        return Moment(_from_number(float(text)))
    return _placed(datetime.fromisoformat(_ZONE.sub(lambda found: "+00:00" if found[1] else "", text)), zone)


def _from_number(number: float) -> datetime | None:
    if not math.isfinite(number):
        return None
    for lowest, highest, a_second in _UNITS:
        if lowest <= number < highest:
            return _EPOCH + timedelta(seconds=number / a_second)
    if _JULIAN_DAYS[0] < number < _JULIAN_DAYS[1]:
        return _EPOCH + timedelta(seconds=round((number - _JULIAN_EPOCH) * _DAY_SECONDS, 3))
    return None
