"""How much of a budget is used, as a table shows it."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from routing import budget_cells
from routing.allowances import MONTH, Allowance
from routing.budget_periods import Span
from routing.budget_status import NANO, Standing

SPAN = Span(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    ("used", "amount", "shown"),
    [
        ("0.0002474", 40, "<\u202f0.01 / 40.00\u202fUSD"),
        ("0.02", 40, "0.02 / 40.00\u202fUSD"),
        ("0", 40, "0.00 / 40.00\u202fUSD"),
        ("0.0002474", "0.5", "0.0002474 / 0.50\u202fUSD"),
    ],
)
def test_parts_of_a_cent_are_written_out_only_beside_cents(used: str, amount: int | str, shown: str) -> None:
    limit = Allowance("b", "usd", MONTH, int(Decimal(amount) * NANO), "b", "budget", 1, "all")
    standing = Standing(limit, "", "all", Decimal(0), Decimal(used), Decimal(0), True, SPAN, None)
    text = re.sub(r"<[^>]+>", "", budget_cells.bar(standing)).replace("&lt;", "<")
    assert text == shown
