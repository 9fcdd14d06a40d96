"""Counting by one process and by several: what is admitted, what is held, and what is left when all is over."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
import time

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from routing import ledger_word, metering, metering_sharing, metering_store
from routing.allowances import CALLS, DAY, MINUTE, MONEY, MONTH, REQUESTS, TOKENS, UNDER_WAY, Allowance, AllowanceIndex
from routing.metering import LIMIT_REACHED, STORE_AWAY, Exhausted, Grant, Meter, Needs
from routing.purses import span_ms
from tests import services
from tests.inference import registry
from tests.routing.stores import silent

NOTHING = Needs(0, 0, 0, 0)
MODEL = registry.model(registry.provider())
KEY = registry.key_view().identity


def allowance(unit=REQUESTS, period=DAY, amount=10, kind="limit", subject="key", **more):
    told = {"key": f"{kind}:{unit}:{period}:{subject}", "name": f"{kind} of the test", "source_id": 1, **more}
    return Allowance(unit=unit, period=period, amount=amount, kind=kind, subject=subject, **told)


def budget(amount, period=MONTH, **more):
    return allowance(MONEY, period, amount, "budget", **{"strict": True, "when_away": "closed", **more})


def snapshot_with(*some):
    callers = tuple(one for one in some if not one.targets)
    targets = tuple(one for one in some if one.targets)
    index = AllowanceIndex(keys={KEY.key_id: callers}, models={MODEL.route: targets})
    return registry.snapshot(MODEL, allowances=index)


class Process:
    """A meter, and the requests that it lets through."""

    def __init__(self, url, *allowances):
        self.meter = Meter(url)
        self.snapshot = snapshot_with(*allowances)

    def bundle(self):
        found = self.meter.bundle(self.snapshot, KEY, (), MODEL)
        assert found is not None
        return found

    async def take(self, needs=NOTHING, grant=None, again=False):
        grant = grant or Grant()
        await self.meter.take(self.bundle(), needs, grant, again=again)
        return grant

    async def let_through(self, needs=NOTHING):
        try:
            return await self.take(needs)
        except Exhausted:
            return None


@contextlib.asynccontextmanager
async def processes(url, count, *allowances):
    made = [Process(url, *allowances) for _ in range(count)]
    try:
        yield made
    finally:
        await asyncio.gather(*(one.meter.stop() for one in made))


def costing(nano):
    """Of a model at one and two dollars a million: a thousand nano-dollars a token of input."""
    return Needs(nano // 1000, 0, nano // 1000, 0)


@pytest.fixture(autouse=True)
def _a_ledger_without_entries():
    before = ledger_word._read
    ledger_word.read_with(lambda asked: [0] * len(asked))
    yield
    ledger_word.read_with(before)


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """A machine that is busy with other tests makes no store look away."""
    monkeypatch.setattr(metering_sharing, "PATIENCE_SECONDS", 20.0)
    monkeypatch.setattr(metering_sharing, "RETELLING_SECONDS", 1.0)
    monkeypatch.setattr(metering, "WAIT_SECONDS", 20.0)
    monkeypatch.setattr(metering_store, "SILENT_SECONDS", 20.0)


def figures(url, *allowances):
    return metering_store.read(url, allowances)


async def test_a_limit_admits_exactly_its_amount_in_one_process(redis_url):
    async with processes(redis_url, 1, allowance(amount=5)) as (one,):
        admitted = [await one.let_through() for _ in range(8)]
    assert sum(grant is not None for grant in admitted) == 5


@pytest.mark.parametrize("period", [MINUTE, DAY])
@pytest.mark.parametrize("shares", [(25, 25, 25, 25), (97, 1, 1, 1), (200, 0, 3, 0)])
async def test_a_limit_admits_exactly_its_amount_in_four_processes_at_once(redis_url, period, shares):
    async with processes(redis_url, 4, allowance(period=period, amount=41)) as several:
        asked = [one.let_through() for one, share in zip(several, shares, strict=True) for _ in range(share)]
        random.shuffle(asked)
        admitted = await asyncio.gather(*asked)
    assert sum(grant is not None for grant in admitted) == 41


async def test_what_one_process_holds_and_does_not_use_is_given_to_another(redis_url):
    async with processes(redis_url, 2, allowance(amount=1000)) as (one, other):
        assert await one.let_through()
        assert one.meter.purses["limit:requests:day:key"].free > 0
        admitted = [await other.let_through() for _ in range(1000)]
        assert sum(grant is not None for grant in admitted) == 999


async def test_most_requests_ask_the_store_nothing(redis_url):
    async with processes(redis_url, 1, allowance(amount=100_000), allowance(TOKENS, MINUTE, 10**9)) as (one,):
        for _ in range(200):
            one.meter.settle(await one.take(Needs(10, 10, 20, 20)), 15)
        assert one.meter.words_said < 20


async def test_a_budget_that_is_strict_is_never_overspent(redis_url):
    amount = 10 * 50_000
    async with processes(redis_url, 3, budget(amount)) as several:
        grants = await asyncio.gather(*(one.let_through(costing(50_000)) for one in several for _ in range(20)))
        held = [(one, grant) for (one, grant) in zip([p for p in several for _ in range(20)], grants, strict=True)]
        assert sum(grant is not None for grant in grants) == 10
        for one, grant in held:
            if grant is not None:
                one.meter.settle(grant, 50, 50_000)
        assert await several[0].let_through(costing(50_000)) is None
    used, reserved, _ = figures(redis_url, budget(amount))["budget:money:month:key"]
    assert (used, reserved) == (amount, 0)


async def test_what_was_reserved_and_not_used_can_be_used_by_others(redis_url):
    async with processes(redis_url, 2, budget(100_000)) as (one, other):
        grant = await one.take(costing(100_000))
        assert await other.let_through(costing(50_000)) is None
        one.meter.settle(grant, 10, 10_000)
        for _ in range(50):
            if (second := await other.let_through(costing(90_000))) is not None:
                break
            await asyncio.sleep(0.02)
        assert second is not None
        other.meter.settle(second)


async def test_what_a_forgotten_purse_spent_stays_counted(redis_url, monkeypatch):
    limit = allowance(amount=5)
    async with processes(redis_url, 1, limit) as (one,):
        assert await one.let_through()
        with monkeypatch.context() as soon:
            soon.setattr(metering, "FORGOTTEN_SECONDS", 0.0)
            one.meter._sharing._tidied_at = 0.0
            one.meter._sharing.wake()
            await until(lambda: not one.meter.purses)
        admitted = [await one.let_through() for _ in range(6)]
        assert sum(grant is not None for grant in admitted) == 4


async def test_requests_under_way_are_limited_at_once_and_not_over_time(redis_url):
    async with processes(redis_url, 2, allowance(CALLS, UNDER_WAY, 3)) as (one, other):
        for _ in range(4):
            grants = await asyncio.gather(*(p.let_through() for p in (one, other) for _ in range(4)))
            running = [grant for grant in grants if grant is not None]
            assert len(running) == 3
            for place, grant in enumerate(grants):
                if grant is not None:
                    (one if place < 4 else other).meter.settle(grant)


async def test_a_settlement_happens_once(redis_url):
    async with processes(redis_url, 1, budget(10**9)) as (one,):
        grant = await one.take(costing(5_000))
        one.meter.settle(grant, 5, 5_000)
        one.meter.settle(grant, 5, 5_000)
        assert one.meter.purses["budget:money:month:key"].spent == 5_000
        assert one.meter.open_grants == 0


async def test_what_a_request_takes_once_is_not_taken_again_for_another_try(redis_url):
    limits = allowance(amount=3), allowance(CALLS, UNDER_WAY, 3), allowance(TOKENS, DAY, 1000, subject="model")
    async with processes(redis_url, 1, *limits) as (one,):
        grant = await one.take(Needs(100, 0, 100, 0))
        one.meter.end_try(grant)
        await one.take(Needs(100, 0, 100, 0), grant, again=True)
        purses = one.meter.purses
        assert purses["limit:requests:day:key"].spent == 1
        assert purses["limit:calls:under_way:key"].reserved == 1
        assert purses["limit:tokens:day:model"].reserved == 100
        one.meter.settle(grant, 7)
        assert purses["limit:calls:under_way:key"].reserved == 0
        assert purses["limit:tokens:day:model"].spent == 7


async def test_a_try_that_failed_and_was_paid_counts(redis_url):
    async with processes(redis_url, 1, budget(10**9)) as (one,):
        grant = await one.take(costing(5_000))
        one.meter.end_try(grant, 3, 3_000)
        await one.take(costing(5_000), grant, again=True)
        one.meter.settle(grant, 5, 4_000)
        assert one.meter.purses["budget:money:month:key"].spent == 7_000


async def test_a_request_that_is_cancelled_while_it_waits_holds_nothing_once_settled(redis_url):
    async with processes(redis_url, 1, budget(10**9)) as (one,):
        grant = Grant()
        task = asyncio.create_task(one.meter.take(one.bundle(), costing(5_000), grant))
        await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        one.meter.settle(grant)
        assert one.meter.purses["budget:money:month:key"].reserved == 0


async def test_a_soft_budget_lets_everything_through_and_says_so(redis_url):
    async with processes(redis_url, 1, budget(1_000, hard=False)) as (one,):
        one.meter.settle(await one.take(costing(5_000)), 5, 5_000)
        await until(lambda: one.meter.purses["budget:money:month:key"].over)
        grant = await one.take(costing(5_000))
        assert grant.notices == ["budget of the test is used up"]
        one.meter.settle(grant)


async def test_a_request_that_is_too_dear_by_itself_is_told_where_the_budget_is_soft(redis_url):
    async with processes(redis_url, 1, budget(1_000, "request", hard=False)) as (one,):
        for nano, told in ((1_000, []), (2_000, ["this request goes beyond budget of the test"])):
            grant = await one.take(costing(nano))
            assert grant.notices == told
            one.meter.settle(grant)


async def test_a_request_that_is_too_dear_by_itself_is_refused(redis_url):
    async with processes(redis_url, 1, budget(1_000, "request")) as (one,):
        assert await one.let_through(costing(1_000))
        with pytest.raises(Exhausted) as refused:
            await one.take(costing(2_000))
        assert refused.value.allowance.exceeded_code == "REQUEST_BUDGET_EXCEEDED"


async def test_a_raised_amount_counts_at_once(redis_url):
    async with processes(redis_url, 1, allowance(amount=1)) as (one,):
        assert await one.let_through()
        assert await one.let_through() is None
        one.snapshot = snapshot_with(allowance(amount=2))
        assert await one.let_through()
        assert await one.let_through() is None


async def test_a_lowered_amount_counts_at_once(redis_url):
    async with processes(redis_url, 1, allowance(amount=1000)) as (one,):
        assert await one.let_through()
        one.snapshot = snapshot_with(allowance(amount=1))
        assert await one.let_through() is None


async def test_the_refusal_says_when_the_minute_is_over(redis_url):
    async with processes(redis_url, 1, allowance(period=MINUTE, amount=1)) as (one,):
        began = time.monotonic()
        assert await one.let_through()
        with pytest.raises(Exhausted) as refused:
            await one.take()
        took = time.monotonic() - began
    assert refused.value.reason == LIMIT_REACHED
    assert 59 - took < refused.value.retry_after <= 60


async def until(condition):
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


# What becomes of the store --------------------------------------------------------------------------------------------------


async def test_an_emptied_store_is_told_again_by_the_processes(redis_url):
    limit = allowance(amount=10)
    async with processes(redis_url, 2, limit) as (one, other):
        for process in (one, other):
            for _ in range(3):
                assert await process.let_through()
        with redis.Redis.from_url(redis_url) as store:
            store.flushall()
        for process in (one, other):  # as their next beat would
            process.meter._shared()._asked_at = 0.0
            process.meter._shared().wake()
        await until(lambda: figures(redis_url, limit).get(limit.key, (0,))[0] == 6)
        admitted = [await one.let_through() for _ in range(6)]
        assert sum(grant is not None for grant in admitted) == 4


async def test_what_others_reserved_before_the_store_was_emptied_still_counts(redis_url):
    ledger_word.read_with(lambda asked: [20_000] * len(asked))
    async with processes(redis_url, 2, budget(100_000)) as (one, other):
        held = await one.take(costing(60_000))
        other.meter.settle(await other.take(costing(1_000)))
        with redis.Redis.from_url(redis_url) as store:
            store.flushall()
        assert await other.let_through(costing(30_000)) is None
        one.meter.settle(held, 60, 40_000)
        await until(lambda: figures(redis_url, budget(0))["budget:money:month:key"][:2] == (40_000, 0))


async def test_an_emptied_store_is_seeded_from_the_ledger_before_a_budget_counts_on(redis_url):
    ledger_word.read_with(lambda asked: [90_000] * len(asked))
    async with processes(redis_url, 1, budget(100_000)) as (one,):
        assert await one.let_through(costing(20_000)) is None
        assert await one.let_through(costing(10_000))


async def test_the_ledger_is_asked_of_a_budget_that_is_used_first_while_another_is_asked_of(redis_url, monkeypatch):
    monkeypatch.setattr(metering_sharing, "LEDGER_SECONDS", 60.0)
    begun, answered, asked_of = threading.Event(), threading.Event(), []

    def read(asked):
        asked_of.append([allowance.key for allowance, *_ in asked])
        begun.set()
        answered.wait(60)
        return [0] * len(asked)

    ledger_word.read_with(read)
    first, second = budget(100_000), budget(100_000, period=DAY)
    async with processes(redis_url, 1, first) as (one,):
        asking = [asyncio.create_task(one.take(costing(1_000)))]
        await until(begun.is_set)
        one.snapshot = snapshot_with(second)
        asking.append(asyncio.create_task(one.take(costing(1_000))))
        await until(lambda: second.key in one.meter.purses)
        await until(lambda: one.meter.purses[second.key].verdict == metering_store.LEDGER_NEEDED)
        answered.set()
        assert all(grant.open for grant in await asyncio.gather(*asking))
    assert asked_of == [[first.key], [second.key]]


async def test_a_budget_whose_spending_nobody_knows_does_as_it_was_told(redis_url):
    def away(asked):
        raise OSError("the database is away")

    ledger_word.read_with(away)
    async with processes(
        redis_url,
        1,
        budget(10**6),
    ) as (closed,):
        with pytest.raises(Exhausted) as refused:
            await closed.take(costing(10_000))
        assert refused.value.reason == STORE_AWAY
    async with processes(redis_url, 1, budget(10**6, when_away="open", away_amount=20_000)) as (opened,):
        admitted = [await opened.let_through(costing(10_000)) for _ in range(4)]
        assert sum(grant is not None for grant in admitted) == 2
        opened.meter._sharing._ledger_again_at = 0.0  # as a second later
        assert await opened.let_through(costing(10_000)) is None


async def test_the_ledger_s_word_raises_and_never_lowers(redis_url):
    one = budget(100_000)
    async with processes(redis_url, 1, one) as (process,):
        process.meter.settle(await process.take(costing(30_000)), 30, 30_000)
    begin, end = span_ms(one, round(time.time() * 1000))
    for told, used in ((10_000, 30_000), (80_000, 80_000), (20_000, 80_000)):
        metering_store.raise_to(redis_url, [(one, begin, end, told)])
        assert figures(redis_url, one)[one.key][0] == used


async def test_without_a_store_limits_stay_open_up_to_a_share_and_closed_budgets_refuse():
    nowhere = "redis://127.0.0.1:1/0"
    async with processes(nowhere, 1, allowance(amount=4)) as (one,):
        admitted = [await one.let_through() for _ in range(6)]
        assert sum(grant is not None for grant in admitted) == 4
    async with processes(nowhere, 1, budget(10**9)) as (one,):
        with pytest.raises(Exhausted) as refused:
            await one.take(costing(1_000))
        assert refused.value.reason == STORE_AWAY
    async with processes(nowhere, 1, budget(10**6, when_away="open")) as (one,):
        admitted = [await one.let_through(costing(50_000)) for _ in range(4)]
        assert sum(grant is not None for grant in admitted) == 2


async def test_what_was_admitted_without_the_store_is_counted_when_it_is_back(redis_url):
    limit = allowance(amount=10)
    async with processes(redis_url, 1, limit) as (one,):
        assert await one.let_through()
        one.meter._shared().is_away = True
        one.meter.recall(limit.key)
        assert await one.let_through()
        assert await one.let_through()
        one.meter._shared()._asked_at = 0.0
        one.meter._shared().wake()
        await until(lambda: figures(redis_url, limit)[limit.key][0] == 3)


async def test_what_a_process_held_that_was_stopped_for_long_is_not_used_when_it_goes_on(redis_url):
    limit = allowance(amount=100)
    async with processes(redis_url, 2, limit) as (stopped, other):
        assert await stopped.let_through()
        assert stopped.meter.purses[limit.key].free > 0
        await until(lambda: figures(redis_url, limit)[limit.key][0] == 1)
        for task in stopped.meter._sharing._tasks:
            task.cancel()
        with redis.Redis.from_url(redis_url) as store:
            store.hdel(metering_store.PROCESSES, stopped.meter.name)
        assert sum([await other.let_through() is not None for _ in range(120)]) == 99
        stopped.meter.worth_until = time.monotonic()
        stopped.meter._sharing.start()
        assert await stopped.let_through() is None
        assert figures(redis_url, limit)[limit.key][0] == 100


async def test_what_a_killed_process_held_is_free_after_a_while(redis_url):
    calls = allowance(CALLS, UNDER_WAY, 2)
    async with processes(redis_url, 2, calls) as (dead, alive):
        assert await dead.let_through()
        assert await dead.let_through()
        await until(lambda: figures(redis_url, calls)[calls.key][1] == 2)
        for task in dead.meter._sharing._tasks:
            task.cancel()
        assert await alive.let_through() is None
        with redis.Redis.from_url(redis_url) as store:  # it fell silent half a minute ago
            beat, number = store.hget(metering_store.PROCESSES, dead.meter.name).split()
            store.hset(metering_store.PROCESSES, dead.meter.name, f"{int(beat) - 31_000} {int(number)}")
        assert await alive.let_through()


async def test_a_word_that_comes_late_changes_nothing(redis_url):
    limit = allowance(amount=10)
    async with processes(redis_url, 1, limit) as (one,):
        assert await one.let_through()
        purse = one.meter.purses[limit.key]
        old = metering_store.op(purse, one.meter.now_ms())
        purse.spent = 0
        with redis.Redis.from_url(redis_url) as store:
            told = store.register_script(metering_store.script())(
                keys=metering_store.keys([limit.key]), args=metering_store.args(one.meter.name, 1, [old])
            )
        assert metering_store.heard(told).is_late


# Whatever happens, in whatever order ----------------------------------------------------------------------------------------

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["take", "settle", "settle_less", "fail", "retry"]),
        st.integers(0, 2),
        st.integers(1, 60),
    ),
    max_size=40,
)


@pytest.mark.parametrize("unit", ["requests", "money", "calls"])
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_whatever_happens_no_more_is_admitted_and_nothing_is_left_open(redis_url, unit, steps):
    asyncio.run(_whatever_happens(redis_url, unit, steps))


async def _whatever_happens(redis_url, unit, steps):
    with redis.Redis.from_url(redis_url) as store:
        store.flushall()
    kinds = {
        "requests": allowance(amount=12),
        "money": budget(200_000),
        "calls": allowance(CALLS, UNDER_WAY, 4),
    }
    one = kinds[unit]
    began = spent = 0
    running: list[tuple[Process, Grant, int]] = []
    async with processes(redis_url, 3, one) as several:
        for what, who, size in steps:
            process = several[who]
            if what == "take":
                grant = await process.let_through(costing(size * 1000))
                if grant is not None:
                    running.append((process, grant, size * 1000))
                    began += 1
            elif running:
                owner, grant, held = running.pop(size % len(running))
                used = {"settle": held, "settle_less": held // 3, "fail": 0, "retry": held // 2}[what]
                if what == "retry":
                    owner.meter.end_try(grant, 1, 0)
                    try:
                        await owner.take(costing(held), grant, again=True)
                    except Exhausted:
                        used = 0
                owner.meter.settle(grant, 1, used)
                spent += used
            if unit == "money":
                assert spent + sum(held for *_, held in running) <= one.amount
            elif unit == "requests":
                assert began <= one.amount
            else:
                assert len(running) <= one.amount
        for owner, grant, _ in running:
            owner.meter.settle(grant)
        assert all(process.meter.open_grants == 0 for process in several)
        assert all(purse.reserved == 0 for process in several for purse in process.meter.purses.values())
    used, reserved, _ = figures(redis_url, one).get(one.key, (0, 0, None))
    assert reserved == 0
    assert used == {"requests": began, "money": spent, "calls": 0}[unit]


# The store goes, comes back, and takes its time ------------------------------------------------------------------------------


@pytest.mark.parametrize("is_heard", [True, False])
async def test_what_was_spent_and_forgotten_stays_counted_though_the_store_went_away(redis_url, monkeypatch, is_heard):
    limit = allowance(amount=5)
    async with processes(redis_url, 1, limit) as (one,):
        assert all([await one.let_through() for _ in range(3)])
        sharing = one.meter._sharing
        for task in sharing._tasks:
            task.cancel()
        await asyncio.wait(sharing._tasks)
        one.meter.purses[limit.key].give_back()
        await sharing._say_all(sharing._words())
        ask = sharing._ask_once

        async def ask_in_vain(words):
            if is_heard:
                await ask(words)
            raise redis.ConnectionError

        with monkeypatch.context() as patched, pytest.raises(redis.ConnectionError):
            patched.setattr(metering, "FORGOTTEN_SECONDS", -1.0)
            patched.setattr(sharing, "_ask_once", ask_in_vain)
            sharing._tidied_at = float("-inf")
            await sharing._tidy()
        assert limit.key not in one.meter.purses
        sharing.start()
        admitted = [await one.let_through() for _ in range(5)]
        assert sum(grant is not None for grant in admitted) == 2
        assert figures(redis_url, limit)[limit.key][0] <= 5


async def test_what_somebody_waits_for_is_not_forgotten_though_nobody_asked_for_long(redis_url):
    limit = allowance(amount=5)
    async with processes(redis_url, 1, limit) as (one,):
        assert await one.let_through()
        await until(lambda: figures(redis_url, limit)[limit.key][0] == 1)
        purse = one.meter.purses[limit.key]
        purse.give_back()
        purse.touched -= 2 * metering.FORGOTTEN_SECONDS
        one.meter._sharing._tidied_at = float("-inf")
        admitted = [await one.let_through() for _ in range(5)]
    assert sum(grant is not None for grant in admitted) == 4
    assert figures(redis_url, limit)[limit.key][0] == 5


async def test_a_store_that_stops_and_comes_back_empty_is_counted_in_again(tmp_path, monkeypatch):
    monkeypatch.setattr(metering_sharing, "BEAT_SECONDS", 0.05)
    limit = allowance(amount=20)
    store = services.private_redis(tmp_path)
    try:
        async with processes(store.url, 2, limit) as (one, other):
            for process in (one, other):
                for _ in range(3):
                    assert await process.let_through()
            await until(lambda: one.meter.processes == other.meter.processes == 2)
            store.stop()
            await until(lambda: one.meter.is_away and other.meter.is_away)
            admitted = [await process.let_through() for process in (one, other) for _ in range(20)]
            away = sum(grant is not None for grant in admitted)
            assert 0 < away <= 20 + 2  # an even share each, and what they held
            store = services.private_redis(tmp_path)
            await until(lambda: not one.meter.is_away and not other.meter.is_away)
            await until(lambda: figures(store.url, limit).get(limit.key, (0,))[0] == 6 + away)
            more = [await process.let_through() for process in (one, other) for _ in range(20)]
            assert sum(grant is not None for grant in more) == max(0, 20 - 6 - away)
    finally:
        store.stop()


async def test_a_store_that_takes_its_time_keeps_nobody_waiting_for_long(redis_url, monkeypatch):
    monkeypatch.setattr(metering_sharing, "PATIENCE_SECONDS", 0.1)
    async with processes(redis_url, 1, allowance(amount=10)) as (one,):
        assert await one.let_through()
        one.meter.recall("limit:requests:day:key")
        with silent(redis_url):
            async with asyncio.timeout(60):
                assert await one.let_through()
            assert one.meter.is_away
