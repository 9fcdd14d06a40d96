import asyncio
import contextlib
import os
import subprocess
import sys
from dataclasses import replace
from functools import partial

import pytest
import redis
from django.test.utils import override_settings

from providers.breaker_settings import BreakerSettings
from routing import health, health_sharing, shared_health, snapshot
from routing.breakers import LEASE_MS, WELL, Step
from routing.health import Health
from routing.types import UpstreamKey
from tests import services
from tests.routing.stores import silent
from tests.routing.views import A_KEY, model, provider
from tests.routing.views import snapshot as registry

NUMBERS = BreakerSettings(failure_threshold=3, open_seconds=60, success_threshold=2)
QUICK = replace(NUMBERS, open_seconds=0.2)


@pytest.fixture(autouse=True)
def _fresh():
    health.replace(None)
    snapshot.replace(None)
    yield
    health.replace(None)
    snapshot.replace(None)


def routed(numbers=NUMBERS, keys=(A_KEY,), model_id="m"):
    return model(model_id, of=replace(provider("p", keys=keys), breaker=numbers))


@contextlib.asynccontextmanager
async def sharing(*known):
    """Processes that share: each a Health, started here and stopped at the end."""
    try:
        for one in known:
            await one.start()
        yield
    finally:
        for one in known:
            await one.stop()


async def until(condition):
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def fail(known, target, times=3):
    for _ in range(times):
        known.failed(target, "upstream_unreachable")


def state(known, route="p/m"):
    return known.conditions().of(route).breaker


# --- Alone ------------------------------------------------------------------------------------------------------------------


def test_failures_in_a_row_open_at_once():
    known = Health()
    fail(known, routed())
    seen = known.conditions().of("p/m")
    assert (seen.breaker, seen.failures) == ("open", 3)
    assert seen.retry_at - seen.opened_at == pytest.approx(60)
    assert seen.last_failure_at == pytest.approx(seen.opened_at)


def test_what_does_not_speak_against_the_route_opens_nothing():
    known = Health()
    for _ in range(10):
        known.failed(routed(), "upstream_auth_failed")
    assert state(known) == "closed"
    assert known.conditions().of("p/m").recent_failures == 10


async def test_the_conditions_stay_the_same_object_while_nothing_happens():
    known, target = Health(), routed()
    async with sharing(known):
        before = known.conditions()
        for _ in range(100):
            known.began("p/m")
            known.succeeded(target, 0.1)
            known.ended("p/m")
        assert known.conditions() is before
        fail(known, target)
        assert known.conditions() is not before


def test_calls_in_flight_are_counted_in_place():
    known = Health()
    conditions = known.conditions()
    known.began("p/m")
    assert conditions.in_flight["p/m"] == 1
    known.ended("p/m")
    assert conditions.in_flight["p/m"] == 0


async def test_half_open_it_closes_after_good_calls():
    known, target = Health(), routed(replace(NUMBERS, open_seconds=0))
    fail(known, target)
    for _ in range(2):
        assert await known.permit(target)
        known.began("p/m")
        known.succeeded(target, 0.1)
        known.ended("p/m")
    assert state(known) == "closed"
    assert known.conditions().of("p/m").latency_seconds == pytest.approx(0.1)


async def test_a_caller_who_leaves_gives_the_place_back():
    known, target = Health(), routed(replace(NUMBERS, open_seconds=0))
    fail(known, target)
    assert await known.permit(target)
    known.began("p/m")
    assert not await asyncio.create_task(known.permit(target))
    known.ended("p/m")
    assert await known.permit(target)


async def test_an_old_call_does_not_give_back_the_place_of_a_new_one():
    known, target = Health(), routed(replace(NUMBERS, open_seconds=0))
    known.began("p/m")
    fail(known, target)

    async def new_call():
        assert await known.permit(target)
        known.began("p/m")

    await asyncio.create_task(new_call())
    known.ended("p/m")
    assert not await known.permit(target)


# --- Keys -------------------------------------------------------------------------------------------------------------------

TWO_KEYS = (A_KEY, UpstreamKey(2, A_KEY.secret))


