from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest
import redis

from inference import shadow_budget
from inference.shadow_budget import Budget, StoreAway
from routing.types import Prices
from tests.inference import registry

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp()
BEFORE_MIDNIGHT = datetime(2026, 11, 20, 23, 59, 59, tzinfo=UTC).timestamp()

PRICED = registry.model(registry.provider(), prices=Prices(Decimal(1), Decimal(2)))


@pytest.fixture
async def budget(redis_url: str):
    opened = Budget(redis_url)
    yield opened
    await opened.aclose()


async def test_money_is_reserved_until_the_cap_and_not_beyond(budget: Budget) -> None:
    taken = [await budget.reserve(Decimal("0.3"), Decimal(1), NOON) for _ in range(5)]
    assert [one is not None for one in taken] == [True, True, True, False, False]
    assert await budget.spent(NOON) == Decimal("0.9")


async def test_the_last_cent_may_be_spent(budget: Budget) -> None:
    assert await budget.reserve(Decimal(1), Decimal(1), NOON) is not None
    assert await budget.reserve(Decimal("0.000000001"), Decimal(1), NOON) is None


async def test_many_processes_together_stay_within_the_cap(redis_url: str) -> None:
    budgets = [Budget(redis_url) for _ in range(10)]
    taken = await asyncio.gather(*(one.reserve(Decimal("0.01"), Decimal("0.5"), NOON) for one in budgets * 10))
    assert sum(one is not None for one in taken) == 50
    assert await budgets[0].spent(NOON) == Decimal("0.5")
    for one in budgets:
        await one.aclose()


async def test_settling_gives_back_what_was_not_used(budget: Budget) -> None:
    reservation = await budget.reserve(Decimal(1), Decimal(1), NOON)
    assert reservation is not None
    await budget.settle(reservation, Decimal("0.25"))
    assert await budget.spent(NOON) == Decimal("0.25")
    assert await budget.reserve(Decimal("0.75"), Decimal(1), NOON) is not None


async def test_a_call_that_cost_more_than_reserved_counts_in_full(budget: Budget) -> None:
    reservation = await budget.reserve(Decimal("0.5"), Decimal(1), NOON)
    assert reservation is not None
    await budget.settle(reservation, Decimal(2))
    assert await budget.spent(NOON) == Decimal(2)
    assert await budget.reserve(Decimal("0.1"), Decimal(1), NOON) is None


async def test_midnight_utc_opens_a_new_day_and_a_late_settlement_counts_for_its_own(budget: Budget) -> None:
    reservation = await budget.reserve(Decimal(1), Decimal(1), BEFORE_MIDNIGHT)
    assert reservation is not None
    assert await budget.reserve(Decimal(1), Decimal(1), BEFORE_MIDNIGHT + 1) is not None
    await budget.settle(reservation, Decimal(0))
    assert await budget.spent(BEFORE_MIDNIGHT) == 0
    assert await budget.spent(BEFORE_MIDNIGHT + 1) == 1


async def test_a_day_is_forgotten_by_itself(budget: Budget, redis_url: str) -> None:
    await budget.reserve(Decimal(1), Decimal(1), NOON)
    with redis.Redis.from_url(redis_url) as store:
        [key] = store.keys("gw:shadow:spent:*")
        assert 0 < store.ttl(key) <= 3 * 24 * 3600


async def test_what_costs_nothing_needs_no_cap(budget: Budget) -> None:
    assert await budget.reserve(Decimal(0), Decimal(0), NOON) is not None


async def test_without_redis_nothing_is_reserved() -> None:
    nowhere = Budget("redis://127.0.0.1:1/0")
    with pytest.raises(StoreAway):
        await nowhere.reserve(Decimal(1), Decimal(5), NOON)
    with pytest.raises(StoreAway):
        await nowhere.spent(NOON)
    await nowhere.settle(shadow_budget.Reservation("2026-11-20", 1), Decimal(0))
    await nowhere.aclose()


def test_an_estimate_is_what_a_call_costs_at_most() -> None:
    assert shadow_budget.estimate(PRICED, request_bytes=1000, most_output_tokens=100) == Decimal("0.0012")
    every_choice = shadow_budget.estimate(PRICED, request_bytes=1000, most_output_tokens=100, choices=3)
    assert every_choice == Decimal("0.0016")


def test_without_a_bound_in_the_request_the_models_own_counts_then_ours() -> None:
    bounded = replace(PRICED, max_tokens=50)
    assert shadow_budget.estimate(bounded, request_bytes=0, most_output_tokens=None) == Decimal("0.0001")
    unbounded = shadow_budget.estimate(PRICED, request_bytes=0, most_output_tokens=None)
    assert unbounded == shadow_budget.MOST_OUTPUT_TOKENS * Decimal(2) / 1_000_000


@pytest.mark.parametrize(
    "model",
    [
        None,
        replace(PRICED, prices=Prices()),
        replace(PRICED, prices=Prices(Decimal(1), Decimal(2), currency="JPY")),
    ],
)
def test_an_unknown_price_counts_as_the_worst_and_is_told_as_unknown(model) -> None:
    unpriced = replace(model, provider=registry.provider(backend=registry.OPENAI_COMPATIBLE)) if model else None
    assert shadow_budget.cost(unpriced, input_tokens=1_000_000, output_tokens=1_000_000) == 750
    assert shadow_budget.known_cost(unpriced, input_tokens=1, output_tokens=1) is None


def test_a_local_model_without_a_price_costs_nothing() -> None:
    local = replace(registry.provider(), provider_type="llama_cpp")
    model = replace(PRICED, provider=local, prices=Prices())
    assert shadow_budget.cost(model, input_tokens=10, output_tokens=10) == 0
