"""Counting against limits and budgets: what a request needs is taken before it goes upstream, and settled when it is over.

A process takes blocks of every allowance from the common store and serves requests out of them without asking; see
`routing.purses`. When a block is used up, one round trip asks for all allowances of all requests that wait at that moment. When
little is left, blocks shrink to exactly what is asked, and before anybody is refused the other processes give back what they
do not use: so exactly as much is admitted as is allowed, by however many processes.

What the store cannot be asked about, because it is away, is decided here alone: limits stay open, each process with its share;
budgets do what they were told to do.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, Decimal
from math import inf
from time import monotonic, time

from django.conf import settings

from providers.pricing import USD
from routing import last_words
from routing.allowances import BUDGET, CALLS, EMPTY, MONEY, NANO, REQUEST, REQUESTS, TOKENS, Allowance, AllowanceIndex
from routing.allowances import CLOSED as CLOSED_WHEN_AWAY
from routing.metering_sharing import LEDGER_AWAY, Sharing
from routing.metering_store import LEDGER_NEEDED, RECALLED, REFUSED, Said
from routing.purses import CALENDAR, NO_PERIOD, RUNNING, STARTING, WINDOW, Purse
from routing.types import Identity, ModelView, Snapshot

LIMIT_REACHED, BUDGET_EXHAUSTED, UNPRICED, STORE_AWAY = (
    "limit_reached",
    "budget_exhausted",
    "price_unknown",
    "store_away",
)
"""Why a request, or a candidate, is not let through."""

WAIT_SECONDS = 1.0
"""For other processes to give back what they do not use. One that is silent for longer is not waited for."""
IDLE_SECONDS = 1.0
FORGOTTEN_SECONDS = 600.0
SOON_SECONDS = 1.0
"""What a request is told to wait for when others have to end before it."""
_NO_FOR_SECONDS = 0.25
_MOST_BUNDLES = 20_000
_PER_MILLION = 1_000_000
_USD = USD


class Exhausted(Exception):
    """An allowance does not let the request through. `retry_after` is in seconds, None where waiting is of no use or the end is
    not known."""

    def __init__(self, allowance: Allowance, reason: str, retry_after: float | None = None) -> None:
        super().__init__(f"{allowance.name}: {reason}")
        self.allowance = allowance
        self.reason = reason
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Needs:
    """Tokens of one request: what is likely, and the most that is possible."""

    input_tokens: int
    output_tokens: int
    most_input_tokens: int
    most_output_tokens: int


class Bundle:
    """Everything that counts for requests of one caller to one model."""

    __slots__ = (
        "alone",
        "holding",
        "limits",
        "most_tokens",
        "of_caller",
        "of_target",
        "once",
        "prices",
        "purses",
        "refuses_unpriced",
        "soft",
        "weighs",
    )

    def __init__(
        self,
        purses: tuple[Purse, ...],
        alone: tuple[Allowance, ...],
        model: ModelView | None,
        unpriced: Allowance | None,
    ) -> None:
        self.purses = purses
        self.alone = alone
        """Of one request each, without a counter."""
        self.of_caller = tuple(purse for purse in purses if not purse.allowance.targets)
        self.of_target = tuple(purse for purse in purses if purse.allowance.targets)
        self.once = tuple(purse for purse in self.of_caller if purse.place in (STARTING, RUNNING))
        """Taken once for a request, however many models it asks."""
        self.holding = tuple(purse for purse in purses if purse.place != STARTING)
        self.limits = {
            unit: tuple(
                purse
                for purse in purses
                if purse.allowance.unit == unit and purse.allowance.kind != BUDGET and purse.allowance.hard
            )
            for unit in (REQUESTS, TOKENS)
        }
        self.soft = tuple(purse for purse in purses if not purse.allowance.hard)
        self.prices = None if model is None else _nano_per_million(model)
        """Of input and output tokens; None when nobody knows them."""
        self.refuses_unpriced = unpriced if self.prices is None else None
        limits = [purse.amount for purse in purses if purse.allowance.unit == TOKENS and purse.allowance.hard]
        self.most_tokens = min(limits, default=None)
        """A guess of more than a limit ever has would never be let through; it gets the whole of it."""
        self.weighs = bool(alone) or any(purse.place not in (STARTING, RUNNING) for purse in purses)
        """The tokens of a request matter."""

    def needs(self, asked: Needs) -> tuple[int, int, int, int, int, int]:
        """By the places of `routing.purses`; money is rounded up."""
        likely = asked.input_tokens + asked.output_tokens
        most = asked.most_input_tokens + asked.most_output_tokens
        if self.prices is None:
            return 1, likely, 1, 0, most, 0
        per_input, per_output = self.prices
        return (
            1,
            likely,
            1,
            -(-(asked.input_tokens * per_input + asked.output_tokens * per_output) // _PER_MILLION),
            most,
            -(-(asked.most_input_tokens * per_input + asked.most_output_tokens * per_output) // _PER_MILLION),
        )


Line = tuple[Purse, int, float]

_WEIGHTLESS = (1, 0, 1, 0, 0, 0)


class Grant:
    """What one request holds. Whoever has it settles it once, whatever happens."""

    __slots__ = ("at", "beyond", "bundle", "lines", "needs", "once", "open")

    def __init__(self) -> None:
        self.needs: tuple[int, ...] | None = None
        """Of all that the bundle has, when that was taken at once."""
        self.at = 0.0
        """When it was."""
        self.lines: list[Line] | None = None
        """Else of the try under way: a purse, how much of it, and since when."""
        self.once: list[Line] | None = None
        """Of the request as a whole."""
        self.bundle: Bundle | None = None
        self.beyond: tuple[str, ...] = ()
        """Names of budgets of one request that only warn, and that the try under way goes beyond."""
        self.open = False

    @property
    def is_tried(self) -> bool:
        """A try holds something."""
        return self.needs is not None or bool(self.lines)

    def take_apart(self) -> list[Line]:
        """What the try under way holds, one by one; the grant forgets it."""
        if self.needs is not None and self.bundle is not None:
            at, needs = self.at, self.needs
            self.needs = None
            return [(purse, needs[purse.place], at) for purse in self.bundle.purses if purse.place != STARTING]
        lines, self.lines = self.lines or [], None
        return lines

    @property
    def notices(self) -> list[str]:
        """What the caller should be told of budgets and limits that warn only."""
        bundle = self.bundle
        if bundle is None or not (bundle.soft or self.beyond):
            return []
        told = [f"{purse.allowance.name} is used up" for purse in bundle.soft if purse.over]
        return told + [f"this request goes beyond {name}" for name in self.beyond]

    def tightest(self, unit: str, now: float) -> tuple[int, int, float] | None:
        """Of the limits on `unit`, the one with the least left for its size: amount, what is left, seconds until it is reset."""
        if self.bundle is None:
            return None
        found: Purse | None = None
        least = 2.0
        for purse in self.bundle.limits[unit]:
            share = purse.remaining / (purse.amount or 1)
            if share < least:
                found, least = purse, share
        if found is None:
            return None
        seconds = found.ends - now
        return found.amount, min(found.remaining, found.amount), seconds if 0 < seconds < 10**7 else 0.0


@dataclass(slots=True, eq=False)
class Waiter:
    purses: tuple[Purse, ...]
    needs: tuple[int, ...]
    grant: Grant
    answer: asyncio.Future[None]
    deadline: float
    once: tuple[Purse, ...] = field(default=())


class Meter:
    """Of one process, on the loop that serves requests. Starts to share by itself when something is to be counted."""

    def __init__(self, redis_url: str | None = None) -> None:
        self.name = f"{os.getpid()}-{secrets.token_hex(6)}"
        """Of this process, among all that count."""
        self.words_said = 0
        self.changed: set[Purse] = set()
        """Of which the store has not heard how they stand."""
        self.purses: dict[str, Purse] = {}
        self.waiters: deque[Waiter] = deque()
        self.refused: Counter[tuple[str, str, str]] = Counter()
        """By kind, unit and period of the allowance: for whoever shows counters."""
        self.warned: Counter[tuple[str, int]] = Counter()
        """By kind and row of allowances that warn only: requests beyond them."""
        self.processes = 1
        """That count together, by the store's last word."""
        self.worth_until = inf
        """When what is free here may be somebody else's, because the store has heard nothing since."""
        self.open_grants = 0
        self._redis_url = redis_url
        self._sharing: Sharing | None = None
        self._index: AllowanceIndex = EMPTY
        self._bundles: dict[tuple[int, tuple[str, ...], str], Bundle | None] = {}
        self._ahead = time() * 1000 - monotonic() * 1000
        """What the store's clock in milliseconds is ahead of the monotonic one."""

    # What the request path does

    def bundle(
        self, snapshot: Snapshot, identity: Identity | None, tags: tuple[str, ...], model: ModelView | None
    ) -> Bundle | None:
        """What counts for a request; None when nothing does. Of one that no model serves (`model` is None) its caller's limits of
        requests count, and nothing else."""
        index = snapshot.allowances
        if index is not self._index:
            self._index, self._bundles = index, {}
        elif index is EMPTY:
            return None
        route = "" if model is None else model.route
        key = (0 if identity is None else identity.key_id, tags if index.tags else (), route)
        try:
            return self._bundles[key]
        except KeyError:
            return self._make_bundle(key, index, identity, tags, model)

    def take_at_once(self, bundle: Bundle, needs: tuple[int, ...], grant: Grant) -> bool:
        """All that the first try of a request needs, or nothing, without asking anybody."""
        now, changed = monotonic(), self.changed
        if now > self.worth_until:
            return False
        purses = bundle.purses
        for purse in purses:
            if purse.free < needs[purse.place] or purse.ends <= now:
                return False
        for purse in purses:
            need = needs[purse.place]
            purse.free -= need
            if purse.place:
                purse.reserved += need
            else:
                purse.spent += need
            purse.touched = now
            changed.add(purse)
        grant.needs, grant.at, grant.bundle = needs, now, bundle
        if not grant.open:
            grant.open = True
            self.open_grants += 1
        return True

    async def take(self, bundle: Bundle, asked: Needs | None, grant: Grant, *, again: bool = False) -> None:
        """What a try needs. `again` is for every try after the first: what is taken once for a request is held already.

        One round trip when a purse is empty, and more only while others give back. Raises `Exhausted`, with nothing taken. The
        grant must be settled also when this is cancelled.
        """
        grant.bundle = bundle
        if bundle.refuses_unpriced is not None:
            raise self._refusal(bundle.refuses_unpriced, UNPRICED)
        needs = _WEIGHTLESS if asked is None else bundle.needs(asked)
        grant.beyond = ()
        for alone in bundle.alone:
            need = needs[5] if alone.strict else needs[3]
            if need > alone.amount:
                if alone.hard:
                    raise self._refusal(alone, BUDGET_EXHAUSTED)
                self.warned[alone.kind, alone.source_id] += 1
                grant.beyond += (alone.name,)
        if bundle.most_tokens is not None and needs[1] > bundle.most_tokens:
            needs = (needs[0], bundle.most_tokens, *needs[2:])
        if again:
            purses = tuple(purse for purse in bundle.purses if purse not in bundle.once)
        elif self.take_at_once(bundle, needs, grant):
            self._warn(bundle)
            return
        else:
            purses = bundle.purses
        await self._take_slowly(purses, needs, grant)
        self._warn(bundle)

    def end_try(self, grant: Grant, tokens: int = 0, nano: int = 0) -> None:
        """A try failed, and another may follow: what it held is free again, but for what it used all the same."""
        for line in grant.take_apart():
            if line[0].place == RUNNING and not line[0].allowance.targets:
                if grant.once is None:
                    grant.once = []
                grant.once.append(line)
            else:
                self._settle_line(line, tokens, nano)

    def settle(self, grant: Grant, tokens: int = 0, nano: int = 0) -> None:
        """The request is over: what it used in tokens and nano-USD, by its last try. Once is enough; again does nothing."""
        if not grant.open:
            return
        grant.open = False
        self.open_grants -= 1
        hurry = False
        needs, changed = grant.needs, self.changed
        if needs is not None and grant.bundle is not None:
            grant.needs = None
            at, actual = grant.at, (0, tokens, 0, nano, tokens, nano)
            for purse in grant.bundle.holding:
                if purse.since > at:
                    continue  # what was reserved went with its period
                place = purse.place
                need = needs[place]
                purse.reserved -= need
                used = actual[place]
                purse.spent += used
                free = purse.free + need - used
                purse.free = free if free > 0 else 0
                changed.add(purse)
                if purse.scarce:
                    hurry = True
        for line in grant.lines or ():
            self._settle_line(line, tokens, nano)
            hurry = hurry or line[0].scarce
        for line in grant.once or ():
            self._settle_line(line, 0, 0)
            hurry = hurry or line[0].scarce
        grant.lines = grant.once = None
        if hurry and self._sharing is not None:
            self._sharing.wake()

    # What the store answers

    def now_ms(self) -> int:
        """By the store's clock."""
        return int(monotonic() * 1000 + self._ahead)

    def set_clock(self, moment: int) -> None:
        self._ahead = moment - monotonic() * 1000

    def hear(self, purse: Purse, said: Said, moment: int, spoken_of: int) -> None:
        """What the store said of a counter, when the purse spoke of the period `spoken_of`."""
        now = monotonic()
        purse.verdict = said.status
        if said.begin < 0:
            return
        if said.begin != purse.period:
            if purse.period != spoken_of:
                return  # it has begun another one meanwhile: the next word will tell
            if purse.period != NO_PERIOD:
                purse.reserved = 0
                if purse.kind == CALENDAR:
                    purse.spent = 0
                if purse.allowance.hard:
                    purse.free = 0
        purse.take_period(said.begin, said.end, moment, now)
        purse.used, purse.held = said.used, said.held
        purse.left = purse.amount - said.used - said.held
        purse.scarce = said.scarce
        if said.status != LEDGER_NEEDED:  # else nobody decides but this process, and its share goes on
            purse.away_used = 0
        if purse.allowance.hard:
            purse.free += said.granted
        purse.over = said.used + purse.reserved >= purse.amount
        if said.status == REFUSED:
            purse.denied_until = now + _NO_FOR_SECONDS if said.used >= purse.amount else 0.0

    def serve_waiters(self, *, is_away: bool = False) -> bool:
        """Let through whoever can be, refuse whoever has to be; whether somebody waits on."""
        waiting: deque[Waiter] = deque()
        now = monotonic()
        while self.waiters:
            waiter = self.waiters.popleft()
            if waiter.answer.done():
                continue
            try:
                if is_away:
                    self._take_alone(waiter.purses, waiter.needs, waiter.grant, now)
                    waiter.answer.set_result(None)
                    continue
                lacking = self._lacking(waiter, now)
                if not lacking:
                    self._apply(waiter.purses, waiter.needs, waiter.grant, now)
                    waiter.answer.set_result(None)
                    continue
                if any(
                    purse.verdict == LEDGER_AWAY or (purse.verdict == LEDGER_NEEDED and now >= waiter.deadline)
                    for purse in lacking
                ):
                    self._take_alone(waiter.purses, waiter.needs, waiter.grant, now)
                    waiter.answer.set_result(None)
                    continue
                for purse in lacking:
                    if purse.verdict == REFUSED or (purse.verdict == RECALLED and now >= waiter.deadline):
                        raise self._refusal_of(purse, now)
                if now >= waiter.deadline:
                    raise self._refusal_of(lacking[0], now)
                waiting.append(waiter)
            except Exhausted as refusal:
                waiter.answer.set_exception(refusal)
        self.waiters = waiting
        return bool(waiting)

    def recall(self, key: str) -> bool:
        """Others need what is free here; whether anything is given back."""
        purse = self.purses.get(key)
        if purse is not None and purse.give_back():
            self.changed.add(purse)
            return True
        return False

    def let_go_of_what_is_stale(self) -> None:
        """What was free for so long that the store may have granted it to others, as after a stop of this process."""
        if monotonic() > self.worth_until:
            self.changed.update(purse for purse in self.purses.values() if purse.give_back())

    def tidy(self, now: float) -> list[Purse]:
        """Give back what is idle; the purses that are of no use any more."""
        forgotten = []
        for purse in self.purses.values():
            if purse.ends <= now:
                if now - purse.touched > IDLE_SECONDS:
                    purse.begin_period(self.now_ms(), now)
                continue
            idle = now - purse.touched
            if idle > IDLE_SECONDS and purse.told_free > 0 and not self.waiters:
                purse.give_back()
                self.changed.add(purse)
            if idle > FORGOTTEN_SECONDS and purse.reserved <= 0 and purse not in self.changed:
                forgotten.append(purse)
        return forgotten

    def forget(self, purses: list[Purse]) -> None:
        for purse in purses:
            self.purses.pop(purse.allowance.key, None)
            self.changed.discard(purse)
        self._bundles = {}

    # Its life

    async def stop(self) -> None:
        """Give back what is free, and tell what is not told yet."""
        if self._sharing is not None:
            sharing, self._sharing = self._sharing, None
            await sharing.stop()

    def end(self) -> None:
        """As `stop`, from any thread."""
        sharing, self._sharing = self._sharing, None
        if sharing is not None:
            last_words.end_on(sharing.loop, sharing.stop)

    @property
    def is_away(self) -> bool:
        """Counting alone, because the store does not answer."""
        return self._sharing is not None and self._sharing.is_away

    # Inside

    def _make_bundle(
        self,
        key: tuple[int, tuple[str, ...], str],
        index: AllowanceIndex,
        identity: Identity | None,
        tags: tuple[str, ...],
        model: ModelView | None,
    ) -> Bundle | None:
        found = index.of_caller(identity, tags)
        if model is None:
            found = tuple(one for one in found if one.unit in (REQUESTS, CALLS))
        else:
            found += index.of_model(model)
        bundle = None
        if found:
            alone = tuple(one for one in found if one.period == REQUEST)
            counted = tuple(self._purse(one) for one in found if one.period != REQUEST)
            unpriced = next((one for one in found if one.refuse_unpriced and one.unit == MONEY), None)
            bundle = Bundle(counted, alone, model, unpriced)
        if len(self._bundles) >= _MOST_BUNDLES:
            self._bundles = {}
        self._bundles[key] = bundle
        return bundle

    def _purse(self, allowance: Allowance) -> Purse:
        purse = self.purses.get(allowance.key)
        if purse is None:
            purse = self.purses[allowance.key] = Purse(allowance)
            purse.touched = monotonic()
        elif purse.allowance is not allowance:
            purse.adopt(allowance)
            self.changed.add(purse)
        return purse

    async def _take_slowly(self, purses: tuple[Purse, ...], needs: tuple[int, ...], grant: Grant) -> None:
        now = monotonic()
        for purse in purses:
            purse.touched = now  # what is waited for is not forgotten
            if purse.ends <= now:
                purse.begin_period(self.now_ms(), now)
            elif now < purse.denied_until and purse.free < needs[purse.place]:
                raise self._refusal_of(purse, now)
        sharing = self._shared()
        if now <= self.worth_until and all(purse.free >= needs[purse.place] for purse in purses):
            self._apply(purses, needs, grant, now)
            return
        if sharing.is_away:
            self._take_alone(purses, needs, grant, now)
            return
        answer: asyncio.Future[None] = sharing.loop.create_future()
        self.waiters.append(Waiter(purses, needs, grant, answer, now + WAIT_SECONDS))
        sharing.wake()
        await answer

    def _apply(self, purses: tuple[Purse, ...], needs: tuple[int, ...], grant: Grant, now: float) -> None:
        lines = self._open(grant)
        for purse in purses:
            need = needs[purse.place]
            if purse.place == STARTING:
                purse.spend_now(need)
            else:
                purse.reserve(need)
                lines.append((purse, need, now))
            purse.touched = now
            self.changed.add(purse)

    def _take_alone(self, purses: tuple[Purse, ...], needs: tuple[int, ...], grant: Grant, now: float) -> None:
        """While the store is away. Raises `Exhausted`."""
        worth = now <= self.worth_until
        for purse in purses:
            allowance, need = purse.allowance, needs[purse.place]
            if not worth and allowance.hard:
                purse.free = 0
            if purse.free >= need:
                continue
            if allowance.kind == BUDGET and allowance.when_away == CLOSED_WHEN_AWAY:
                raise self._refusal(allowance, STORE_AWAY, SOON_SECONDS)
            used = purse.reserved if purse.place == RUNNING else purse.away_used
            if used + need - purse.free > purse.share(self.processes):
                raise self._refusal_of(purse, now)
        lines = self._open(grant)
        for purse in purses:
            need = needs[purse.place]
            if purse.kind == WINDOW and purse.period == NO_PERIOD:
                start = self.now_ms()
                purse.take_period(start, start + 60_000, start, now)
            purse.take_beyond(need)
            if purse.place != STARTING:
                lines.append((purse, need, now))
            purse.touched = now
            self.changed.add(purse)

    def _lacking(self, waiter: Waiter, now: float) -> list[Purse]:
        lacking = []
        for purse in waiter.purses:
            if purse.ends <= now:
                purse.begin_period(self.now_ms(), now)
            if purse.free < waiter.needs[purse.place]:
                lacking.append(purse)
        return lacking

    def _open(self, grant: Grant) -> list[Line]:
        if not grant.open:
            grant.open = True
            self.open_grants += 1
        if grant.lines is None:
            grant.lines = []
        return grant.lines

    def _settle_line(self, line: Line, tokens: int, nano: int) -> None:
        purse, need, at = line
        if purse.since > at:
            return
        unit = purse.allowance.unit
        actual = 0 if unit == CALLS else tokens if unit == TOKENS else nano
        purse.settle(need, actual)
        self.changed.add(purse)

    def _warn(self, bundle: Bundle) -> None:
        for purse in bundle.soft:
            if purse.over:
                self.warned[purse.allowance.kind, purse.allowance.source_id] += 1

    def _refusal_of(self, purse: Purse, now: float) -> Exhausted:
        allowance = purse.allowance
        if purse.place == RUNNING:
            return self._refusal(allowance, LIMIT_REACHED, SOON_SECONDS)
        seconds = purse.ends - now
        reason = BUDGET_EXHAUSTED if allowance.kind == BUDGET else LIMIT_REACHED
        return self._refusal(allowance, reason, max(0.001, seconds) if seconds < 10**8 else SOON_SECONDS)

    def _refusal(self, allowance: Allowance, reason: str, retry_after: float | None = None) -> Exhausted:
        self.refused[allowance.kind, allowance.unit, allowance.period] += 1
        return Exhausted(allowance, reason, retry_after)

    def _shared(self) -> Sharing:
        sharing = self._sharing
        if sharing is None or sharing.loop is not asyncio.get_running_loop():
            if sharing is not None:
                sharing.abandon()
            sharing = self._sharing = Sharing(self, self._redis_url or settings.REDIS_URL)
            sharing.start()
        return sharing


