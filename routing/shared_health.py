"""Where the processes meet: three hashes in Redis, each with a log of its changes, and scripts that change them in one step.

What is said to Redis is built here once, for both colours: `Call` holds a script's arguments and how its answer is read, and
whoever has a client, sync or async, asks it. Seven keys in all, each of which ends by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Generic, TypeVar

import orjson
import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from routing import breakers, performance
from routing.breakers import Breaker, Step
from routing.performance import Batch, Figures

Answer = TypeVar("Answer")

BREAKERS, PERFORMANCE, KEYS = "breakers", "performance", "keys"
HASHES = (BREAKERS, PERFORMANCE, KEYS)
CHANNEL = "gw:health:turned"
"""Told, without a message, when a breaker turned or a key was set aside: look now, don't wait for the poll."""
BEGINNING = "-inf"
AWAY = (redis.RedisError, OSError, TimeoutError)
"""What asking raises when Redis is away, slow, full or not itself."""

PATIENCE_SECONDS = 1.0
AT_ONCE = 200
"""Steps, or routes, in one run of a script: others wait for Redis while it runs."""


@dataclass(frozen=True, slots=True)
class Call(Generic[Answer]):
    script: str
    keys: tuple[str, str, str]
    args: Sequence[str | bytes | int | float]
    read: Callable[[list[bytes]], Answer]


@dataclass(frozen=True, slots=True)
class Stepped:
    """`moment` is Redis's clock in milliseconds."""

    moment: int
    outcomes: tuple[tuple[bool, Breaker], ...]
    """Of each step: whether a permit was granted, and the breaker after it."""


@dataclass(frozen=True, slots=True)
class Counted:
    moment: int
    figures: tuple[Figures, ...]


@dataclass(frozen=True, slots=True)
class Heard:
    moment: int
    birth: str
    """Changes when the store was emptied; empty while nothing is in it."""
    version: str
    documents: tuple[tuple[str, Mapping[str, Any]], ...]


def steps(taken: Sequence[Step], *, moment: int | None = None) -> Call[Stepped]:
    """One after the other. `moment` in place of Redis's clock is for tests."""

    def read(told: list[bytes]) -> Stepped:
        pairs = zip(told[1::2], told[2::2], strict=True)
        return Stepped(
            int(told[0]),
            tuple((bool(granted), breakers.from_document(orjson.loads(document))) for granted, document in pairs),
        )

    documents = orjson.dumps([breakers.step_document(step) for step in taken])
    return Call(
        "breakers",
        _keys(BREAKERS),
        [documents, breakers.LEASE_MS, breakers.SLOTS, CHANNEL, "" if moment is None else moment],
        read,
    )


def batches(seen: Iterable[tuple[str, Batch]], *, moment: int | None = None) -> Call[Counted]:
    def read(told: list[bytes]) -> Counted:
        return Counted(int(told[0]), tuple(performance.from_document(orjson.loads(document)) for document in told[1:]))

    rows = orjson.dumps([[route, batch.good, batch.bad, batch.mean_us] for route, batch in seen])
    return Call(
        "performance",
        _keys(PERFORMANCE),
        [
            rows,
            performance.DAYS,
            performance.WEIGHT,
            performance.MOST_RECENT_FAILURES,
            "" if moment is None else moment,
        ],
        read,
    )


def put(
    name: str, documents: Mapping[str, Mapping[str, Any]], *, only_missing: bool = False, tell: bool = False
) -> Call[int]:
    """Write documents by id as they are; answers the moment."""
    args: list[str | bytes | int | float] = ["missing" if only_missing else "always", CHANNEL if tell else ""]
    for identifier, document in documents.items():
        args += [identifier, orjson.dumps(document)]
    return Call("put", _keys(name), args, lambda told: int(told[0]))


def changes(name: str, since: str = BEGINNING) -> Call[Heard]:
    def read(told: list[bytes]) -> Heard:
        pairs = zip(told[3::2], told[4::2], strict=True)
        return Heard(
            int(told[0]),
            told[1].decode(),
            told[2].decode(),
            tuple((identifier.decode(), orjson.loads(document)) for identifier, document in pairs),
        )

    return Call("changes", _keys(name), [since], read)


def _keys(name: str) -> tuple[str, str, str]:
    return f"gw:health:{name}", f"gw:health:{name}:log", "gw:health:birth"


@cache
def _text(script: str) -> str:
    folder = Path(__file__).parent / "lua"
    return (folder / "ledger.lua").read_text() + (folder / f"{script}.lua").read_text()


# The two colours ------------------------------------------------------------------------------------------------------------


class Line:
    """One connection's worth of asking, from a loop. Every question raises one of `AWAY` when there is no answer in time."""

    def __init__(self, redis_url: str) -> None:
        self._client = redis.asyncio.Redis.from_url(
            redis_url,
            socket_timeout=PATIENCE_SECONDS,
            socket_connect_timeout=PATIENCE_SECONDS,
            retry=AsyncRetry(NoBackoff(), 0),
        )

    async def ask(self, call: Call[Answer]) -> Answer:
        script = self._client.register_script(_text(call.script))
        return call.read(await script(keys=call.keys, args=call.args))

    async def aclose(self) -> None:
        await self._client.aclose()


def ask(redis_url: str, *calls: Call[Any]) -> list[Any]:
    """The answers, from synchronous code. Raises one of `AWAY`."""
    with redis.Redis.from_url(
        redis_url,
        socket_timeout=PATIENCE_SECONDS,
        socket_connect_timeout=PATIENCE_SECONDS,
        retry=Retry(NoBackoff(), 0),
    ) as client:
        answers = []
        for call in calls:
            script = client.register_script(_text(call.script))
            answers.append(call.read(script(keys=call.keys, args=call.args)))
        return answers
