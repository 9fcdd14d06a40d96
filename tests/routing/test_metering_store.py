"""The script that counts for all processes, told what moment it is."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
import redis

from routing import metering_store
from routing.allowances import CALLS, DAY, MINUTE, MONEY, REQUESTS, UNDER_WAY, Allowance
from routing.purses import Purse, span_ms

HOUR = 3_600_000


class Teller:
    """One process that counts one allowance, and asks for one at a time."""

    def __init__(self, store: redis.Redis, name: str, allowance: Allowance) -> None:
        self.name, self.purse, self.words = name, Purse(allowance), 0
        self._run = store.register_script(metering_store.script())

    def gets_one(self, now_ms: int) -> bool:
        return self._says(metering_store.op(self.purse, now_ms, ask=1, least=1), now_ms)

    def has_spent(self, amount: int, now_ms: int) -> None:
        self.purse.begin_period(now_ms, 0.0)
        self.purse.spent = amount
        self._says(metering_store.op(self.purse, now_ms), now_ms)

    def _says(self, op: metering_store.Op, now_ms: int) -> bool:
        self.words += 1
        told = self._run(
            keys=metering_store.keys([self.purse.allowance.key]),
            args=metering_store.args(self.name, self.words, [op], now_ms),
        )
        said = metering_store.heard(told).said[0]
        self.purse.take_period(said.begin, said.end, now_ms, 0.0)
        self.purse.spent += said.granted
        return said.granted == 1


@pytest.fixture
def store(redis_url):
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def later() -> int:
    """Ahead of the store's own clock, by which keys end."""
    return round(time.time() * 1000) + HOUR


def one(unit: str, period: str) -> Allowance:
    return Allowance(
        key="limit:1", unit=unit, period=period, amount=1, name="a limit", kind="limit", source_id=1, subject="key"
    )


def test_a_minute_does_not_become_an_hour_when_the_clock_is_set_back(store, later):
    teller = Teller(store, "one", one(REQUESTS, MINUTE))
    assert [teller.gets_one(later + 1), teller.gets_one(later + 30_000)] == [True, False]
    assert teller.gets_one(later - HOUR)


def test_what_a_killed_process_held_is_free_though_the_clock_was_set_back(store, later):
    killed, alive = (Teller(store, name, one(CALLS, UNDER_WAY)) for name in ("killed", "alive"))
    assert [killed.gets_one(later), alive.gets_one(later)] == [True, False]
    assert not alive.gets_one(later - HOUR)
    assert alive.gets_one(later - HOUR + 31_000)


def test_what_the_ledger_knows_and_nobody_told_counts_beside_what_is_told_later(store, redis_url):
    allowance = replace(one(MONEY, DAY), amount=10_000)
    now = round(time.time() * 1000)
    teller = Teller(store, "one", allowance)
    teller.has_spent(300, now)
    read_by = now + 500
    ledger = [(allowance, *span_ms(allowance, now), 1_000)]

    def used() -> int:
        return metering_store.counters(redis_url, [allowance])[allowance.key].used

    metering_store.raise_to(redis_url, ledger, whole_since=read_by)
    teller.has_spent(400, now + 600)
    assert used() == 1_000  # until then it could have been the one that had yet to tell the rest
    metering_store.raise_to(redis_url, ledger, whole_since=read_by)
    teller.has_spent(450, now + 700)
    metering_store.raise_to(redis_url, ledger, whole_since=read_by)
    assert used() == 1_050
