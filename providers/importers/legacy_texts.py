"""Texts, ids, flags and numbers as databases of all kinds hold them, read into what the registry can store. Pure."""

from __future__ import annotations

import math
import re
import unicodedata
from decimal import Decimal
from typing import Any

from providers.importers.findings import (
    FLAG_BROKEN,
    ID_UNUSABLE,
    NULL_FLAG,
    NUMBER_BROKEN,
    NUMBER_REPAIRED,
    TEXT_CUT,
    TEXT_REPAIRED,
)
from providers.importers.legacy import ABSENT
from providers.importers.remarks import Remarks

LARGEST_NUMBER = 2**31 - 1
LONGEST_ID = 255

_TRUE = {"1", "true", "t", "yes", "y", "on", "\x01"}
_FALSE = {"0", "false", "f", "no", "n", "off", "\x00"}
_WHOLE = re.compile(r"[+-]?(\d{1,3}(,\d{3})+|\d{1,19})(\.0*)?", re.ASCII)


def readable(value: Any) -> str:
    """Any raw value as a text; NULL and absent columns as the empty one."""
    if isinstance(value, str):
        return value
    if value is None or value is ABSENT:
        return ""
    if isinstance(value, memoryview | bytearray | bytes):
        return bytes(value).decode("utf-8", "replace")
    return str(value)


def storable(text: str) -> str:
    """Without what PostgreSQL cannot hold: NUL and halves of surrogate pairs."""
    if text.isascii() and "\0" not in text:
        return text
    return text.replace("\0", "").encode("utf-8", "ignore").decode("utf-8")


def line(value: Any, longest: int, field: str, remarks: Remarks) -> str:
    """A text of one line, without blanks at its ends, cut at `longest` characters."""
    if type(value) is str and value.isprintable() and len(value) <= longest and not _has_blank_ends(value):
        return value
    found = readable(value)
    kept = "".join(character for character in found if unicodedata.category(character) not in {"Cc", "Cs"}).strip()
    if kept != found:
        remarks.say(field, TEXT_REPAIRED, "repaired", "Blanks at the ends or control characters were taken out.")
    if len(kept) > longest:
        remarks.say(field, TEXT_CUT, "cut", f"It had {len(kept)} characters, {longest} are kept.")
        kept = kept[:longest].rstrip()
    return kept


def prose(value: Any, field: str, remarks: Remarks) -> str:
    """A text of any length and shape, as far as every database can hold it."""
    found = readable(value)
    kept = storable(found)
    if kept != found:
        remarks.say(field, TEXT_REPAIRED, "repaired", "Characters that no database holds were taken out.")
    return kept


def usable_id(value: Any) -> str | None:
    """The id as the registry holds it: blanks at its ends trimmed. None when it is empty, too long or not printable."""
    if type(value) is str and 0 < len(value) <= LONGEST_ID and value.isprintable() and not _has_blank_ends(value):
        return value
    found = readable(value).strip()
    if not found or len(found) > LONGEST_ID or any(unicodedata.category(character)[0] == "C" for character in found):
        return None
    return found


def identifier(value: Any, field: str, remarks: Remarks) -> str | None:
    """`usable_id`, and a remark on what was done about it."""
    found = usable_id(value)
    if found is None:
        remarks.say(
            field, ID_UNUSABLE, "rejected", "It is empty, longer than 255 characters or holds control characters."
        )
    elif found is not value and found != readable(value):
        remarks.say(field, TEXT_REPAIRED, "repaired", "Blanks at the ends were taken out.")
    return found


def flag(value: Any, field: str, remarks: Remarks, *, default: bool, safe: bool) -> bool:
    """Yes or no in any spelling; `default` for NULL, `safe` for nonsense, both with a remark."""
    if value is True or value is False:
        return bool(value)
    if value is ABSENT:
        return default
    if value is None:
        remarks.say(field, NULL_FLAG, "guessed", f"NULL was read as {default}.")
        return default
    said = _flag(value)
    if said is None:
        remarks.say(field, FLAG_BROKEN, "guessed", f"It says neither yes nor no and was read as {safe}.")
        return safe
    return said


def _flag(value: Any) -> bool | None:
    if isinstance(value, int | float | Decimal):
        return bool(value) if _is_finite(value) and value in (0, 1) else None
    text = readable(value)
    text = text if text in {"\x00", "\x01"} else text.strip().casefold()
    return True if text in _TRUE else False if text in _FALSE else None


def whole_number(value: Any, field: str, remarks: Remarks) -> int | None:
    """A count of at least 1 that fits the field, or None."""
    if value is None or value is ABSENT:
        return None
    if type(value) is int:
        if 0 < value <= LARGEST_NUMBER:
            return value
        number: int | None = value
    else:
        number = _whole(value)
        if number is not None and 1 <= number <= LARGEST_NUMBER:
            remarks.say(field, NUMBER_REPAIRED, "repaired", "A whole number stored in another form.")
    if number is None or not 1 <= number <= LARGEST_NUMBER:
        remarks.say(field, NUMBER_BROKEN, "dropped", f"A whole number from 1 to {LARGEST_NUMBER} is needed.")
        return None
    return number


def _whole(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, float | Decimal):
        if not _is_finite(value) or not -LARGEST_NUMBER <= value <= LARGEST_NUMBER:
            return None
        return int(value) if value == int(value) else None
    text = readable(value).strip()
    return int(text.partition(".")[0].replace(",", "")) if _WHOLE.fullmatch(text) else None


def _is_finite(value: float | Decimal) -> bool:
    return value.is_finite() if isinstance(value, Decimal) else math.isfinite(value)


def _has_blank_ends(text: str) -> bool:
    return text != "" and (text[0].isspace() or text[-1].isspace())