def test_a_key_rests_and_the_provider_only_when_all_do():
    known, target = Health(), routed(keys=TWO_KEYS)
    snapshot.replace(registry(target, routed(keys=TWO_KEYS, model_id="other")))
    known.key_failed(target, 1, "insufficient_quota")
    assert known.key_is_exhausted(1, 0)
    assert not known.key_is_exhausted(2, 0)
    assert known.conditions().of("p/m").keys_back_at is None
    began = health.time()
    known.key_failed(target, 2, "rate_limit_exceeded", retry_after=20)
    back_at = known.conditions().of("p/m").keys_back_at
    assert began - 1 < back_at - 20 < health.time() + 1
    assert known.conditions().of("p/other").keys_back_at == back_at


def test_another_provider_is_not_concerned():
    known = Health()
    other = model("m", of=provider("q", keys=(UpstreamKey(7, A_KEY.secret),)))
    known.key_failed(routed(), 1, "upstream_auth_failed")
    known.failed(other, "upstream_error")
    assert known.conditions().of("q/m").keys_back_at is None


def test_a_provider_that_was_changed_is_tried_again():
    known, target = Health(), routed()
    known.key_failed(target, 1, "upstream_auth_failed")
    assert known.conditions().of("p/m").keys_back_at is not None
    mended = replace(target, provider=replace(target.provider, fingerprint="new"))
    snapshot.replace(replace(registry(mended), providers={"p": mended.provider}))
    known.tick()
    assert known.conditions().of("p/m").keys_back_at is None
    assert not known.key_is_exhausted(1, 0)


def test_an_old_success_frees_no_resting_key():
    known, target = Health(), routed()
    known.key_failed(target, 1, "insufficient_quota")
    known.succeeded(target, 0.1, 1)
    assert known.key_is_exhausted(1, 0)


# --- Together ---------------------------------------------------------------------------------------------------------------


async def test_others_see_an_opening_and_a_reset():
    one, other, target = Health(), Health(), routed()
    async with sharing(one, other):
        fail(one, target)
        await until(lambda: state(other) == "open")
        assert other.conditions().of("p/m").failures == 3
        assert state(await asyncio.to_thread(health.look)) == "open"
        await asyncio.to_thread(health.reset, "p/m")
        await until(lambda: state(other) == state(one) == "closed")


async def test_failures_of_several_processes_add_up():
    one, other, target = Health(), Health(), routed()
    async with sharing(one, other):
        fail(one, target, 2)
        await until(lambda: other.mirror.breakers.get("p/m", WELL).failures == 2)
        fail(other, target, 1)
        await until(lambda: state(one) == "open")


async def test_an_opening_outlives_every_process():
    one, target = Health(), routed()
    async with sharing(one):
        fail(one, target)
    reborn = Health()
    async with sharing(reborn):
        assert state(reborn) == "open"


@pytest.fixture
def patient(monkeypatch):
    """However busy the machine of the tests is, Redis's word is never late."""
    monkeypatch.setattr(health_sharing, "PERMIT_SECONDS", 60.0)


async def test_a_hundred_permits_from_two_processes_are_no_more_than_the_quota(patient):
    one, other, target = Health(), Health(), routed(replace(QUICK, probe_quota=3))
    async with sharing(one, other):
        fail(one, target)
        await until(lambda: state(one) == state(other) == "half_open")
        asked = [asyncio.create_task(known.permit(target)) for _ in range(50) for known in (one, other)]
        assert sum(await asyncio.gather(*asked)) == 3


_ASK = """
import asyncio, sys
import django
django.setup()
from tests.routing.test_health import QUICK, routed, state, until
from dataclasses import replace
from routing import health_sharing, shared_health
from routing.health import Health

health_sharing.PERMIT_SECONDS = shared_health.PATIENCE_SECONDS = 60.0

async def ask():
    known, target = Health(), routed(replace(QUICK, probe_quota=3))
    await known.start()
    await until(lambda: state(known) == "half_open")
    print("ready", flush=True)
    sys.stdin.readline()
    print(sum(await asyncio.gather(*(asyncio.create_task(known.permit(target)) for _ in range(50)))), flush=True)
    sys.stdin.readline()
    await known.stop()

asyncio.run(ask())
"""


