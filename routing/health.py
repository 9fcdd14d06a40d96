"""What is known of how the routes fare: breakers, exhausted keys and figures, seen by all processes of the installation.

The request path reads `conditions()` and tells what happened; it never waits for that, except for `permit()` of a half-open
breaker. Each process keeps a mirror and applies to it at once what it sees itself; `routing.health_sharing` tells the others
through Redis and hears from them. Without Redis the mirror goes by what its own process saw, under the same rules.

Moments are milliseconds of Redis's clock, which runs on here by the monotonic one: a host whose clock jumps neither
shortens nor lengthens anything. Only what `Conditions` shows is in the host's epoch seconds.
"""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from time import monotonic, time

from django.conf import settings

from providers.breaker_settings import DEFAULTS, BreakerSettings
from routing import breakers, calibration, key_exhaustion, last_words, performance, shared_health, snapshot
from routing.breakers import CLOSED, HALF_OPEN, OPEN, WELL, Breaker, Step
from routing.health_sharing import Sharing
from routing.key_exhaustion import WORKS, Exhaustion
from routing.leases import Leases
from routing.performance import UNKNOWN, Figures
from routing.shared_health import AWAY, BREAKERS, HASHES, KEYS, PERFORMANCE, Answer, Heard
from routing.tallies import Sums, Tally
from routing.types import Conditions, ModelView, ProviderView, RouteCondition

MOST_WAITING = 10_000
"""Steps that wait to be told; older ones are dropped. They are in the mirror, and count where it counts most."""
MOVED_SECONDS = 0.5
"""By how much the host's clock may run from the monotonic one before what is shown is worked out again."""


class NotShared(Exception):
    """Redis does not answer: what was asked for holds in this process only, or nowhere; the text says which."""


@dataclass(slots=True)
class Mirror:
    """All that is known, by route or key. Moments in milliseconds of the shared clock."""

    breakers: dict[str, Breaker] = field(default_factory=dict)
    figures: dict[str, Figures] = field(default_factory=dict)
    keys: dict[int, Exhaustion] = field(default_factory=dict)


