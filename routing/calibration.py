"""How many tokens a byte of prompt makes, by route, learned from what upstreams counted.

Every process learns from the replies that it records, and a thread puts what was learned together with the others' in Redis, so that
it outlives a restart. A ratio is one of two sums that forget: what was seen long ago weighs less and less. Prompts too short to
tell are passed over, as is what no text can have; one odd prompt moves a ratio a little, and never far. While Redis is away,
a process goes by what it knows.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections.abc import Mapping
from itertools import islice
from types import MappingProxyType

import redis
from django.conf import settings

log = logging.getLogger(__name__)

KEY = "gw:calibration"
SHORTEST_BYTES = 200
"""Below, what surrounds the prompt outweighs it."""
HEAVIEST_BYTES = 20_000
"""What one prompt weighs at most."""
LOWEST, HIGHEST = 0.05, 1.0
"""Tokens per byte that a text may have."""
ENOUGH_BYTES = 2_000
"""Seen before a route's ratio is told."""
REMEMBERED_BYTES = 1_000_000
"""Once a route has seen so many, all it saw counts half."""
WORTH_TELLING = 0.02
"""By how much a ratio must have moved, as a share of itself, before readers are given another."""
MOST_ROUTES = 20_000
EXCHANGE_SECONDS = 5.0
REREAD_SECONDS = 60.0
KEPT_SECONDS = 30 * 24 * 3600
_AT_ONCE = 500
_PATIENCE_SECONDS = 2.0
_LAST_WORDS_SECONDS = 3.0

Sums = tuple[float, float]
"""Bytes and tokens."""

_ADD = """
local bytes, tokens = 0, 0
local stored = redis.call('HGET', KEYS[1], ARGV[1])
if stored then
  bytes, tokens = string.match(stored, '^(%S+) (%S+)$')
  bytes, tokens = tonumber(bytes) or 0, tonumber(tokens) or 0
elseif redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[5]) then
  return false
end
bytes, tokens = bytes + tonumber(ARGV[2]), tokens + tonumber(ARGV[3])
if bytes > tonumber(ARGV[4]) then bytes, tokens = bytes / 2, tokens / 2 end
local told = string.format('%.1f %.1f', bytes, tokens)
redis.call('HSET', KEYS[1], ARGV[1], told)
redis.call('EXPIRE', KEYS[1], ARGV[6])
return told
"""


