"""When a circuit breaker opens, how long it stays so, and what closes it again: numbers, read and checked. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True, slots=True)
class BreakerSettings:
    """Of one provider; each of its models has a breaker of its own under these numbers.

    It opens after `failure_threshold` failures in a row, or when at least `failure_rate` of `minimum_calls` or more calls
    within `window_seconds` failed (0 turns the rate off). After `open_seconds` it is half-open: `probe_quota` calls may be under
    way at a time, over all processes; `success_threshold` good ones close it, one bad one opens it again.
    """

    failure_threshold: int = 5
    open_seconds: float = 60.0
    success_threshold: int = 2
    failure_rate: float = 0.5
    window_seconds: float = 60.0
    minimum_calls: int = 20
    probe_quota: int = 1
    auto_disable_after: int = 0
    """Failures in a row after which the model is taken out of service until a probe finds it well; 0 never does."""


DEFAULTS = BreakerSettings()
NAMES = tuple(field.name for field in fields(BreakerSettings))
_AT_LEAST_ONE = {"failure_threshold", "success_threshold", "minimum_calls", "probe_quota"}
_WHOLE = _AT_LEAST_ONE | {"auto_disable_after"}


def problems(told: Any) -> dict[str, str]:
    """What is wrong with the numbers of a provider, by name."""
    if not isinstance(told, Mapping):
        return {"": "An object of numbers is needed."}
    found = {}
    for name, value in told.items():
        if name not in NAMES:
            found[str(name)] = f"There is no such number; there are {', '.join(NAMES)}."
        elif isinstance(value, bool) or not isinstance(value, int if name in _WHOLE else int | float):
            found[name] = "A whole number is needed." if name in _WHOLE else "A number is needed."
        elif not (1 if name in _AT_LEAST_ONE else 0) <= value <= 1_000_000_000:
            found[name] = "The number is out of range."
    rate = told.get("failure_rate")
    if "failure_rate" not in found and rate is not None and rate > 1:
        found["failure_rate"] = "A share between 0 and 1 is needed."
    return found


def read(*told: Any) -> BreakerSettings:
    """The numbers of several objects, earlier ones first; what is missing or unusable keeps its default."""
    merged: dict[str, Any] = {}
    for one in told:
        if isinstance(one, Mapping):
            wrong = problems(one)
            merged |= {name: value for name, value in one.items() if name in NAMES and name not in wrong}
    return BreakerSettings(**merged)
