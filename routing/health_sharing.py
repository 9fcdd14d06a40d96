"""The conversation of one process with the others about health, through Redis, beside the requests.

One task tells and hears: failures at once, successes in batches every quarter of a second, figures every second; another waits
to be told that a breaker turned. Whatever Redis does, the requests go on: a permit alone waits for it, and not long.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from itertools import islice
from time import monotonic
from typing import TYPE_CHECKING, Any

import redis.asyncio

from routing import key_exhaustion, shared_health
from routing.breakers import Step
from routing.key_exhaustion import Exhaustion
from routing.shared_health import AT_ONCE, AWAY, BEGINNING, CHANNEL, HASHES, KEYS, PATIENCE_SECONDS, PERFORMANCE, Line

if TYPE_CHECKING:
    from routing.health import Health

log = logging.getLogger(__name__)

TICK_SECONDS = 0.25
HEAR_SECONDS = 0.5
FIGURES_SECONDS = 1.0
PERMIT_SECONDS = 0.1
AWAY_SECONDS = 1.0
"""After a question without an answer, permits are decided here without asking."""


class Sharing:
    def __init__(self, health: Health, redis_url: str) -> None:
        self.loop = asyncio.get_running_loop()
        self.has_started = asyncio.Event()
        self._health = health
        self._url = redis_url
        self._line = Line(redis_url)
        self._permits = Line(redis_url)
        self._woken = asyncio.Event()
        self._turned = True
        self._since = dict.fromkeys(HASHES, BEGINNING)
        self._birth: str | None = None
        self._heard_at = self._figures_at = 0.0
        self._away_until = 0.0
        self._is_away = False
        self._is_over = False
        self._keys_to_tell: dict[str, Mapping[str, Any]] = {}
        self._asked: list[tuple[Step, asyncio.Future[bool | None]]] = []
        self._asking: asyncio.Task[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Whoever calls may leave before it has heard of what is known: others wait for the same."""
        self._tasks = [asyncio.create_task(self._keep()), asyncio.create_task(self._listen())]
        await self.has_started.wait()

    async def stop(self) -> None:
        self._is_over = True  # redis-py loses a cancellation that meets it while it connects
        self._woken.set()
        for task in self._tasks[1:]:
            task.cancel()
        if self._tasks:
            # What is being told is told to its end: of a question cut off nobody knows whether Redis counted it.
            _, late = await asyncio.wait(self._tasks, timeout=2 * PATIENCE_SECONDS)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=PATIENCE_SECONDS)
        self._figures_at = 0.0
        if not self._is_away:
            await self._converse()
        await self._line.aclose()
        await self._permits.aclose()

    @property
    def is_away(self) -> bool:
        return self._is_away

    def wake(self) -> None:
        """There is something to tell that should not wait."""
        self._woken.set()

    def tell_key(self, key_id: int, exhaustion: Exhaustion) -> None:
        self._keys_to_tell[str(key_id)] = key_exhaustion.as_document(exhaustion)
        self._woken.set()

    # Permits

    async def permit(self, step: Step) -> bool | None:
        """Redis's word on a half-open breaker; None when it is away. Many that ask at once share a round trip.

        An answer that is merely late is a no: were it a yes of this process's own, many would think so at once.
        """
        if self._is_away or monotonic() < self._away_until:
            return None
        answer: asyncio.Future[bool | None] = asyncio.get_running_loop().create_future()
        self._asked.append((step, answer))
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())
        try:
            async with asyncio.timeout(PERMIT_SECONDS):
                return await answer
        except (TimeoutError, asyncio.CancelledError) as error:
            if answer.done() and not answer.cancelled() and answer.result():  # it came in the same moment
                self._give_back(step)
            if isinstance(error, TimeoutError):
                return False
            raise

    def _give_back(self, step: Step) -> None:
        """What was granted to somebody who does not wait for it any more."""
        self._health.outbox.append(Step(step.route, "release", step.settings, lease=step.lease))
        self.wake()

    async def _ask(self) -> None:
        while self._asked:
            asked, self._asked = self._asked[:AT_ONCE], self._asked[AT_ONCE:]
            try:
                told = await self._permits.ask(shared_health.steps([step for step, _ in asked]))
            except AWAY as error:
                late = isinstance(error, TimeoutError | redis.TimeoutError)
                if not late:
                    self._away_until = monotonic() + AWAY_SECONDS
                for _, answer in asked:
                    if not answer.done():
                        answer.set_result(False if late else None)
                continue
            self._health.set_clock(told.moment)
            for (step, answer), (granted, breaker) in zip(asked, told.outcomes, strict=True):
                self._health.take_breaker(step.route, breaker)
                if not answer.done():
                    answer.set_result(granted)
                elif granted:
                    self._give_back(step)

    # Telling and hearing

    async def _keep(self) -> None:
        try:
            await self._converse()
        finally:
            self.has_started.set()
        while not self._is_over:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_SECONDS):
                    await self._woken.wait()
            self._woken.clear()
            await self._converse()

    async def _converse(self) -> None:
        """One round. Never raises but when it is cancelled."""
        health = self._health
        now = monotonic()
        figures_due = now - self._figures_at >= FIGURES_SECONDS
        health.count_calls()
        try:
            await self._tell_steps()
            await self._tell_keys()
            if figures_due:
                await self._tell_figures()
            if self._turned or now - self._heard_at >= HEAR_SECONDS:
                self._turned = False
                await self._hear()
                self._heard_at = now
            if self._is_away:
                log.info("routing's health is shared with the other processes again")
            self._is_away = False
        except AWAY as error:
            self._turned = True
            self._away_until = monotonic() + AWAY_SECONDS
            health.outbox.clear()
            health.count_figures()
            if not self._is_away:
                log.warning("routing's health is not shared, Redis is away: %s", type(error).__name__)
            self._is_away = True
        except Exception:  # this task must outlive whatever a reply may hold
            log.exception("sharing routing's health failed")
        if figures_due:
            self._figures_at = now
            health.show_figures()
        health.tick()

    async def _tell_steps(self) -> None:
        outbox = self._health.outbox
        while outbox:
            taken = list(islice(outbox, AT_ONCE))
            told = await self._line.ask(shared_health.steps(taken))
            for _ in taken:
                outbox.popleft()
            self._health.set_clock(told.moment)
            latest = {step.route: breaker for step, (_, breaker) in zip(taken, told.outcomes, strict=True)}
            for route, breaker in latest.items():
                self._health.take_breaker(route, breaker)

    async def _tell_keys(self) -> None:
        while self._keys_to_tell:
            documents, self._keys_to_tell = self._keys_to_tell, {}
            try:
                await self._line.ask(shared_health.put(KEYS, documents, tell=True))
            except AWAY:
                self._keys_to_tell = documents | self._keys_to_tell
                raise

    async def _tell_figures(self) -> None:
        untold = list(self._health.count_figures().items())
        for start in range(0, len(untold), AT_ONCE):
            some = untold[start : start + AT_ONCE]
            counted = await self._line.ask(shared_health.batches([(route, sums.batch()) for route, sums in some]))
            for (route, sums), figures in zip(some, counted.figures, strict=True):
                self._health.told(route, sums, figures)

    async def _hear(self) -> None:
        for name in HASHES:
            heard = await self._line.ask(shared_health.changes(name, self._since[name]))
            if heard.birth != self._birth:
                await self._restore(heard.birth)
                return await self._hear()
            self._since[name] = heard.version if heard.version != "0" else BEGINNING
            self._health.hear(name, heard)
        return None

    async def _restore(self, birth: str) -> None:
        """The store is new to us: it is told what it lacks, and asked for everything."""
        if self._birth is not None:
            for name, documents in self._health.worth_keeping():
                rows = list(documents.items())
                for start in range(0, len(rows), AT_ONCE):
                    some = dict(rows[start : start + AT_ONCE])
                    await self._line.ask(shared_health.put(name, some, only_missing=True, tell=True))
        self._since = dict.fromkeys(HASHES, BEGINNING)
        self._birth = (await self._line.ask(shared_health.changes(PERFORMANCE, BEGINNING))).birth

    async def _listen(self) -> None:
        while not self._is_over:
            client = redis.asyncio.Redis.from_url(self._url, socket_connect_timeout=PATIENCE_SECONDS)
            try:
                async with client.pubsub() as channel:
                    await channel.subscribe(CHANNEL)
                    while not self._is_over:
                        if await channel.get_message(ignore_subscribe_messages=True, timeout=HEAR_SECONDS):
                            self._turned = True
                            self._woken.set()
            except AWAY:
                await asyncio.sleep(AWAY_SECONDS)
            finally:
                await client.aclose()