class Health:
    """Of one process. All but `permit()` return at once and never raise; to be told on the loop that serves requests."""

    def __init__(self) -> None:
        self.mirror = Mirror()
        self.outbox: deque[Step] = deque(maxlen=MOST_WAITING)
        self._tallies: dict[str, Tally] = {}
        self._busy: list[Tally] = []
        self._unwell: set[str] = set()
        self._stale: set[str] = set()
        self._leases = Leases()
        self._routes_of: dict[str, set[str]] = defaultdict(set)
        self._providers: dict[str, ProviderView] = {}
        """As they were when one of their keys was refused."""
        self._back_at: dict[str, int] = {}
        self._registry: object = None
        self._ratios: Mapping[str, float] = {}
        self._sharing: Sharing | None = None
        self._ahead = time() - monotonic()
        self._clock_gap = self._ahead
        self._in_flight: dict[str, int] = defaultdict(int)
        self._conditions = Conditions(in_flight=self._in_flight)

    # What the request path reads

    def conditions(self) -> Conditions:
        """The same object until something changed; figures alone replace it once a second at most. Decisions may be kept by
        its identity."""
        return self._conditions

    def key_is_exhausted(self, key_id: int, now: float) -> bool:
        """`now` in epoch seconds; it is the monotonic clock that counts."""
        known = self.mirror.keys.get(key_id)
        return known is not None and known.rests(self.now())

    async def permit(self, model: ModelView) -> bool:
        """Whether a call may go through a half-open breaker; ask for a candidate that `needs_permit`, just before `began()`.

        What was granted is given back by `succeeded()`, `failed()` or `ended()` of the same task.
        """
        route, numbers = model.route, model.provider.breaker
        self._tally(model)
        known = breakers.settle(self.mirror.breakers.get(route, WELL), numbers, self.now())
        if known.state != HALF_OPEN:
            return known.state == CLOSED
        step = Step(route, "permit", numbers, lease=self._leases.new_token())
        granted = await self._sharing.permit(step) if self._sharing is not None else None
        if granted is None:
            granted = self.apply(step)
        if granted and step.lease in self.mirror.breakers[route].leases:
            self._leases.hold(step.lease, route, numbers)
        return granted

    # What it tells

    def began(self, route: str) -> None:
        """A call is on its way upstream; each has its `ended()`, in a `finally`."""
        self._in_flight[route] += 1
        if self._leases.held:
            self._leases.begin(route)

    def ended(self, route: str) -> None:
        self._in_flight[route] -= 1
        if self._leases.held:
            self._give_back(route)

    def not_called(self, route: str) -> None:
        """What `permit()` granted, if it did, is not needed: nobody was asked."""
        token = self._leases.take(route)
        if token:
            self._do(Step(route, "release", self._tallies[route].settings, lease=token))

    def succeeded(self, model: ModelView, seconds: float, key_id: int | None = None) -> None:
        """`seconds` to the whole reply, of a stream to its first byte; `key_id` of the key that was shown."""
        tally = self._tallies.get(model.route) or self._tally(model)
        if tally.watched:
            self._succeed_at_once(tally, model, seconds)
        else:
            if not tally.good:
                self._busy.append(tally)
            tally.good += 1
            tally.seconds += seconds
        if key_id is not None and key_id in self.mirror.keys:
            self._key_works(key_id)

    def failed(self, model: ModelView, code: str) -> None:
        """A retryable failure of the upstream, by its error's `code`; which ones speak against the route is said by
        `breakers.COUNTING`."""
        tally = self._tally(model)
        self._count_good(tally)
        lease = self._leases.take(tally.route)
        if code in breakers.COUNTING:
            self._do(Step(tally.route, "bad", tally.settings, lease=lease, code=code))
        elif lease:
            self._do(Step(tally.route, "release", tally.settings, lease=lease))
        tally.bad += 1
        self._show_when_alone(tally)

    def key_failed(self, model: ModelView, key_id: int, code: str, retry_after: float | None = None) -> None:
        """The upstream refused the key: `insufficient_quota`, `rate_limit_exceeded` or `upstream_auth_failed`.

        For how long it is set aside is decided by `key_exhaustion`; `retry_after` in seconds, as the upstream said.
        """
        known = self.mirror.keys.get(key_id, WORKS)
        wait = None if retry_after is None else int(max(0.0, min(retry_after, 1e9)) * 1000)
        provider = model.provider
        after = key_exhaustion.after(known, code, wait, provider.provider_id, provider.fingerprint, self.now())
        self._providers[provider.provider_id] = provider
        self._routes_of[provider.provider_id].add(model.route)
        if after != known:
            self.take_keys({key_id: after})
            self._tell_key(key_id, after)

    # From here on: for those who share and show ------------------------------------------------------------------------

    def now(self) -> int:
        """The shared clock, in milliseconds."""
        return int((monotonic() + self._ahead) * 1000)

    def set_clock(self, moment: int) -> None:
        """Redis said what time it is."""
        self._ahead = moment / 1000 - monotonic()

    def epoch_seconds(self, moment: int) -> float:
        """A moment of the shared clock by this host's."""
        return time() + (moment - self.now()) / 1000

    async def start(self) -> None:
        """Share with the other processes from now on. On the loop that serves requests; never fails for want of Redis.

        Once is enough: whoever calls again waits until the first has heard of what is known.
        """
        if self._sharing is None or self._sharing.loop.is_closed():
            self._sharing = Sharing(self, settings.REDIS_URL)
            self._watch_what_is_unwell()
            await self._sharing.start()
        elif not self._sharing.has_started.is_set():
            await self._sharing.has_started.wait()

    async def stop(self) -> None:
        """Tell the others what is not told yet, and go on alone."""
        sharing = self._sharing
        if sharing is not None:
            for lease in self._leases:
                self._leases.drop(lease)
                self._do(Step(lease.route, "release", lease.settings, lease=lease.token))
            await sharing.stop()
            self._sharing = None
            self._watch_what_is_unwell()

    def end(self) -> None:
        """As `stop`, from any thread."""
        if self._sharing is not None:
            last_words.end_on(self._sharing.loop, self.stop)

    @property
    def is_shared(self) -> bool:
        """Redis answered lately."""
        return self._sharing is not None and not self._sharing.is_away

    def apply(self, step: Step) -> bool:
        """A step in this mirror alone."""
        breaker, granted = breakers.after(self.mirror.breakers.get(step.route, WELL), step, self.now())
        self._take(step.route, breaker)
        return granted

    def take_breaker(self, route: str, breaker: Breaker) -> None:
        """As Redis knows it; what it was not told yet is done on top."""
        now = self.now()
        for step in self.outbox:
            if step.route == route:
                breaker, _ = breakers.after(breaker, step, now)
        self._take(route, breaker)

    def take_figures(self, route: str, figures: Figures) -> None:
        self.mirror.figures[route] = figures
        self._stale.add(route)

    def take_keys(self, keys: Mapping[int, Exhaustion]) -> None:
        for key_id, exhaustion in keys.items():
            if exhaustion.until:
                self.mirror.keys[key_id] = exhaustion
            else:
                self.mirror.keys.pop(key_id, None)
        self._look_at_keys()

    def take_later(self, known: Mapping[str, Breaker], keys: Mapping[int, Exhaustion]) -> None:
        """From another thread than the loop's."""

        def take() -> None:
            for route, breaker in known.items():
                self.take_breaker(route, breaker)
            self.take_keys(keys)

        if self._sharing is None:
            take()
        else:
            self._sharing.loop.call_soon_threadsafe(take)

    def hear(self, name: str, heard: Heard) -> None:
        """Changes of one of the three hashes; a document that cannot be read is passed over."""
        self.set_clock(heard.moment)
        keys = {}
        for identifier, document in heard.documents:
            with contextlib.suppress(KeyError, TypeError, ValueError):
                if name == BREAKERS:
                    self.take_breaker(identifier, breakers.from_document(document))
                elif name == PERFORMANCE:
                    self.take_figures(identifier, performance.from_document(document))
                else:
                    keys[int(identifier)] = key_exhaustion.from_document(document)
        if keys:
            self.take_keys(keys)

    def count_calls(self) -> None:
        """Good calls since the last time become steps."""
        busy, self._busy = self._busy, []
        for tally in busy:
            self._count_good(tally)

    def count_figures(self) -> dict[str, Sums]:
        """Work what is fresh into the figures here; what the shared ones lack, by route. `told` follows when they have it."""
        self.count_calls()
        for tally in self._tallies.values():
            if tally.fresh or tally.bad:
                self._count_figures(tally)
        return {tally.route: tally.untold for tally in self._tallies.values() if tally.untold}

    def told(self, route: str, sums: Sums, figures: Figures) -> None:
        """The shared figures have these calls now, and are such."""
        tally = self._tallies[route]
        tally.untold -= sums
        self.take_figures(route, figures)

    def tick(self) -> None:
        """What time alone changes: breakers that become half-open, keys that are back, a registry or a clock that moved."""
        now = self.now()
        shown = self._conditions.routes
        turned = [
            route
            for route in self._unwell
            if route in shown and shown[route].breaker == OPEN and self.mirror.breakers[route].retry_at <= now
        ]
        held = snapshot.held()
        if self.mirror.keys and (held is not self._registry or any(back <= now for back in self._back_at.values())):
            self._look_at_keys()
        gap = time() - monotonic()
        if abs(gap - self._clock_gap) > MOVED_SECONDS:
            turned = list(shown)
        self._clock_gap = gap
        if turned:
            self._show(turned)
        if self._leases.held:
            for lease in self._leases.due():
                self._do(Step(lease.route, "renew", lease.settings, lease=lease.token))

    def show_figures(self) -> None:
        """Put the latest figures into the conditions; at most once a second."""
        ratios = calibration.ratios()
        if ratios is not self._ratios:
            self._stale.update(route for route, ratio in ratios.items() if self._ratios.get(route) != ratio)
            self._ratios = ratios
        if self._stale:
            self._show(self._stale)

    def show_all(self) -> None:
        self._ratios = calibration.ratios()
        self._look_at_keys()
        self._show({*self.mirror.breakers, *self.mirror.figures, *self._ratios})

    def worth_keeping(self) -> Iterator[tuple[str, dict[str, dict[str, object]]]]:
        """What a store that was emptied should be told again: documents by id, for each hash."""
        mirror, now = self.mirror, self.now()
        yield BREAKERS, {route: breakers.as_document(mirror.breakers[route]) for route in self._unwell}
        yield PERFORMANCE, {route: performance.as_document(figures) for route, figures in mirror.figures.items()}
        yield (
            KEYS,
            {
                str(key_id): key_exhaustion.as_document(known)
                for key_id, known in mirror.keys.items()
                if known.rests(now)
            },
        )

    # Inside

    def _tally(self, model: ModelView) -> Tally:
        route = model.route
        tally = self._tallies.get(route)
        if tally is None:
            watched = self._sharing is None or route in self._unwell
            tally = self._tallies[route] = Tally(route, model.provider.breaker, watched)
        tally.settings = model.provider.breaker
        return tally

    def _succeed_at_once(self, tally: Tally, model: ModelView, seconds: float) -> None:
        tally.settings = model.provider.breaker
        tally.good += 1
        tally.seconds += seconds
        self._count_good(tally, self._leases.take(tally.route))
        self._show_when_alone(tally)

    def _count_good(self, tally: Tally, lease: str = "") -> None:
        good, tally.good = tally.good, 0
        if good:
            tally.fresh += good
            self._do(Step(tally.route, "good", tally.settings, count=good, lease=lease))

    def _do(self, step: Step) -> None:
        """Here at once; elsewhere as soon as the others are told."""
        before = self.mirror.breakers.get(step.route, WELL)
        self.apply(step)
        if self._sharing is not None:
            self.outbox.append(step)
            if step.kind != "good" or not before.is_well:
                self._sharing.wake()

    def _count_figures(self, tally: Tally) -> None:
        sums = tally.take_fresh()
        known = self.mirror.figures.get(tally.route, UNKNOWN)
        self.take_figures(tally.route, performance.after(known, sums.batch(), self.now()))

    def _show_when_alone(self, tally: Tally) -> None:
        """Nobody else does while nobody shares."""
        if self._sharing is None:
            self._count_figures(tally)
            self._show([tally.route])

    def _take(self, route: str, breaker: Breaker) -> None:
        known = self.mirror.breakers.get(route, WELL)
        self.mirror.breakers[route] = breaker
        (self._unwell.discard if breaker.is_well else self._unwell.add)(route)
        tally = self._tallies.get(route)
        if tally is not None:
            tally.watched = self._sharing is None or not breaker.is_well
        if (breaker.state, breaker.retry_at) != (known.state, known.retry_at):
            self._show([route])
        elif breaker.failures != known.failures:
            self._stale.add(route)

    def _watch_what_is_unwell(self) -> None:
        for tally in self._tallies.values():
            tally.watched = self._sharing is None or tally.route in self._unwell

    # Leases

    def _give_back(self, route: str) -> None:
        """A call ended: its own lease without a verdict, or, told from elsewhere, one that no call can be using."""
        token = self._leases.take(route) or self._leases.take_unused(route, self._in_flight[route])
        if token:
            self._do(Step(route, "release", self._tallies[route].settings, lease=token))

    # Keys

    def _key_works(self, key_id: int) -> None:
        """Of a key that rests it is an old call that succeeded, which proves nothing."""
        if not self.mirror.keys[key_id].rests(self.now()):
            self.take_keys({key_id: WORKS})
            self._tell_key(key_id, WORKS)

    def _tell_key(self, key_id: int, exhaustion: Exhaustion) -> None:
        if self._sharing is not None:
            self._sharing.tell_key(key_id, exhaustion)

    def _look_at_keys(self) -> None:
        """Which providers have no key left, and when the first one is back. A provider that was changed since, perhaps in its
        keys, is tried again."""
        now = self.now()
        held = self._registry = snapshot.held()
        providers = self._providers | (dict(held.providers) if held is not None else {})
        for key_id, known in list(self.mirror.keys.items()):
            owner = providers.get(known.provider_id)
            if owner is not None and owner.fingerprint != known.fingerprint:
                del self.mirror.keys[key_id]
        before, self._back_at = self._back_at, {}
        for provider in providers.values():
            rests = [self.mirror.keys.get(key.key_id, WORKS) for key in provider.keys]
            if rests and all(known.rests(now) for known in rests):
                self._back_at[provider.provider_id] = min(known.until for known in rests)
        turned = {
            owner for owner in before.keys() | self._back_at.keys() if before.get(owner) != self._back_at.get(owner)
        }
        if turned:
            for model in held.models if held is not None else ():
                if model.provider.provider_id in turned:
                    self._routes_of[model.provider.provider_id].add(model.route)
            self._show(route for owner in turned for route in self._routes_of[owner])

    # What is shown

    def _show(self, routes: Iterable[str]) -> None:
        turned = set(routes)
        self._stale -= turned
        back_at = {route: back for owner, back in self._back_at.items() for route in self._routes_of[owner]}
        ahead = self.epoch_seconds(0)  # by one look at the clocks, so that moments lie as far apart as they do
        shown = {route: self._condition(route, back_at.get(route), ahead) for route in turned}
        self._conditions = Conditions({**self._conditions.routes, **shown}, self._in_flight)

    def _condition(self, route: str, back_at: int | None, ahead: float) -> RouteCondition:
        def shown(moment: int) -> float | None:
            return ahead + moment / 1000 if moment else None

        breaker = self.mirror.breakers.get(route, WELL)
        figures = self.mirror.figures.get(route, UNKNOWN)
        half_open = breaker.state == OPEN and breaker.retry_at <= self.now()
        return RouteCondition(
            breaker=HALF_OPEN if half_open else breaker.state,
            retry_at=shown(breaker.retry_at),
            failures=breaker.failures,
            last_failure_at=shown(breaker.failed_at),
            opened_at=shown(breaker.opened_at),
            keys_back_at=None if back_at is None else shown(back_at),
            calls=figures.calls,
            success_rate=figures.success_rate,
            latency_seconds=figures.latency_seconds,
            recent_failures=figures.recent_failures,
            tokens_per_byte=self._ratios.get(route),
        )


