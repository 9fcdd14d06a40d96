from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from time import monotonic

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models import Sum

from inference import rating, rollups, usage_rows
from inference.backends.base import Usage
from inference.models import CostCorrection, RatingRun, UsageRecord, UsageRollup
from inference.rating import Span
from inference.recording import row_of
from providers.models import PriceOverride, Provider, ProviderModel
from routing.types import Prices
from tests.inference import registry
from tests.inference.test_recording import entry

pytestmark = pytest.mark.django_db

BEGIN = datetime(2026, 11, 1, tzinfo=UTC)
SPAN = Span(BEGIN, BEGIN + timedelta(days=30))
WRONG = Prices(Decimal(1), Decimal(2), source="own")
TABLE = RatingRun._meta.db_table
RIGHT = Prices(Decimal("0.5"), Decimal(2), source="correction")


def book(
    number: int, day: int = 1, usage: Usage | None = None, model_id: str = "m", prices: Prices = WRONG, **more
) -> None:
    at = (BEGIN + timedelta(days=day, minutes=number)).timestamp()
    model = registry.model(registry.provider("p"), model_id, prices=prices)
    used = usage or Usage(1_000_000, 500_000, 200_000)
    usage_rows.insert([row_of(entry(number, at=at, model=model, usage=used, **more))])


@pytest.fixture
def ledger():
    for number in range(3):
        book(number)
    book(9, day=40)


def test_a_preview_tells_both_figures_and_writes_nothing(ledger) -> None:
    (line,) = rating.preview(SPAN, RIGHT).lines
    assert (line.provider_id, line.model_id, line.records, line.changed) == ("p", "m", 3, 3)
    assert (line.before, line.after) == (Decimal(6), Decimal("4.5"))
    assert not RatingRun.objects.exists()


def test_a_run_writes_corrections_beside_a_ledger_that_stays(ledger) -> None:
    made, _ = rating.run(SPAN, " a late contract ", "user:ada", RIGHT)
    assert (made.reason, made.made_by, made.records) == ("a late contract", "user:ada", 3)
    assert set(CostCorrection.objects.values_list("cost_before", "cost_after")) == {(Decimal(2), Decimal("1.5"))}
    assert UsageRecord.objects.aggregate(Sum("cost"))["cost__sum"] == 8
    assert rating.costs(UsageRecord.objects.all()).filter(corrected=Decimal("1.5")).count() == 3


def test_the_same_run_again_writes_nothing(ledger) -> None:
    rating.run(SPAN, "once", "a", RIGHT)
    made, figures = rating.run(SPAN, "twice", "a", RIGHT)
    assert (made.records, figures.lines[0].before, CostCorrection.objects.count()) == (0, Decimal("4.5"), 3)


def test_a_correction_of_a_correction_begins_where_the_first_ended(ledger) -> None:
    rating.run(SPAN, "wrong", "a", RIGHT)
    made, _ = rating.run(SPAN, "and back", "a", WRONG)
    assert set(made.corrections.values_list("cost_before", "cost_after")) == {(Decimal("1.5"), Decimal(2))}


def test_roll_ups_show_corrections_beside_what_was_booked(ledger) -> None:
    rating.run(SPAN, "late", "a", RIGHT)
    rating.run(SPAN, "later", "a", Prices(Decimal(0), Decimal(2), source="correction"))
    sums = UsageRollup.objects.aggregate(cost=Sum("cost"), correction=Sum("correction"))
    assert sums == {"cost": Decimal(8), "correction": Decimal(-3)}


def test_cached_tokens_count_by_their_own_price() -> None:
    book(1, usage=Usage(1_000_000, 0, 400_000))
    (line,) = rating.preview(SPAN, Prices(Decimal(1), Decimal(2), Decimal("0.25"))).lines
    assert line.after == Decimal("0.7")


def test_what_was_unpriced_gets_a_cost() -> None:
    book(1, prices=Prices())
    rating.run(SPAN, "a price at last", "a", WRONG)
    assert CostCorrection.objects.values_list("cost_before", "cost_after").get() == (None, Decimal(2))


def test_prices_in_another_currency_leave_records_as_they_are(ledger) -> None:
    (line,) = rating.preview(SPAN, Prices(Decimal(1), Decimal(1), currency="EUR")).lines
    assert (line.changed, line.unpriced, line.after) == (0, 3, 6)


def test_the_registry_s_prices_are_those_of_each_record_s_time(ledger) -> None:
    provider = Provider.objects.create(provider_id="p", provider_type="fake")
    ProviderModel.objects.create(provider=provider, model_id="m")
    for day, price in ((0, "1"), (3, "3")):
        PriceOverride.objects.create(
            provider=provider,
            model_prefix="m",
            valid_from=BEGIN + timedelta(days=day),
            input_cost_per_million=price,
            output_cost_per_million=2,
        )
    book(20, day=5)
    book(21, day=5, model_id="unknown")
    known, unknown = rating.preview(SPAN).lines
    assert (known.changed, known.before, known.after) == (1, Decimal(8), Decimal(10))
    assert (unknown.changed, unknown.unpriced) == (0, 1)


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has one writer at a time")
@pytest.mark.django_db(transaction=True)
def test_two_runs_at_once_correct_each_record_once(monkeypatch) -> None:
    book(0)
    store, others = rollups.Corrections.store, []

    def run() -> None:
        try:
            rating.run(SPAN, "at once", "b", RIGHT)
        finally:
            connection.close()

    def store_after_another_run_began(told) -> None:
        if not others:
            others.append(another.submit(run))
            until(lambda: others[0].done() or somebody_waits())
        store(told)

    monkeypatch.setattr(rollups.Corrections, "store", store_after_another_run_began)
    with ThreadPoolExecutor(1) as another:
        rating.run(SPAN, "at once", "a", RIGHT)
    others[0].result()
    assert UsageRollup.objects.get().correction == Decimal("-0.5")
    assert CostCorrection.objects.count() == 1


def somebody_waits() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = %s::regclass)", [TABLE])
        return cursor.fetchone()[0]


def until(condition: Callable[[], bool]) -> None:
    deadline = monotonic() + 60
    while not condition():
        assert monotonic() < deadline


def test_a_run_needs_a_reason(ledger) -> None:
    with pytest.raises(ValueError, match="why"):
        rating.run(SPAN, " ", "a", RIGHT)
    assert not RatingRun.objects.exists()


def command(*arguments: str) -> None:
    call_command("rerate_usage", "--since", "2026-11-01", "--until", "2026-12-01", *arguments)


def test_the_command_shows_first_and_writes_when_it_is_told_why(ledger, capsys) -> None:
    command("--input", "0.5", "--output", "2")
    assert "Nothing was written" in capsys.readouterr().out
    assert not RatingRun.objects.exists()
    command("--input", "0.5", "--output", "2", "--apply", "--reason", "a late contract")
    assert "-1.5" in capsys.readouterr().out
    assert RatingRun.objects.get().made_by.startswith("command:rerate_usage")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--apply",), "reason"),
        (("--input", "1"), "both --input and --output"),
        (("--input", "minus"), "no price"),
        (("--until", "2026-10-01"), "before --until"),
    ],
)
def test_the_command_says_what_is_wrong(ledger, arguments, says) -> None:
    with pytest.raises(CommandError, match=says):
        command(*arguments)
    assert not RatingRun.objects.exists()
