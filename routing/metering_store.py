"""What is said to Redis about allowances, and read from it: one script for all counters of many requests, and the figures for people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import orjson
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from routing.allowances import MONEY, MOST, Allowance
from routing.purses import CALENDAR, MINUTE_MS, NO_PERIOD, WINDOW, Purse, span_ms

PREFIX = "gw:meter:c:"
PROCESSES = "gw:meter:processes"
CHANNEL = "gw:meter:recall"
"""Told the key of a counter of which somebody needs what others hold and do not use."""
GRANTED, REFUSED, RECALLED, LEDGER_NEEDED = 0, 1, 2, 3
DEAD_SECONDS = 30.0
"""After which what a silent process had reserved is free again."""
SILENT_SECONDS = 3.0
"""After which nobody waits for a process to give back what it does not use."""

_PATIENCE_SECONDS = 1.0
_AT_ONCE = 500
_HEAD, _OF_EACH = 3, 7
"""Numbers of an answer: before the counters, and of each."""


@dataclass(frozen=True, slots=True)
class Said:
    """Of one counter. Begin and end in milliseconds of Redis's clock."""

    status: int
    granted: int
    used: int
    held: int
    begin: int
    end: int
    scarce: bool


@dataclass(frozen=True, slots=True)
class Heard:
    moment: int
    is_late: bool
    """Nothing was done: a later word of the same process was heard before."""
    is_news: bool
    """Nothing was done either: the store knew nothing of the process. It was emptied, or the process was silent for long."""
    processes: int
    said: tuple[Said, ...]


Op = list[int]


def op(purse: Purse, now_ms: int, *, ask: int = 0, least: int = 0, wish: int = 0, leaves: bool = False) -> Op:
    """How the purse stands, and what it asks for."""
    begin, end = (MINUTE_MS, 0) if purse.kind == WINDOW else (0, 0)
    if purse.kind == CALENDAR:
        begin, end = (
            (purse.period, purse.period_ends) if purse.period != NO_PERIOD else span_ms(purse.allowance, now_ms)
        )
    return [
        purse.amount,
        purse.kind,
        begin,
        end,
        purse.period,
        purse.period_ends,
        min(purse.spent, MOST),
        max(0, purse.reserved),
        max(0, purse.told_free),
        min(ask, MOST),
        min(least, MOST),
        min(wish, MOST),
        -1 if purse.seed is None else min(purse.seed, MOST),
        1 if purse.allowance.unit == MONEY else 0,
        1 if leaves else 0,
        0,
    ]


def keys(names: Iterable[str]) -> list[str]:
    return [PROCESSES, *(PREFIX + name for name in names)]


def args(process: str, number: int, ops: Sequence[Op], moment: int | None = None) -> list[str | bytes | int]:
    silences = [round(seconds * 1000) for seconds in (DEAD_SECONDS, SILENT_SECONDS)]
    return [process, number, orjson.dumps(ops), CHANNEL, "" if moment is None else moment, *silences]


def heard(told: list[bytes]) -> Heard:
    numbers = [int(value) for value in told]
    said = tuple(_said(numbers[start : start + _OF_EACH]) for start in range(_HEAD, len(numbers), _OF_EACH))
    return Heard(numbers[0], numbers[1] == 1, numbers[1] == 2, numbers[2], said)


def _said(numbers: list[int]) -> Said:
    status, granted, used, held, begin, end, scarce = numbers
    return Said(status, granted, used, held, begin, end, bool(scarce))


@cache
def script() -> str:
    return (Path(__file__).parent / "lua" / "meter.lua").read_text()


# For synchronous code -------------------------------------------------------------------------------------------------------


def client(redis_url: str) -> redis.Redis:
    return redis.Redis.from_url(
        redis_url,
        socket_timeout=_PATIENCE_SECONDS,
        socket_connect_timeout=_PATIENCE_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )


def read(redis_url: str, allowances: Sequence[Allowance]) -> dict[str, tuple[int, int, float | None]]:
    """By `Allowance.key`: used, reserved by requests under way, and the epoch second at which the period ends (None without one).

    Of a period that is over, and of what nobody used yet, nothing is said. Raises what Redis raises when it is away.
    """
    return {
        key: (counter.used, counter.reserved, counter.end) for key, counter in counters(redis_url, allowances).items()
    }


@dataclass(frozen=True, slots=True)
class Counter:
    """Of the period that runs. `end` in epoch seconds."""

    told: int
    """Used by the word of those who use it."""
    ledger: int
    """Used by the ledger's."""
    reserved: int
    end: float | None

    @property
    def used(self) -> int:
        return max(self.told, self.ledger)


NOTHING = Counter(0, 0, 0, None)


def counters(redis_url: str, allowances: Sequence[Allowance]) -> dict[str, Counter]:
    """As `read`."""
    found: dict[str, Counter] = {}
    with client(redis_url) as store:
        now = now_ms(store)
        words = store.hgetall(PROCESSES)
        alive = {name for name, word in words.items() if now - int(word.split()[0]) <= DEAD_SECONDS * 1000}
        for start in range(0, len(allowances), _AT_ONCE):
            some = allowances[start : start + _AT_ONCE]
            with store.pipeline(transaction=False) as pipeline:
                for allowance in some:
                    pipeline.hgetall(PREFIX + allowance.key)
                for allowance, counter in zip(some, pipeline.execute(), strict=True):
                    if counter and (int(counter[b"e"]) == 0 or int(counter[b"e"]) > now):
                        found[allowance.key] = _counter(counter, alive)
    return found


def now_ms(store: redis.Redis) -> int:
    seconds, micros = store.time()  # type: ignore[misc]
    return seconds * 1000 + micros // 1000


def _counter(stored: dict[bytes, bytes], alive: set[bytes]) -> Counter:
    used, reserved = int(stored[b"u"]), 0
    for name, value in stored.items():
        if name.startswith(b"p:"):
            told = value.split()
            used += int(told[0])
            if name[2:] in alive:
                reserved += int(told[1])
    end = int(stored[b"e"])
    return Counter(used, int(stored[b"l"]), reserved, end / 1000 if end else None)


def raise_to(redis_url: str, spent: Iterable[tuple[Allowance, int, int, int]], *, whole_since: int = 0) -> int:
    """Take the ledger's word for counters: allowance, begin and end of the period in milliseconds, and what was spent in it.

    Only ever raises what is counted as used. What the ledger has beyond what all processes told counts as nobody's, and what they
    spend from here on comes on top of it, once all that live have spoken after the moment `whole_since` (ms of Redis's clock): before,
    one of them may have yet to tell the same. Returns how many counters were told.
    """
    told = list(spent)
    with client(redis_url) as store:
        run = store.register_script(script())
        for start in range(0, len(told), _AT_ONCE):
            some = told[start : start + _AT_ONCE]
            ops = [
                [min(one.amount, MOST), CALENDAR, begin, end, NO_PERIOD, *[0] * 7, min(sum_, MOST), 1, 0, whole_since]
                for one, begin, end, sum_ in some
            ]
            run(keys=keys(one.key for one, *_ in some), args=args("", 0, ops))
    return len(told)
