from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.core.management import CommandError, call_command

from inference import invoices, rating, reconciling, usage_rows
from inference.backends.base import Usage
from inference.rating import Span
from inference.recording import row_of
from providers.models import Provider, ProviderModel
from routing.types import Prices
from tests.inference import registry
from tests.inference.test_recording import entry

pytestmark = pytest.mark.django_db

DAY = datetime(2026, 11, 3, tzinfo=UTC)
HEAD = "usage_date_utc,model,usage_input_tokens_no_cache,usage_input_tokens_cache_read,usage_output_tokens,cost_usd\n"


def book(model_id: str = "m", *, hours: float = 12, usage: Usage | None = None, prices: Prices | None = None) -> None:
    model = registry.model(registry.provider("p"), model_id, **({} if prices is None else {"prices": prices}))
    at = (DAY + timedelta(hours=hours)).timestamp()
    used = usage or Usage(1_000_000, 500_000, 200_000)
    usage_rows.insert([row_of(entry(request_id=f"r{model_id}{hours}", at=at, model=model, usage=used))])


def compared(*rows: str, **more) -> list[tuple[str, bool, list[str]]]:
    invoice = invoices.read((HEAD + "\n".join(rows)).splitlines(), None, {})
    return [(one.model, one.agrees, one.why) for one in reconciling.compare(invoice, "p", **more)]


def test_what_agrees_in_tokens_and_money_agrees() -> None:
    book()
    assert compared("2026-11-03,m,800000,200000,500000,2.00") == [("m", True, [])]


def test_small_differences_are_within_the_tolerance() -> None:
    book()
    assert compared("2026-11-03,m,800000,200000,500100,2.00", tolerance=Decimal("0.001"))[0][1]
    assert not compared("2026-11-03,m,800000,200000,510000,2.00", tolerance=Decimal("0.001"))[0][1]


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ("2026-11-03,m,800000,200000,500000,3.00", reconciling.PRICE),
        ("2026-11-03,other,5,0,5,1", reconciling.MISSING_HERE),
        ("2026-11-03,m,900000,100000,600000,2", reconciling.CACHE),
        ("2026-11-03,m,1300000,200000,500000,2", reconciling.UNKNOWN),
    ],
)
def test_differences_are_explained(row, why) -> None:
    book()
    assert any(why in found for _, _, found in compared(row))


def test_what_the_invoice_lacks_is_named() -> None:
    book()
    book("n")
    assert compared("2026-11-03,m,800000,200000,500000,2.00")[1] == ("n", False, [reconciling.MISSING_THERE])


def test_estimated_and_unpriced_requests_explain_differences() -> None:
    book(usage=Usage(10, 5, estimated=True))
    book("free", prices=Prices())
    guessed, unpriced = compared("2026-11-03,m,20,0,9,0.5", "2026-11-03,free,800000,200000,500000,1")[::-1]
    assert guessed[2][0].startswith(reconciling.ESTIMATED)
    assert unpriced[2] == [reconciling.UNPRICED]


def test_a_request_at_midnight_may_be_on_the_other_day() -> None:
    book(hours=23.99)
    book(hours=36)
    rows = ("2026-11-03,m,1,0,1,0.00001", "2026-11-04,m,1600000,399999,999999,3.99999")
    assert [found[2][-1] for found in compared(*rows)] == [reconciling.DAYS] * 2


def test_dated_names_names_of_people_and_aliases_are_the_ledger_s_models() -> None:
    book("claude-sonnet-4-5")
    for name in ("claude-sonnet-4-5-20250929", "Claude Sonnet 4.5"):
        assert compared(f"2026-11-03,{name},800000,200000,500000,2.00") == [("claude-sonnet-4-5", True, [])]
    row = "2026-11-03,cs45,800000,200000,500000,2.00"
    assert compared(row, aliases={"cs45": "claude-sonnet-4-5"}) == [("claude-sonnet-4-5", True, [])]


def test_corrected_costs_are_compared() -> None:
    book()
    rating.run(Span(DAY, DAY + timedelta(days=1)), "late", "a", Prices(Decimal(2), Decimal(2)))
    assert compared("2026-11-03,m,800000,200000,500000,3.00") == [("m", True, [])]


def command(tmp_path, rows: str, *options: str) -> None:
    Provider.objects.get_or_create(provider_id="p", provider_type="fake")
    (tmp_path / "bill.csv").write_text(HEAD + rows)
    call_command("reconcile_invoice", str(tmp_path / "bill.csv"), "--provider", "p", *options)


def test_the_command_says_that_all_agrees(tmp_path, capsys) -> None:
    book()
    command(tmp_path, "2026-11-03,m,800000,200000,500000,2.00")
    assert "All 1 days and models agree; 2.00 on the invoice, 2.00 in the ledger" in capsys.readouterr().out


def test_the_command_ends_with_2_where_something_differs(tmp_path, capsys) -> None:
    book()
    with pytest.raises(SystemExit) as ended:
        command(tmp_path, "2026-11-03,m,800000,200000,500000,3.00")
    assert ended.value.code == 2
    assert "1 of 1 days and models differ" in capsys.readouterr().out


def test_the_command_knows_the_upstream_s_own_name_of_a_model(tmp_path) -> None:
    book("ours")
    provider = Provider.objects.create(provider_id="p", provider_type="fake")
    ProviderModel.objects.create(provider=provider, model_id="ours", parameters={"upstream_model_id": "theirs"})
    command(tmp_path, "2026-11-03,theirs,800000,200000,500000,2.00")


@pytest.mark.parametrize(
    ("rows", "options", "says"),
    [
        ("2026-11-03,m,1,1,1,1", ("--provider", "q"), "no provider 'q'; there are: p"),
        ("2026-11-03,m,1,1,1,1", ("--tolerance", "some"), "tolerance"),
        ("2026-11-03,m,1,1,1,1", ("--alias", "m"), "THEIRS=OURS"),
        ("2026-11-03,m,much,1,1,1", (), "Line 2"),
        ("2026-11-03,,1,1,1,1", (), "None of the 1 rows"),
    ],
)
def test_the_command_says_what_is_wrong(tmp_path, rows, options, says) -> None:
    with pytest.raises(CommandError, match=says):
        command(tmp_path, rows, *options)
