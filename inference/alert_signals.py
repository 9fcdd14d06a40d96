"""What an alert may watch: each signal's unit, what it is told for, and the threshold that it begins with. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

GATEWAY, PROVIDER, MODEL, BUDGET, KEY = "gateway", "provider", "model", "budget", "key"
"""What a reading is of: everything together, or each of these for itself."""

PERCENT, SECONDS, USD, COUNT, DAYS = "%", "s", "USD", "", "days"

AUTO_DISABLE = "auto_disable_model"
ACTIONS = {AUTO_DISABLE: "take the model out of service"}


@dataclass(frozen=True, slots=True)
class Signal:
    """`below` turns the comparison round: it fires under its threshold. `windowed` ones look back over the rule's window, `sampled`
    ones also need a least number of requests in it before they say anything."""

    name: str
    title: str
    unit: str
    told_for: tuple[str, ...]
    threshold: Decimal
    meaning: str
    windowed: bool = False
    sampled: bool = False
    below: bool = False


_EACH = (GATEWAY, PROVIDER, MODEL)

SIGNALS: dict[str, Signal] = {
    one.name: one
    for one in (
        Signal(
            *("error_rate", "Error rate", PERCENT, _EACH, Decimal(5)),
            "Requests that ended with an error, of all in the window; of a provider or a model, tries that failed there. Clients "
            "that left do not count.",
            windowed=True,
            sampled=True,
        ),
        Signal(
            *("average_latency", "Average latency", SECONDS, _EACH, Decimal(10)),
            "From a request's arrival to the end of its answer, on average over the window.",
            windowed=True,
            sampled=True,
        ),
        Signal(
            *("hourly_cost", "Cost per hour", USD, _EACH, Decimal(50)),
            "What was spent in the last 60 minutes, whatever the window says.",
        ),
        Signal(
            *("consecutive_failures", "Failures in a row", COUNT, (MODEL,), Decimal(5)),
            "How often a model failed since it last answered, over all processes.",
        ),
        Signal(
            *("budget_used", "Budget used", PERCENT, (BUDGET,), Decimal(80)),
            "How much of a budget's current period is spent.",
        ),
        Signal(
            *("key_expiring", "Client key expires", DAYS, (KEY,), Decimal(7)),
            "How long a client key that is in use is still good for.",
            below=True,
        ),
        Signal(
            *("probe_failing", "Probe failing", COUNT, (PROVIDER,), Decimal(1)),
            "Probes of an enabled provider that failed in a row.",
        ),
        Signal(
            *("unpriced_requests", "Unpriced model used", COUNT, (GATEWAY, PROVIDER, MODEL), Decimal(0)),
            "Requests in the window whose cost nobody knows, because their model has no price.",
            windowed=True,
        ),
        Signal(
            *("records_dropped", "Records dropped", COUNT, (GATEWAY,), Decimal(0)),
            "Requests of the window that could not be written down.",
            windowed=True,
        ),
        Signal(
            *("budget_exceeded", "Budget exceeded", COUNT, (BUDGET,), Decimal(0)),
            "Requests of the window that went beyond a budget which only warns.",
            windowed=True,
        ),
        Signal(
            *("budget_store_away", "Budget store away", COUNT, (GATEWAY,), Decimal(0)),
            "How often in the window a process was found to count alone, because Redis did not answer.",
            windowed=True,
        ),
    )
}

ALIASES = {
    "avg_latency": "average_latency",
    "latency": "average_latency",
    "model_consecutive_failures": "consecutive_failures",
    "cost_per_hour": "hourly_cost",
    "unpriced_model": "unpriced_requests",
}
"""Names that other systems have for the same."""

_CONDITION = re.compile(
    r"\s*([a-z_]+)\s*(>|<)\s*\$?\s*(\d+(?:\.\d+)?)\s*(%|ms|s|min|USD|\$|days|d)?\s*\Z", re.IGNORECASE
)
_FACTORS = {"ms": Decimal("0.001"), "s": Decimal(1), "min": Decimal(60)}
_UNITS = {
    PERCENT: {"%", ""},
    SECONDS: {"ms", "s", "min", ""},
    USD: {"usd", "$", ""},
    COUNT: {""},
    DAYS: {"d", "days", ""},
}


class BadCondition(ValueError):
    """The text is no condition; a sentence that says what is wrong with it."""


def read_condition(text: str) -> tuple[Signal, Decimal]:
    """`error_rate > 5%`, `avg_latency > 10s`, `hourly_cost > $50` as a signal and its threshold. Raises `BadCondition`."""
    found = _CONDITION.match(text)
    if found is None:
        raise BadCondition(f"{text[:100]!r} is no condition; write it as error_rate > 5%")
    name, compared, number, unit = found[1].lower(), found[2], found[3], (found[4] or "").lower()
    signal = SIGNALS.get(ALIASES.get(name, name))
    if signal is None:
        raise BadCondition(f"{name!r} is none of: {', '.join(SIGNALS)}")
    if (compared == "<") != signal.below:
        raise BadCondition(f"{signal.name} is compared with {'<' if signal.below else '>'}")
    if unit not in _UNITS[signal.unit]:
        raise BadCondition(f"{unit!r} is no unit of {signal.name}; leave it out or write {signal.unit}")
    try:
        threshold = Decimal(number) * _FACTORS.get(unit, Decimal(1))
    except InvalidOperation as error:
        raise BadCondition(f"{number!r} is no number") from error
    return signal, threshold


def condition(signal: Signal, threshold: Decimal) -> str:
    """As `read_condition` reads it."""
    return f"{signal.name} {'<' if signal.below else '>'} {amount(threshold, signal.unit)}"


def for_people(reading: Decimal) -> Decimal:
    """No more digits than say something: 116.86 is 117, 21.43 is 21.4, 4.96 stays."""
    return round(reading, max(0, 2 - reading.adjusted())) if abs(reading) >= 10 else reading


def amount(value: Decimal, unit: str) -> str:
    """`5%`, `12.3s`, `50 USD`, `3 days`: short, for people."""
    rounded = round(value, 2) if abs(value) >= 1 or value == 0 else round(value, 6)
    text = f"{rounded:f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return f"{text}{unit}" if unit in (PERCENT, SECONDS) else f"{text} {unit}".rstrip()
