from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from tests.inference.ledger import record

pytestmark = pytest.mark.django_db


def run(*arguments: str) -> str:
    said = StringIO()
    call_command("spend_report", *arguments, stdout=said)
    return said.getvalue()


def test_spend_is_a_table_with_a_total() -> None:
    record(2, cost=Decimal("0.05"), input_tokens=1234)
    record(at=datetime.now(UTC) - timedelta(days=40))
    told = " ".join(run().split())
    assert "up/gpt-test" in told
    assert "0.1000 USD" in told
    assert "2,468" in told


def test_times_of_a_table_are_as_short_as_its_steps() -> None:
    now = datetime.now(UTC)
    record(at=now)
    for step, shown in (
        ("month", f"│ {now:%Y-%m} "),
        ("day", f"│ {now:%Y-%m-%d} "),
        ("hour", f"│ {now:%Y-%m-%d %H}:00 "),
    ):
        assert shown in run("--by", step)


def test_csv_and_json_are_for_programs() -> None:
    record(cost=Decimal("0.05"))
    assert run("--by", "provider,day", "--csv").splitlines()[0].startswith("provider,day,currency,requests")
    assert Decimal(json.loads(run("--json"))["totals"][0]["cost"]) == Decimal("0.05")


def test_an_empty_span_is_said_in_words() -> None:
    assert "Nothing was asked" in run("--since", "1h")
    assert "No policy served" in run("--savings")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--by", "colour"], "--by: 'colour' is no group"),
        (["--since", "tomorrowish"], "--since needs a time"),
        (["--since", "2026-01-02", "--until", "2026-01-01"], "--since: A report begins"),
        (["--limit", "0"], "--limit"),
        (["--savings", "--csv"], "--csv"),
        (["--savings", "--against", "nope"], "--against: No model"),
        (["--time-zone", "Mars/Base"], "--time-zone"),
    ],
)
def test_what_cannot_be_told_is_refused(arguments: list[str], sentence: str) -> None:
    with pytest.raises(CommandError, match=sentence):
        run(*arguments)
