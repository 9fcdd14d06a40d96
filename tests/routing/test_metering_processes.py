"""The same counters by real processes: exactly as much is admitted as is allowed, whoever asks for how much, and whoever is killed."""

from __future__ import annotations

import contextlib
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from routing import metering_store
from routing.allowances import MONTH, REQUESTS, Allowance

ROUNDS, AMOUNT, PROCESSES = 100, 25, 4
_ROOT = Path(__file__).parents[2]

_COUNT = """
import asyncio, sys
from decimal import Decimal
from types import SimpleNamespace
from routing.allowances import MONTH, REQUESTS, Allowance
from routing.metering import Bundle, Exhausted, Grant, Meter
from routing.types import Prices
from routing import metering, metering_sharing, metering_store
# Whoever else uses this machine.
metering_sharing.PATIENCE_SECONDS = metering.WAIT_SECONDS = metering_store.SILENT_SECONDS = 20.0

MODEL = SimpleNamespace(prices=Prices(Decimal(1), Decimal(2)))

async def main(url, amount):
    meter = Meter(url)
    lines = asyncio.Queue()
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin, lambda: lines.put_nowait(sys.stdin.readline()))
    print("ready", flush=True)
    while line := (await lines.get()).strip():
        key, share = line.split()
        one = Allowance(key, REQUESTS, MONTH, amount, "test", "limit", 1, "key")
        bundle = Bundle((meter._purse(one),), (), MODEL, None)

        async def ask():
            try:
                await meter.take(bundle, None, Grant())
            except Exhausted:
                return 0
            return 1

        print(sum(await asyncio.gather(*(ask() for _ in range(int(share))))), flush=True)
    await meter.stop()

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


class Counting:
    """A process that asks for as much of a counter as it is told."""

    def __init__(self, url: str, amount: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _COUNT, url, str(amount)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=_ROOT,
        )

    def said(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def ask(self, key: str, share: int) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{key} {share}\n")
        self.process.stdin.flush()


@contextlib.contextmanager
def counting(url: str, count: int, amount: int) -> Iterator[list[Counting]]:
    made = [Counting(url, amount) for _ in range(count)]
    try:
        assert [one.said() for one in made] == ["ready"] * count
        yield made
    finally:
        for one in made:
            one.process.stdin.close()
        for one in made:
            one.process.wait(60)
            one.process.stdout.close()


def shares(chance: random.Random) -> list[int]:
    """Together more than the amount: evenly, all to one, or anyhow."""
    how = chance.randrange(3)
    if how == 0:
        return [AMOUNT] * PROCESSES
    if how == 1:
        uneven = [3 * AMOUNT, 1, 1, 0]
        chance.shuffle(uneven)
        return uneven
    return [AMOUNT // 4 + 1 + chance.randrange(AMOUNT) for _ in range(PROCESSES)]


@pytest.mark.slow
def test_four_processes_admit_exactly_the_amount_in_each_of_a_hundred_runs(redis_url):
    chance = random.Random(7)
    with counting(redis_url, PROCESSES, AMOUNT) as processes:
        for number in range(ROUNDS):
            for one, share in zip(processes, shares(chance), strict=True):
                one.ask(f"run:{number}", share)
            assert sum(int(one.said()) for one in processes) == AMOUNT, f"in run {number}"


@pytest.mark.slow
def test_what_a_killed_process_admitted_stays_counted(redis_url):
    one = Allowance("killed", REQUESTS, MONTH, AMOUNT, "test", "limit", 1, "key")
    with counting(redis_url, 2, AMOUNT) as (killed, alive):
        killed.ask("killed", 10)
        assert killed.said() == "10"
        alive.ask("killed", 0)
        assert alive.said() == "0"
        while metering_store.read(redis_url, [one])["killed"][0] < 10:
            pass
        killed.process.kill()
        killed.process.wait()
        with redis.Redis.from_url(redis_url) as store:  # it fell silent half a minute ago
            for name, told in store.hgetall(metering_store.PROCESSES).items():
                beat, word = told.split()
                store.hset(metering_store.PROCESSES, name, f"{int(beat) - 31_000} {int(word)}")
        alive.ask("killed", AMOUNT)
        assert int(alive.said()) == AMOUNT - 10