def nano(cost: Decimal | None) -> int:
    """Nano-USD, rounded up: what is counted is never less than what was paid."""
    return 0 if cost is None else int((cost * NANO).to_integral_value(ROUND_CEILING))


def _nano_per_million(model: ModelView) -> tuple[int, int] | None:
    prices = model.prices
    if prices.currency != _USD or prices.input_cost_per_million is None or prices.output_cost_per_million is None:
        return None
    return nano(prices.input_cost_per_million), nano(prices.output_cost_per_million)


# The process's one ----------------------------------------------------------------------------------------------------------

_current = Meter()


def current() -> Meter:
    return _current


def replace(meter: Meter | None) -> Meter:
    """Put another in force, for tests; None a fresh one. The one before stops. Returns the one now in force."""
    global _current
    before, _current = _current, meter if meter is not None else Meter()
    before.end()
    return _current


async def stop() -> None:
    await _current.stop()


def open_purses() -> Iterator[Purse]:
    """Those that hold something for requests under way; for tests and whoever wants to know."""
    return (purse for purse in _current.purses.values() if purse.reserved > 0)


def _begin_anew() -> None:
    """A forked child holds nothing of what its parent holds."""
    global _current
    _current = Meter()


os.register_at_fork(after_in_child=_begin_anew)