# The process's one ----------------------------------------------------------------------------------------------------------

_current = Health()


def current() -> Health:
    """The process's one: in memory only until `start()`."""
    return _current


def replace(health: Health | None) -> Health:
    """Put another in force, for tests; None a fresh one. The one before stops. Returns the one now in force."""
    global _current
    before, _current = _current, health if health is not None else Health()
    before.end()
    return _current


async def start() -> None:
    await _current.start()


async def stop() -> None:
    await _current.stop()


def look() -> Health:
    """What all processes know, read from Redis now: for commands, tasks and views, which keep no mirror. Not to be told
    anything. Without Redis it is what this process knows."""
    seen = Health()
    try:
        answers = shared_health.ask(settings.REDIS_URL, *(shared_health.changes(name) for name in HASHES))
    except AWAY:
        return _current
    for name, heard in zip(HASHES, answers, strict=True):
        seen.hear(name, heard)
    calibration.read()
    seen.show_all()
    return seen


def read() -> Conditions:
    """As `look()`, and of it what decisions are made by."""
    return look().conditions()


def reset(*routes: str) -> None:
    """Close the breakers of routes, in all processes. Raises `NotShared` when only this one could be told."""
    _current.take_later(dict.fromkeys(routes, WELL), {})
    if routes:
        _tell(shared_health.steps([Step(route, "reset", DEFAULTS) for route in routes]))


