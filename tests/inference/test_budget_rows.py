"""Budgets as people set them up, met by requests: from the row over the snapshot to the answer."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest

from routing import allowance_rows, budget_actions, ledger_word
from routing.models import Budget, ClientKey
from routing.types import Identity
from tests.inference import registry
from tests.inference.door import Door
from tests.inference.scripted import far, whole
from tests.routing.test_metering import patient  # noqa: F401

pytestmark = pytest.mark.django_db

CALLER = Identity(key_id=7, prefix="gw-0123456789ab", name="app", scopes=frozenset({"generate"}), role="free")
A_CALL = Decimal("0.000019")
"""Five tokens in and seven out, at one and two dollars a million."""


@pytest.fixture(autouse=True)
def _a_ledger_without_entries():
    before = ledger_word._read
    ledger_word.read_with(lambda asked: [0] * len(asked))
    yield
    ledger_word.read_with(before)


@pytest.fixture
def usual():
    """The usual budgets, as `manage.py budgets --usual --apply` sets them up."""
    budget_actions.apply_usual(write=True)
    assert not ClientKey.objects.exists()
    return {row.period: row for row in Budget.objects.all()}


def upstream(serve):
    one, view = far("a", whole())
    model = registry.model(view, "m-a", max_tokens=7)
    serve(model, documents={"p": {"targets": [{"model": "m-a"}]}}, allowances=allowance_rows.build([CALLER])[0])
    return one


@pytest.fixture(params=["request", "hour", "day", "month"])
def one_is_small(request, usual, serve):
    """One of them holds a request for a tenth of it, the role's share, and no second one."""
    row = usual[request.param]
    row.amount = A_CALL * (15 if request.param != "request" else 1)
    row.save()
    return request.param, upstream(serve)


async def test_each_code_is_what_the_budget_of_its_period_answers(one_is_small) -> None:
    period, called = one_is_small
    async with Door() as door:
        answers = [await door.chat("x", model="p", max_tokens=7) for _ in range(2)]
    refused = answers[-1]
    assert (refused.status, refused.error["code"]) == (429, "insufficient_quota")
    assert (
        refused.error["param"]
        == {
            "request": "REQUEST_BUDGET_EXCEEDED",
            "hour": "HOURLY_BUDGET_EXCEEDED",
            "day": "DAILY_BUDGET_EXCEEDED",
            "month": "MONTHLY_BUDGET_EXCEEDED",
        }[period]
    )
    assert len(called.calls) == (0 if period == "request" else 1)


@pytest.fixture
def ten_calls(usual, serve):
    """Strictly as much as ten calls cost at most, for the role free."""
    Budget.objects.exclude(period="day").delete()
    row = usual["day"]
    row.strict, row.by_role, row.amount = True, False, A_CALL * 10
    row.save()
    return upstream(serve)


async def test_of_fifty_at_once_no_more_are_paid_for_than_there_is_money(ten_calls) -> None:
    async with Door() as door:
        answers = await asyncio.gather(*(door.chat("x", model="p", max_tokens=7) for _ in range(50)))
    served = [answer for answer in answers if answer.status == 200]
    assert len(served) == len(ten_calls.calls)
    assert 1 <= len(served) <= 10
    assert {answer.error["param"] for answer in answers if answer.status != 200} == {"DAILY_BUDGET_EXCEEDED"}


@pytest.fixture
def nothing_is_left(usual, serve):
    Budget.objects.exclude(period="request").update(amount=0)
    return upstream(serve)


async def test_of_several_that_are_used_up_the_days_is_told(nothing_is_left) -> None:
    async with Door() as door:
        refused = await door.chat("x", model="p", max_tokens=7)
    assert refused.error["param"] == "DAILY_BUDGET_EXCEEDED"
