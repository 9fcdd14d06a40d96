from __future__ import annotations

from decimal import Decimal

import pytest

from inference.alert_signals import ALIASES, SIGNALS, BadCondition, amount, condition, read_condition


@pytest.mark.parametrize(
    ("text", "name", "threshold"),
    [
        ("error_rate > 5%", "error_rate", "5"),
        ("avg_latency > 10s", "average_latency", "10"),
        ("avg_latency > 250ms", "average_latency", "0.25"),
        ("hourly_cost > $50", "hourly_cost", "50"),
        ("model_consecutive_failures > 5", "consecutive_failures", "5"),
        ("key_expiring < 7 days", "key_expiring", "7"),
    ],
)
def test_conditions_are_read_as_people_write_them(text: str, name: str, threshold: str) -> None:
    signal, read = read_condition(text)
    assert (signal.name, read) == (name, Decimal(threshold))


@pytest.mark.parametrize("name", SIGNALS)
def test_what_is_written_is_read_again(name: str) -> None:
    signal = SIGNALS[name]
    assert read_condition(condition(signal, signal.threshold)) == (signal, signal.threshold)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("error_rate >= 5", "no condition"),
        ("mood > 5", "none of"),
        ("error_rate < 5%", "compared with >"),
        ("hourly_cost > 5s", "no unit of hourly_cost"),
        ("", "no condition"),
    ],
)
def test_what_is_no_condition_is_named(text: str, said: str) -> None:
    with pytest.raises(BadCondition, match=said):
        read_condition(text)


def test_other_names_mean_signals() -> None:
    assert set(ALIASES.values()) <= SIGNALS.keys()


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        ("5", "%", "5%"),
        ("12.346", "s", "12.35s"),
        ("50.00", "USD", "50 USD"),
        ("0", "", "0"),
        ("0.00012", "USD", "0.00012 USD"),
        ("100", "", "100"),
    ],
)
def test_amounts_are_short(value: str, unit: str, text: str) -> None:
    assert amount(Decimal(value), unit) == text