class Calibration:
    """What one process knows. `observe` and `ratios` take microseconds and never raise; `exchange` asks Redis."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._one_at_a_time = threading.Lock()
        self._fresh: dict[str, Sums] = {}
        self._known: dict[str, Sums] = {}
        self._ratios: Mapping[str, float] = MappingProxyType({})
        self._reread_at = 0.0

    def observe(self, route: str, prompt_bytes: int, input_tokens: int) -> None:
        if prompt_bytes < SHORTEST_BYTES or not LOWEST <= input_tokens / prompt_bytes <= HIGHEST:
            return
        ratio, usual = input_tokens / prompt_bytes, self._ratios.get(route)
        if usual is not None:
            ratio = min(max(ratio, usual / 2), usual * 2)
        weight = float(min(prompt_bytes, HEAVIEST_BYTES))
        with self._lock:
            if route in self._fresh or len(self._fresh) < MOST_ROUTES:
                self._fresh[route] = _sum(self._fresh.get(route), (weight, weight * ratio))

    def ratios(self) -> Mapping[str, float]:
        """The same object until a ratio has moved enough to matter."""
        return self._ratios

    def exchange(self) -> None:
        """Add what was learned to what all know, and hear what the others learned. Raises `redis.RedisError` or `OSError`,
        after which what was learned counts here and is told next time."""
        with self._one_at_a_time:
            self._exchange()

    def _exchange(self) -> None:
        with self._lock:
            fresh, self._fresh = self._fresh, {}
        try:
            with redis.Redis.from_url(
                settings.REDIS_URL, socket_timeout=_PATIENCE_SECONDS, socket_connect_timeout=_PATIENCE_SECONDS
            ) as store:
                self._tell(store, fresh)
                if time.monotonic() >= self._reread_at:
                    self._known = _read(store)
                    self._reread_at = time.monotonic() + REREAD_SECONDS
        finally:
            with self._lock:
                for route, sums in fresh.items():
                    self._fresh[route] = _sum(self._fresh.get(route), sums)
                waiting = dict(self._fresh)
            self._publish(waiting)

    def _tell(self, store: redis.Redis, fresh: dict[str, Sums]) -> None:
        """What was told leaves `fresh`."""
        while fresh:
            some = list(islice(fresh.items(), _AT_ONCE))
            with store.pipeline(transaction=False) as line:
                for route, (amount, tokens) in some:
                    line.eval(_ADD, 1, KEY, route, amount, tokens, REMEMBERED_BYTES, MOST_ROUTES, KEPT_SECONDS)
                answers = line.execute()
            for (route, _), told in zip(some, answers, strict=True):
                del fresh[route]
                if (sums := _sums(told)) is not None:
                    self._known[route] = sums

    def _publish(self, waiting: dict[str, Sums]) -> None:
        together = {route: _sum(self._known.get(route), sums) for route, sums in waiting.items()}
        told = {}
        for route, (seen, tokens) in (self._known | together).items():
            if seen >= ENOUGH_BYTES:
                ratio = min(max(tokens / seen, LOWEST), HIGHEST)
                before = self._ratios.get(route)
                moved = before is None or abs(ratio - before) > WORTH_TELLING * before
                told[route] = round(ratio, 4) if moved else before
        if told != self._ratios:
            self._ratios = MappingProxyType(told)


def _sum(one: Sums | None, other: Sums) -> Sums:
    return other if one is None else (one[0] + other[0], one[1] + other[1])


def _read(store: redis.Redis) -> dict[str, Sums]:
    found = {}
    for route, told in store.hgetall(KEY).items():
        if (sums := _sums(told)) is not None:
            found[route.decode("utf-8", "replace")] = sums
    return found


def _sums(told: bytes | None) -> Sums | None:
    try:
        seen, tokens = map(float, (told or b"").split())
    except ValueError:
        return None
    return (seen, tokens) if seen > 0 else None


# --- The process's one ------------------------------------------------------------------------------------------------------

_current = Calibration()
_exchanging: _Exchanging | None = None
_starting = threading.Lock()


def observe(route: str, prompt_bytes: int, input_tokens: int) -> None:
    """Learn from one reply; called off the request path, by the recorder's thread. Never waits for anybody, never raises."""
    _current.observe(route, prompt_bytes, input_tokens)
    _follow()


def ratios() -> Mapping[str, float]:
    """Tokens per byte by route, of the routes that have shown enough; the same object while nothing moved."""
    _follow()
    return _current.ratios()


def read() -> Mapping[str, float]:
    """As all know them now, for a command or a page: asks Redis, and goes by what this process knows without it."""
    try:
        _current.exchange()
    except (redis.RedisError, OSError):
        log.debug("the calibration could not be read")
    return _current.ratios()


def replace(calibration: Calibration) -> Calibration:
    """Put another one in force, and hand back the one before; for tests."""
    global _current
    before, _current = _current, calibration
    return before


def stop() -> None:
    """Tell the others what they were not told yet, and exchange no more; the next use begins anew."""
    global _exchanging
    with _starting:
        exchanging, _exchanging = _exchanging, None
    if exchanging is not None:
        exchanging.is_over.set()
        exchanging.join(_LAST_WORDS_SECONDS)


def _follow() -> None:
    """Keep exchanging with the others, from the first use on: also in a process that a fork made."""
    global _exchanging
    if _exchanging is not None and _exchanging.is_alive():
        return
    with _starting:
        if _exchanging is None or not _exchanging.is_alive():
            _exchanging = _Exchanging()
            _exchanging.start()


class _Exchanging(threading.Thread):
    def __init__(self) -> None:
        super().__init__(name="calibration", daemon=True)
        self.is_over = threading.Event()

    def run(self) -> None:
        away = is_last = False
        while not is_last:
            is_last = self.is_over.is_set()
            try:
                _current.exchange()
                away = False
            except (redis.RedisError, OSError) as error:
                if not away:
                    log.info("what was learned of prompts is not shared: %s", type(error).__name__)
                away = True
            self.is_over.wait(EXCHANGE_SECONDS)


atexit.register(stop)