def open_breakers(settings_of: Mapping[str, BreakerSettings]) -> None:
    """Open the breakers of routes, in all processes, each for its own pause. Raises `NotShared` when nobody could be told."""
    steps = [Step(route, "open", numbers) for route, numbers in settings_of.items()]
    if not steps:
        return
    told = _tell(shared_health.steps(steps), untold="nobody was told")
    _current.take_later({step.route: breaker for step, (_, breaker) in zip(steps, told.outcomes, strict=True)}, {})


def reset_keys(*key_ids: int) -> None:
    """Let keys be used again. Raises `NotShared` when only this process could be told."""
    _current.take_later({}, dict.fromkeys(key_ids, WORKS))
    if key_ids:
        works = key_exhaustion.as_document(WORKS)
        _tell(shared_health.put(KEYS, {str(key_id): works for key_id in key_ids}, tell=True))


def _tell(call: shared_health.Call[Answer], *, untold: str = "only this process was told") -> Answer:
    try:
        answer: Answer = shared_health.ask(settings.REDIS_URL, call)[0]
        return answer
    except AWAY as error:
        raise NotShared(f"Redis does not answer ({type(error).__name__}): {untold}") from error


def _begin_anew() -> None:
    """A forked child has neither the loop nor the calls of its parent."""
    global _current
    _current = Health()


os.register_at_fork(after_in_child=_begin_anew)
