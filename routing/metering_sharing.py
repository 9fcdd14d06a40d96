"""The conversation of one process with the common store about allowances, beside the requests.

One task asks for what requests wait for, all of it in one round trip, and tells how things stand: at once where little is left,
ten times a second elsewhere. Another hears when others need what is free here. A third asks the ledger, when the store
does not know what was spent in a period. Nothing of this raises; a store that is away is asked again every second.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import defaultdict
from time import monotonic
from typing import TYPE_CHECKING

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from routing import ledger_word, metering_store
from routing.metering_store import CHANNEL, LEDGER_NEEDED, PREFIX, RECALLED, Heard, Op
from routing.purses import Purse

if TYPE_CHECKING:
    from routing.metering import Meter

log = logging.getLogger(__name__)

AWAY = (redis.RedisError, OSError, TimeoutError)
TICK_SECONDS = 0.1
BEAT_SECONDS = 1.0
"""Also how often a store that is away is asked again."""
PATIENCE_SECONDS = 0.5
WORTH_SECONDS = 20.0
"""How long what was granted may be used without a word from the store: less than after which others may be granted it."""
LEDGER_SECONDS = 5.0
AT_ONCE = 200
"""Counters in one run of the script: others wait for Redis while it runs."""
LEDGER_AWAY = 4
"""Beside the statuses of the store: the ledger could not be asked either."""
_WELCOME = 512
"""How many times what is asked for is welcome at once, where there is plenty."""
RETELLING_SECONDS = 0.2
"""After the store was emptied nobody is let through before all processes had the time to tell what they hold."""
_STALLED = 1.1
_FIRST_PAUSE, _LONGEST_PAUSE = 0.001, 0.02


class Sharing:
    def __init__(self, meter: Meter, redis_url: str) -> None:
        self.loop = asyncio.get_running_loop()
        self.is_away = False
        self._meter = meter
        self._url = redis_url
        self._woken = asyncio.Event()
        self._asked_at = 0.0
        self._tidied_at = monotonic()
        self._is_over = self._is_forgotten = False
        self._tasks: list[asyncio.Task[None]] = []
        self._ledger_again_at = 0.0
        self._reading: asyncio.Task[None] | None = None
        self._unread: list[Purse] = []
        """What the ledger is to be asked of once it has answered of others."""
        self._left: list[Purse] = []
        """Forgotten here, which the store has yet to hear."""
        self._client = redis.asyncio.Redis.from_url(
            redis_url,
            socket_timeout=PATIENCE_SECONDS,
            socket_connect_timeout=PATIENCE_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        self._script = self._client.register_script(metering_store.script())

    def start(self) -> None:
        self._tasks = [self.loop.create_task(self._keep()), self.loop.create_task(self._listen())]

    async def stop(self) -> None:
        self._is_over = True  # redis-py loses a cancellation that meets it while it connects
        for task in [*self._tasks, *([self._reading] if self._reading is not None else [])]:
            task.cancel()
        await asyncio.wait(self._tasks, timeout=2 * PATIENCE_SECONDS)
        purses = list(self._meter.purses.values())
        with contextlib.suppress(*AWAY):
            if not self.is_away:
                await self._leave(self._left)
                await self._say_of(purses)
                await self._leave(purses)
        for purse in purses:
            purse.spent = 0
            purse.give_back()
        await self._client.aclose()

    def abandon(self) -> None:
        """Another loop serves now; from there."""
        self._is_over = True
        with contextlib.suppress(RuntimeError):  # the loop is over, and its tasks with it
            for task in self._tasks:
                self.loop.call_soon_threadsafe(task.cancel)

    def wake(self) -> None:
        """Somebody waits, or there is something to tell that should not wait."""
        self._woken.set()

    async def _keep(self) -> None:
        while not self._is_over:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pause()):
                    await self._woken.wait()
            self._woken.clear()
            try:
                await self._converse()
            except AWAY as error:
                self._go_alone(error)
            except Exception:  # this task must outlive whatever a reply may hold
                log.exception("counting against limits and budgets failed")
                self._meter.serve_waiters(is_away=True)
                await asyncio.sleep(TICK_SECONDS)

    def _pause(self) -> float:
        if self.is_away:
            return BEAT_SECONDS
        meter = self._meter
        return TICK_SECONDS if meter.waiters or meter.changed or meter.open_grants else BEAT_SECONDS

    async def _converse(self) -> None:
        """Until nobody waits for what could be had."""
        meter, pause = self._meter, _FIRST_PAUSE
        if self.is_away and monotonic() - self._asked_at < BEAT_SECONDS:
            meter.serve_waiters(is_away=True)
            return
        meter.let_go_of_what_is_stale()
        await self._tidy()
        while True:
            if self._is_forgotten:
                await self._tell_again()
            words = self._words()
            if not words and monotonic() - self._asked_at < BEAT_SECONDS:
                meter.serve_waiters()
                return
            await self._say_all(words)
            if self._is_forgotten:
                continue
            waiting = meter.serve_waiters()
            if not waiting:
                if not any(purse.scarce and purse.told_free > 0 for purse in meter.changed):
                    return
            elif any(purse.verdict == RECALLED for purse, *_ in words):
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)

    async def _tell_again(self) -> None:
        """The store was emptied: how things stand, and nothing asked for until the others have told it too."""
        self._is_forgotten = False
        self._meter.changed.update(self._meter.purses.values())
        await self._say_all(self._words(asking=False))
        if self._meter.waiters:
            await asyncio.sleep(RETELLING_SECONDS)

    async def _say_all(self, words: list[tuple[Purse, Op, int]]) -> None:
        for start in range(0, max(1, len(words)), AT_ONCE):
            await self._say(words[start : start + AT_ONCE])

    def _words(self, *, asking: bool = True) -> list[tuple[Purse, Op, int]]:
        """What is asked for and told, with the period that each word speaks of."""
        meter, now_ms = self._meter, self._meter.now_ms()
        asked: dict[Purse, tuple[int, int]] = {}
        wanted: defaultdict[Purse, list[int]] = defaultdict(list)
        for waiter in meter.waiters if asking else ():
            if not waiter.answer.done():
                for purse in waiter.purses:
                    wanted[purse].append(waiter.needs[purse.place])
        for purse, needs in wanted.items():
            short = sum(needs) - purse.free
            if short > 0:
                asked[purse] = short, max(1, min(needs) - purse.free)
        words = []
        now = monotonic()
        for purse in [*meter.changed, *(purse for purse in asked if purse not in meter.changed)]:
            short, least = asked.get(purse, (0, 0))
            if purse.verdict == LEDGER_NEEDED and purse.seed is None:
                continue  # the ledger is being asked
            if purse.verdict == LEDGER_AWAY and now < self._ledger_again_at:
                continue
            if purse.ends <= now:
                purse.begin_period(now_ms, now)
            if purse.scarce and not short and purse not in wanted:
                purse.give_back()
            words.append(
                (
                    purse,
                    metering_store.op(purse, now_ms, ask=short, least=least, wish=short * _WELCOME),
                    purse.period,
                )
            )
            meter.changed.discard(purse)
        return words

    async def _say(self, words: list[tuple[Purse, Op, int]]) -> None:
        meter = self._meter
        try:
            heard = await self._ask(words)
        except BaseException:
            meter.changed.update(purse for purse, *_ in words)
            raise
        meter.set_clock(heard.moment)
        meter.processes = max(1, heard.processes)
        if self.is_away:
            log.info("limits and budgets are counted with the other processes again")
        self.is_away, meter.worth_until = False, monotonic() + WORTH_SECONDS
        if heard.is_late or heard.is_news:
            self._is_forgotten = heard.is_news
            meter.changed.update(purse for purse, *_ in words)
            return
        for (purse, _, spoken_of), said in zip(words, heard.said, strict=True):
            meter.hear(purse, said, heard.moment, spoken_of)
            if said.status == LEDGER_NEEDED:
                self._unread.append(purse)
            elif said.begin >= 0:
                purse.seed = None
        self._read_on()

    async def _ask(self, words: list[tuple[Purse, Op, int]]) -> Heard:
        began = monotonic()
        try:
            return await self._ask_once(words)
        except (TimeoutError, redis.TimeoutError):
            if monotonic() - began < _STALLED * PATIENCE_SECONDS:
                raise
            return await self._ask_once(words)  # it was this process that was late, not the store

    async def _ask_once(self, words: list[tuple[Purse, Op, int]]) -> Heard:
        meter = self._meter
        meter.words_said += 1
        self._asked_at = monotonic()
        async with asyncio.timeout(PATIENCE_SECONDS):
            told = await self._script(
                keys=metering_store.keys(purse.allowance.key for purse, *_ in words),
                args=metering_store.args(meter.name, meter.words_said, [op for _, op, _ in words]),
            )
        return metering_store.heard(told)

    async def _leave(self, purses: list[Purse]) -> None:
        """What they told last stays counted, and nobody's; to say it again changes nothing."""
        await self._say_of(purses, leaves=True)

    async def _say_of(self, purses: list[Purse], *, leaves: bool = False) -> None:
        now_ms = self._meter.now_ms()
        for start in range(0, len(purses), AT_ONCE):
            some = purses[start : start + AT_ONCE]
            for purse in some:
                purse.reserved = 0
                purse.give_back()
            words = [(purse, metering_store.op(purse, now_ms, leaves=leaves), purse.period) for purse in some]
            if (await self._ask(words)).is_news:
                self._is_forgotten = True
                await self._ask(words)

    def _go_alone(self, error: BaseException) -> None:
        if not self.is_away:
            log.warning("limits and budgets are counted by this process alone, Redis is away: %s", type(error).__name__)
        self.is_away = True
        self._asked_at = monotonic()
        self._meter.serve_waiters(is_away=True)

    async def _tidy(self) -> None:
        now = monotonic()
        if not self.is_away and now - self._tidied_at >= BEAT_SECONDS:
            self._tidied_at = now
            if forgotten := self._meter.tidy(now):
                self._meter.forget(forgotten)
                self._left += forgotten
        if self._left:  # before any word of another purse of the same name, which would stand in for what this one told
            await self._leave(self._left)
            self._left = []

    def _read_on(self) -> None:
        if self._unread and self._reading is None and not self._is_over:
            purses, self._unread = self._unread, []
            self._reading = self.loop.create_task(self._read_ledger(purses))

    async def _read_ledger(self, purses: list[Purse]) -> None:
        """What was spent in a period of which the store knows nothing: it was emptied, or the budget is new."""
        asked = [(purse, purse.period) for purse in purses]
        try:
            async with asyncio.timeout(LEDGER_SECONDS):
                sums = await asyncio.to_thread(
                    ledger_word.of, [(purse.allowance, purse.period, purse.period_ends) for purse in purses]
                )
            for (purse, period), spent in zip(asked, sums, strict=True):
                if purse.period == period:
                    purse.seed = spent
                    self._meter.changed.add(purse)
                purse.verdict = 0
        except Exception as error:  # the database may be away
            log.warning("what budgets have spent cannot be read from the ledger: %s", type(error).__name__)
            for purse in purses:
                purse.verdict = LEDGER_AWAY
            self._ledger_again_at = monotonic() + BEAT_SECONDS
        finally:
            self._reading = None
            self._read_on()
            self.wake()

    def _hear(self, key: str) -> None:
        """Others need what is free of a counter; or, without a key, somebody found the store emptied."""
        if not key:
            self._asked_at = 0.0
            self.wake()
        elif self._meter.recall(key.removeprefix(PREFIX)):
            self.wake()

    async def _listen(self) -> None:
        while not self._is_over:
            client = redis.asyncio.Redis.from_url(self._url, socket_connect_timeout=PATIENCE_SECONDS)
            try:
                async with client.pubsub() as channel:
                    await channel.subscribe(CHANNEL)
                    while not self._is_over:
                        message = await channel.get_message(ignore_subscribe_messages=True, timeout=BEAT_SECONDS)
                        if message is not None:
                            self._hear(message["data"].decode())
            except AWAY:
                await asyncio.sleep(BEAT_SECONDS)
            finally:
                await client.aclose()
