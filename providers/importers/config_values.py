"""Single values of a configuration file, each brought into the form that the registry stores or refused with a sentence.

Pure. A reader takes what the file says and gives the value with the code of what had to be repaired about it, if anything.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

from providers import breaker_settings, locality
from providers.importers import findings
from providers.importers.findings import Code
from providers.importers.legacy_json import read_object, read_words

LARGEST = 2**31 - 1
_TRUE, _FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off"}
_PRICE_WHOLE, _PRICE_PLACES = 10, 10


class Unusable(Exception):
    """What is needed in that place; never what stands there."""


class LeftOut(Exception):
    """The file says nothing there: the code says what null was read as."""

    def __init__(self, code: Code | None = None) -> None:
        self.code = code


class Read(NamedTuple):
    value: Any
    repair: Code | None = None


Reader = Callable[[Any], Read]


def text(longest: int | None = None) -> Reader:
    def read(value: Any) -> Read:
        if value is None:
            return Read("")
        repair = None
        if isinstance(value, bool | int | float):
            value, repair = json.dumps(value), findings.TEXT_REPAIRED
        if not isinstance(value, str):
            raise Unusable("a text is needed")
        if longest is not None and len(value) > longest:
            raise Unusable(f"the text is longer than {longest} characters")
        return Read(value, repair)

    return read


def flag(value: Any) -> Read:
    if value is None:
        raise LeftOut(findings.NULL_FLAG)
    if isinstance(value, bool):
        return Read(value)
    said = str(value).strip().lower() if isinstance(value, str | int) else ""
    if said in _TRUE | _FALSE:
        return Read(said in _TRUE, findings.TEXT_REPAIRED)
    raise Unusable("true or false is needed")


def whole(least: int = 0, *, nullable: bool = False) -> Reader:
    def read(value: Any) -> Read:
        if value is None and nullable:
            return Read(None)
        number, repair = _number(value)
        if number is None or not least <= number <= LARGEST:
            raise Unusable(f"a whole number from {least} to {LARGEST} is needed")
        return Read(number, repair)

    return read


def _number(value: Any) -> tuple[int | None, Code | None]:
    if isinstance(value, bool):
        return None, None
    if isinstance(value, int):
        return value, None
    if isinstance(value, float) and value.is_integer():
        return int(value), findings.NUMBER_REPAIRED
    if isinstance(value, str) and value.strip().lstrip("-").isdecimal() and len(value) < 20:
        return int(value), findings.NUMBER_REPAIRED
    return None, None


def price(value: Any) -> Read:
    """Exact: a price belongs in quotes, a bare number is taken as it is written."""
    if value is None:
        return Read(None)
    try:
        amount = Decimal(str(value)) if isinstance(value, str | int | float) and not isinstance(value, bool) else None
    except InvalidOperation:
        amount = None
    if amount is None or not amount.is_finite() or amount < 0:
        raise Unusable("a price of 0 or more, such as '2.50', is needed")
    if amount >= 10**_PRICE_WHOLE or amount != round(amount, _PRICE_PLACES):
        raise Unusable(f"a price has at most {_PRICE_WHOLE} digits before the point and {_PRICE_PLACES} after it")
    return Read(amount)


def words(value: Any) -> Read:
    if isinstance(value, list) and all(isinstance(word, str) for word in value):
        return Read(value)
    found = read_words(value)
    if isinstance(value, list) or found.is_broken:
        raise Unusable("a list of words is needed")
    return Read(found.value, None if value is None else findings.JSON_REPAIRED)


def an_object(value: Any) -> Read:
    if isinstance(value, dict):
        return Read(value)
    found = read_object(value)
    if found.is_broken:
        raise Unusable("an object of names and values is needed")
    return Read(found.value, None if value is None else findings.JSON_REPAIRED)


def moment(value: Any) -> Read:
    """A time; without a zone it is UTC."""
    if value is None:
        return Read(None)
    try:
        at = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        at = None
    if at is None:
        raise Unusable("a time such as 2027-01-31T00:00:00+00:00 is needed")
    if at.tzinfo is None:
        return Read(at.replace(tzinfo=UTC), findings.TIME_GUESSED)
    try:
        return Read(at.astimezone(UTC))
    except OverflowError:
        raise Unusable("a time between the years 1 and 9999 is needed") from None


def seconds(value: Any) -> Read:
    """A span of time; 0 is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 86_400:
        raise Unusable("a number of seconds from 0 to 86400 is needed")
    return Read(value)


def choice(*choices: str) -> Reader:
    def read(value: Any) -> Read:
        said = str(value or "").strip()
        if said not in choices:
            raise Unusable(f"one of {', '.join(filter(None, choices))} or nothing is needed")
        return Read(said)

    return read


def breaker(value: Any) -> Read:
    found = an_object(value)
    if wrong := breaker_settings.problems(found.value):
        raise Unusable("; ".join(f"{name}: {why.rstrip('.')}" if name else why for name, why in wrong.items()))
    return found


PROVIDER: Mapping[str, Reader] = {
    "provider_type": text(255),
    "display_name": text(255),
    "description": text(),
    "enabled": flag,
    "priority": whole(-LARGEST - 1),
    "connection_params": an_object,
    "request_settings": an_object,
    "probe_interval_seconds": whole(),
    "allow_paid_probes": flag,
    "locality": choice("", locality.LOCAL, locality.REMOTE),
    "data_tags": words,
    "breaker": breaker,
}
MODEL: Mapping[str, Reader] = {
    "display_name": text(255),
    "model_type": text(50),
    "context_window": whole(nullable=True),
    "max_tokens": whole(nullable=True),
    "dimension": whole(nullable=True),
    "enabled": flag,
    "capabilities": words,
    "tasks": words,
    "cost_tier": text(16),
    "input_cost_per_million": price,
    "output_cost_per_million": price,
    "cached_input_cost_per_million": price,
    "currency": text(3),
    "parameters": an_object,
}
KEY: Mapping[str, Reader] = {
    "name": text(255),
    "environment": text(50),
    "expires_at": moment,
    "weight": whole(),
    "enabled": flag,
}
PARAMETER: Mapping[str, Reader] = {"environment": text(50), "is_sensitive": flag}
