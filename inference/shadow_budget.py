"""What copies may cost on a day (UTC): one counter in Redis for all processes, reserved before a call and settled after it.

Reserving is one atomic step, so no number of processes goes past the cap together. A reservation is what the call may cost at
most; a killed process leaves its own standing until midnight. Without Redis nothing is reserved, so nothing is copied.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_UP, Decimal

import redis
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from providers import pricing, provider_types
from providers.pricing import USD
from routing.types import ModelView

WORST_INPUT_COST_PER_MILLION = Decimal(150)
WORST_OUTPUT_COST_PER_MILLION = Decimal(600)
"""What a token counts of a model whose price nobody knows: as dear as a public chat model has ever been (o1-pro, USD)."""

MOST_OUTPUT_TOKENS = 4096
"""Counted where neither the request nor the model sets a bound."""

CURRENCY = USD

_NANO = Decimal(10) ** 9
_KEPT_SECONDS = 3 * 24 * 3600
_PATIENCE_SECONDS = 1.0

_RESERVE = """
local spent = tonumber(redis.call('GET', KEYS[1]) or '0')
if spent + tonumber(ARGV[1]) > tonumber(ARGV[2]) then return 0 end
redis.call('INCRBY', KEYS[1], ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1
"""


class StoreAway(Exception):
    """Redis does not answer, so it is not known what was spent."""


@dataclass(frozen=True, slots=True)
class Reservation:
    """Money taken off a day's cap, in billionths."""

    day: str
    nano: int


def estimate(
    model: ModelView | None, *, request_bytes: int, most_output_tokens: int | None, choices: int = 1
) -> Decimal:
    """What a call costs at most: a token for each byte that is asked, and all the tokens that each choice may hold."""
    limit = most_output_tokens or (model.max_tokens if model is not None else None) or MOST_OUTPUT_TOKENS
    return cost(model, input_tokens=request_bytes, output_tokens=limit * choices)


def cost(model: ModelView | None, *, input_tokens: int, output_tokens: int, cached_tokens: int = 0) -> Decimal:
    """What counts against the cap: the known price, nothing for a local model, else the worst case."""
    known = known_cost(model, input_tokens=input_tokens, output_tokens=output_tokens, cached_tokens=cached_tokens)
    if known is not None:
        return known
    worst = pricing.cost(
        WORST_INPUT_COST_PER_MILLION,
        WORST_OUTPUT_COST_PER_MILLION,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
    )
    assert worst is not None
    return worst


def known_cost(
    model: ModelView | None, *, input_tokens: int, output_tokens: int, cached_tokens: int = 0
) -> Decimal | None:
    """The price in the cap's currency; None when it is unknown."""
    if model is None or model.prices.currency != CURRENCY:
        return None
    told = model.prices.cost(input_tokens=input_tokens, output_tokens=output_tokens, cached_tokens=cached_tokens)
    if told is None:
        kind = provider_types.find(model.provider.provider_type)
        return Decimal(0) if kind is not None and kind.free else None
    return told


class Budget:
    """For one event loop."""

    def __init__(self, redis_url: str) -> None:
        # Not tried again: a step that was lost on its way back would count twice.
        self._store = redis.asyncio.Redis.from_url(
            redis_url,
            socket_timeout=_PATIENCE_SECONDS,
            socket_connect_timeout=_PATIENCE_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        self._reserve = self._store.register_script(_RESERVE)

    async def reserve(self, amount: Decimal, cap: Decimal, now: float) -> Reservation | None:
        """None when the cap of the day does not hold it. Raises `StoreAway`."""
        reservation = Reservation(_day(now), _nano(amount))
        try:
            taken = await self._reserve(
                keys=[_key(reservation.day)], args=[reservation.nano, _nano(cap), _KEPT_SECONDS]
            )
        except (redis.RedisError, OSError, TimeoutError) as error:
            raise StoreAway(type(error).__name__) from error
        return reservation if taken else None

    async def settle(self, reservation: Reservation, actual: Decimal) -> None:
        """Count what it cost instead of what was reserved. When Redis is away, the reservation stands."""
        difference = _nano(actual) - reservation.nano
        if not difference:
            return
        try:
            await self._store.incrby(_key(reservation.day), difference)
        except (redis.RedisError, OSError, TimeoutError):
            return

    async def spent(self, now: float) -> Decimal:
        """What the day's copies cost so far, reservations included. Raises `StoreAway`."""
        try:
            told = await self._store.get(_key(_day(now)))
        except (redis.RedisError, OSError, TimeoutError) as error:
            raise StoreAway(type(error).__name__) from error
        return Decimal(int(told or 0)) / _NANO

    async def aclose(self) -> None:
        await self._store.aclose()


def _key(day: str) -> str:
    return f"gw:shadow:spent:{day}"


def _day(now: float) -> str:
    return datetime.fromtimestamp(now, UTC).date().isoformat()


def _nano(amount: Decimal) -> int:
    return int((amount * _NANO).to_integral_value(rounding=ROUND_UP))
