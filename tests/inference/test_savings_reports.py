from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from inference.savings_reports import report
from inference.spend_reports import BadReport, Question, Sight
from routing.types import Prices
from tests.inference import registry
from tests.inference.ledger import record

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 11, 20, 12, 30, tzinfo=UTC)
SPAN = Question(NOON - timedelta(days=1), NOON + timedelta(days=1))


def priced(model_id: str, per_million: int | None, **more: Any):
    price = None if per_million is None else Decimal(per_million)
    return registry.model(registry.provider("up"), model_id, prices=Prices(price, price, **more))


MODELS = (priced("small", 1), priced("large", 30), priced("unpriced", None), priced("other", 5))
HELD = registry.snapshot(
    *MODELS,
    documents={"best": {"targets": [{"model": "small"}, {"model": "unpriced"}], "fallbacks": ["large"]}},
)


def served(count: int, model_id: str, **fields: Any) -> None:
    price = {"small": 1, "large": 30}.get(model_id, 0)
    cost = Decimal(price * 1000) / 1_000_000
    told = {"policy": "best", "input_tokens": 500, "output_tokens": 500, "cost": cost, "at": NOON}
    record(count, model_id=model_id, **told | fields)


def test_what_the_same_tokens_cost_at_each_model_of_the_policy() -> None:
    served(90, "small")
    served(10, "large")
    (saving,) = report(SPAN, HELD)
    assert (saving.requests, saving.charged, saving.cost) == (100, Decimal("0.39"), Decimal("0.39"))
    assert [(one.route, one.cost, one.saved, one.percent) for one in saving.elsewhere] == [
        ("up/large", Decimal("3.00"), Decimal("2.61"), Decimal(87)),
        ("up/small", Decimal("0.10"), Decimal("-0.29"), Decimal(-290)),
    ]


def test_one_model_may_be_compared_with() -> None:
    served(1, "small")
    (saving,) = report(SPAN, HELD, against="up/other")
    assert [(one.route, one.cost) for one in saving.elsewhere] == [("up/other", Decimal("0.005"))]


def test_a_model_that_nobody_knows_is_refused() -> None:
    with pytest.raises(BadReport, match="No model is named 'nope'"):
        report(SPAN, HELD, against="nope")


def test_requests_without_a_price_of_today_are_left_out_and_counted() -> None:
    served(1, "small")
    served(3, "unpriced")
    served(2, "gone")
    (saving,) = report(SPAN, HELD)
    assert (saving.requests, saving.unknown, saving.cost) == (6, 5, Decimal("0.001"))


def test_a_policy_that_is_gone_is_told_without_others() -> None:
    served(1, "small", policy="former")
    (saving,) = report(SPAN, HELD)
    assert (saving.policy, saving.elsewhere, saving.against_dearest) == ("former", (), None)


def test_what_no_policy_routed_and_what_may_not_be_seen_is_left_out() -> None:
    served(1, "small", policy="")
    served(1, "small", team_id=1)
    assert report(SPAN, HELD, sight=Sight(teams={2})) == []


def test_the_largest_saving_comes_first() -> None:
    served(1, "small")
    served(2, "small", operation="completions")
    assert [saving.operation for saving in report(SPAN, HELD)] == ["completions", "chat"]


def test_savings_of_a_tag_are_of_its_requests() -> None:
    served(1, "small", tags=",a,")
    served(4, "small")
    asked = Question(SPAN.since, SPAN.until, tag="a")
    assert [saving.requests for saving in report(asked, HELD)] == [1]