@pytest.mark.slow
def test_a_hundred_permits_from_two_real_processes_are_no_more_than_the_quota(redis_url):
    numbers = replace(QUICK, probe_quota=3)
    failed = Step("p/m", "bad", numbers, count=3, code="upstream_error")
    shared_health.ask(redis_url, shared_health.steps([failed]))
    environment = os.environ | {"REDIS_URL": redis_url}
    start = partial(subprocess.Popen, [sys.executable, "-c", _ASK], env=environment, text=True)
    with (
        start(stdin=subprocess.PIPE, stdout=subprocess.PIPE) as one,
        start(stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other,
    ):
        assert one.stdout.readline() == other.stdout.readline() == "ready\n"
        for process in (one, other):
            process.stdin.write("\n")
            process.stdin.flush()
        assert int(one.stdout.readline()) + int(other.stdout.readline()) == 3


async def test_a_place_that_is_granted_as_its_caller_leaves_is_given_back(patient, monkeypatch):
    known, target = Health(), routed(QUICK)
    async with sharing(known):
        fail(known, target)
        await until(lambda: state(known) == "half_open")
        ask, asking = known._sharing._permits.ask, asyncio.create_task(known.permit(target))

        async def answered_in_the_moment_it_leaves(call):
            told = await ask(call)
            asyncio.get_running_loop().call_soon(asking.cancel)
            return told

        monkeypatch.setattr(known._sharing._permits, "ask", answered_in_the_moment_it_leaves)
        with pytest.raises(asyncio.CancelledError):
            await asking
        await until(lambda: not known.outbox and not health.look().mirror.breakers["p/m"].leases)


async def test_a_place_that_is_given_back_is_another_process_s_to_take(patient):
    one, other, target = Health(), Health(), routed(QUICK)
    async with sharing(one, other):
        fail(one, target)
        await until(lambda: state(one) == state(other) == "half_open")
        assert await one.permit(target)
        one.began("p/m")
        assert not await other.permit(target)
        one.succeeded(target, 0.1)
        await until(lambda: not one.outbox)
        assert await other.permit(target)
        other.succeeded(target, 0.1)
        await until(lambda: state(one) == state(other) == "closed")


async def test_the_place_of_a_process_that_died_is_free_after_the_lease(redis_url):
    one, target = Health(), routed(replace(QUICK, open_seconds=0))
    now = 1_800_000_000_000
    steps = [Step("p/m", "bad", target.provider.breaker, code="x")] * 3
    permit = Step("p/m", "permit", target.provider.breaker, lease="of the dead")
    shared_health.ask(redis_url, shared_health.steps([*steps, permit], moment=now))
    later = Step("p/m", "permit", target.provider.breaker, lease="mine")
    tries = [
        shared_health.steps([later], moment=now + LEASE_MS - 1),
        shared_health.steps([later], moment=now + LEASE_MS),
    ]
    assert [told.outcomes[0][0] for told in shared_health.ask(redis_url, *tries)] == [False, True]
    assert state(one) == "closed"


async def test_whoever_leaves_while_it_starts_to_share_stops_nobody_else(monkeypatch):
    known, asked, answered = Health(), asyncio.Event(), asyncio.Event()
    hear = health_sharing.Sharing._hear

    async def heard_late(of):
        asked.set()
        await answered.wait()
        await hear(of)

    monkeypatch.setattr(health_sharing.Sharing, "_hear", heard_late)
    leaving = asyncio.create_task(known.start())
    await asked.wait()
    leaving.cancel()
    await asyncio.wait([leaving])
    answered.set()
    async with asyncio.timeout(60), sharing(known):
        assert known.is_shared


async def test_a_stop_tells_nothing_twice(monkeypatch):
    known, counted, answered = Health(), asyncio.Event(), asyncio.Event()
    await known.start()
    ask = known._sharing._line.ask

    async def answered_late(call):
        told = await ask(call)
        if call.script == "breakers":
            counted.set()
            await answered.wait()
        return told

    monkeypatch.setattr(known._sharing._line, "ask", answered_late)
    fail(known, routed(), times=1)
    async with asyncio.timeout(60):
        await counted.wait()
        stopping = asyncio.create_task(known.stop())
        await asyncio.sleep(0)
        answered.set()
        await stopping
    assert health.look().conditions().of("p/m").failures == 1


async def test_keys_rest_in_all_processes():
    one, other, target = Health(), Health(), routed()
    async with sharing(one, other):
        one.key_failed(target, 1, "insufficient_quota")
        await until(lambda: other.key_is_exhausted(1, 0))
        await asyncio.to_thread(health.reset_keys, 1)
        await until(lambda: not other.key_is_exhausted(1, 0) and not one.key_is_exhausted(1, 0))
        assert one.conditions().of("p/m").keys_back_at is None


async def test_figures_of_all_processes_are_added_up():
    one, other, target = Health(), Health(), routed()
    async with sharing(one, other):
        for known in (one, other):
            known.succeeded(target, 0.2)
            known.failed(target, "upstream_auth_failed")
        await until(lambda: one.conditions().of("p/m").calls == other.conditions().of("p/m").calls == 4)
        seen = one.conditions().of("p/m")
        assert (seen.success_rate, seen.latency_seconds) == (0.5, pytest.approx(0.2, rel=0.01))


async def test_a_healthy_success_asks_redis_nothing(redis_url):
    known, target = Health(), routed()
    async with sharing(known):
        known.succeeded(target, 0.1)
        assert not known.outbox
        known.count_calls()
        assert [(step.kind, step.count) for step in known.outbox] == [("good", 1)]


async def test_the_keys_in_redis_are_few_and_end(redis_url):
    known = Health()
    async with sharing(known):
        for number in range(30):
            target = routed(model_id=f"m{number}")
            fail(known, target)
            known.succeeded(target, 0.1)
        known.key_failed(target, 1, "insufficient_quota")
    with redis.Redis.from_url(redis_url) as client:
        keys = [key for key in client.keys("*") if key.startswith(b"gw:health")]
        assert len(keys) == 7
        assert all(0 < client.ttl(key) <= 8 * 24 * 3600 for key in keys)


# --- Redis away -------------------------------------------------------------------------------------------------------------


async def test_without_redis_a_process_goes_by_what_it_saw():
    known, target = Health(), routed(replace(NUMBERS, open_seconds=0, probe_quota=2))
    with override_settings(REDIS_URL="redis://127.0.0.1:1/0"):
        async with sharing(known):
            assert not known.is_shared
            fail(known, target)
            asked = [asyncio.create_task(known.permit(target)) for _ in range(20)]
            assert sum(await asyncio.gather(*asked)) == 2
            with pytest.raises(health.NotShared):
                await asyncio.to_thread(health.reset, "p/m")
            assert health.read() == health.current().conditions()


async def test_a_late_word_of_redis_is_a_no_until_it_is_known_to_be_away(redis_url):
    known, target = Health(), routed(replace(NUMBERS, open_seconds=0))
    async with sharing(known):
        fail(known, target)
        await until(lambda: not known.outbox)
        with silent(redis_url):
            assert not await known.permit(target)
        await until(lambda: not known._sharing._asked and known._sharing._asking.done() and not known.outbox)
        async with asyncio.timeout(60):
            while not await known.permit(target):
                pass


async def test_a_store_that_was_emptied_is_told_again(redis_url):
    one, other, target = Health(), Health(), routed()
    async with sharing(one, other):
        fail(one, target)
        one.succeeded(routed(model_id="fine"), 0.1)
        one.key_failed(target, 1, "insufficient_quota")
        await until(lambda: state(other) == "open" and other.conditions().of("p/fine").calls == 1)
        services.empty(redis_url)
        await until(lambda: state(health.look()) == "open")
        await until(lambda: health.look().key_is_exhausted(1, 0))
        await until(lambda: health.look().conditions().of("p/fine").calls == 1)
        assert state(one) == state(other) == "open"


async def test_when_redis_is_back_all_is_shared_again(tmp_path):
    folder = tmp_path / "r"
    folder.mkdir()
    one, other, target = Health(), Health(), routed()
    store = services.private_redis(folder)
    with override_settings(REDIS_URL=store.url):
        async with sharing(one, other):
            await asyncio.to_thread(store.stop)
            await until(lambda: not one.is_shared)
            fail(one, target)
            assert state(one) == "open"
            store = await asyncio.to_thread(services.private_redis, folder)
            await until(lambda: state(other) == "open" and one.is_shared)
    await asyncio.to_thread(store.stop)
