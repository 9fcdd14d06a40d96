import asyncio
import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import redis
from django.conf import settings
from django.db import OperationalError, connections
from django.utils import timezone

from providers import actions, revision
from providers.models import PriceOverride, Provider
from routing import building, snapshot

OPENAI = {"provider_id": "p", "provider_type": "openai"}


@pytest.fixture(autouse=True)
def _nothing_held():
    snapshot.replace(None)
    yield
    snapshot.replace(None)


@pytest.mark.django_db
def test_the_first_call_builds_and_later_ones_hand_out_the_same(django_assert_num_queries):
    first = snapshot.current()
    with django_assert_num_queries(0):
        assert snapshot.current() is first


@pytest.mark.django_db
def test_refreshing_an_unchanged_registry_keeps_the_snapshot():
    first = snapshot.current()
    assert snapshot.refresh() is first
    actions.create_provider(OPENAI)
    second = snapshot.refresh()
    assert second is not first
    assert set(second.providers) == {"p"}
    assert dict(first.providers) == {}, "requests in flight keep theirs"


@pytest.mark.django_db(transaction=True)
def test_a_write_here_counts_at_the_next_request():
    snapshot.current()
    actions.create_provider(OPENAI)
    assert set(snapshot.current().providers) == {"p"}
    Provider.objects.update(enabled=False)
    assert set(snapshot.current().providers) == set()
    assert snapshot.current().revision == revision.current()


@pytest.mark.django_db(transaction=True)
def test_a_write_that_cannot_be_read_back_was_made_and_is_told(monkeypatch):
    hinted, look = threading.Event(), revision.current
    monkeypatch.setattr(snapshot, "_hint", hinted.set)
    snapshot.current()

    def away():
        raise OperationalError("the database is away")

    monkeypatch.setattr(revision, "current", away)
    actions.create_provider(OPENAI)
    assert hinted.wait(60)
    assert snapshot.problem() == "OperationalError: the database is away"
    monkeypatch.setattr(revision, "current", look)
    assert set(snapshot.refresh().providers) == {"p"}
    assert snapshot.problem() == ""


@pytest.mark.django_db(transaction=True)
def test_a_process_without_a_snapshot_builds_none_for_a_write(monkeypatch):
    monkeypatch.setattr(building, "build", lambda: pytest.fail("nobody asked"))
    actions.create_provider(OPENAI)


@pytest.mark.django_db
def test_a_price_that_begins_counts_from_then_on_without_an_edit(monkeypatch):
    actions.create_provider(OPENAI, models=[{"model_id": "gpt-4o"}])
    begins = timezone.now() + timedelta(hours=1)
    PriceOverride.objects.create(model_prefix="gpt", valid_from=begins, input_cost_per_million=1)
    first = snapshot.current()
    assert (first.models[0].prices.source, snapshot.refresh()) == ("list", first)
    monkeypatch.setattr(time, "time", lambda: begins.timestamp())
    second = snapshot.refresh()
    assert (second.models[0].prices.source, second.revision) == ("override", first.revision)
    assert snapshot.refresh() is second


@pytest.mark.django_db
def test_a_failed_build_keeps_the_old_one_and_says_so(monkeypatch, caplog):
    first = snapshot.current()
    actions.create_provider(OPENAI)
    with monkeypatch.context() as patch:
        patch.setattr(building, "build", lambda: (_ for _ in ()).throw(ValueError("odd row")))
        assert snapshot.refresh() is first
    assert snapshot.problem() == "ValueError: odd row"
    assert "stays in force" in caplog.text
    assert set(snapshot.refresh().providers) == {"p"}
    assert snapshot.problem() == ""


@pytest.mark.django_db
def test_a_first_build_that_fails_is_an_error(monkeypatch):
    monkeypatch.setattr(building, "build", lambda: (_ for _ in ()).throw(ValueError("odd row")))
    with pytest.raises(ValueError, match="odd row"):
        snapshot.current()


@pytest.mark.django_db(transaction=True)
def test_a_database_that_comes_back_is_no_problem_any_more(monkeypatch):
    held = snapshot.current()
    with monkeypatch.context() as patch:
        patch.setattr(revision, "current", lambda: (_ for _ in ()).throw(OperationalError("away")))
        snapshot._refresh_quietly()
    assert "OperationalError" in snapshot.problem()
    assert snapshot.current() is held
    snapshot.refresh()
    assert snapshot.problem() == ""


@pytest.mark.django_db
def test_many_threads_build_once(monkeypatch):
    built = []
    empty = building.build()

    def build():
        built.append(1)
        return empty

    monkeypatch.setattr(building, "build", build)
    monkeypatch.setattr(revision, "current", lambda: 0)
    threads = [threading.Thread(target=snapshot.refresh) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 1


@pytest.mark.django_db
def test_the_age_counts_from_the_build():
    assert snapshot.age_seconds() == float("inf")
    snapshot.current()
    assert 0 <= snapshot.age_seconds() < 60


@pytest.mark.django_db(transaction=True)
def test_other_processes_hear_a_hint_without_content(redis_url):
    with redis.Redis.from_url(redis_url) as client, client.pubsub() as channel:
        channel.subscribe(snapshot.HINT_CHANNEL)
        assert channel.get_message(timeout=60)["type"] == "subscribe"
        actions.create_provider(OPENAI)
        message = channel.get_message(timeout=60)
    assert message["data"] == b""
    assert redis_url == settings.REDIS_URL


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("hinted", [True, False])
async def test_a_change_by_another_process_arrives_by_hint_or_by_poll(monkeypatch, hinted):
    # What another process does: a committed write that this process's listeners do not hear of.
    monkeypatch.setattr(revision, "_listeners", [snapshot._hint] if hinted else [])
    monkeypatch.setattr(snapshot, "POLL_SECONDS", 3600.0 if hinted else 0.05)
    # One thread, so that its database connection can be closed at the end.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(max_workers=1))
    following = asyncio.create_task(snapshot.keep_fresh())
    try:
        await until(lambda: snapshot._current is not None)
        if hinted:
            await until(lambda: subscribers() > 0)
        await asyncio.to_thread(actions.create_provider, OPENAI)
        await until(lambda: set(snapshot.current().providers) == {"p"})
    finally:
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following
        await asyncio.to_thread(connections.close_all)


async def test_a_database_that_is_away_at_the_first_look_is_followed_once_it_is_back(redis_url, monkeypatch):
    looks = []

    def refresh():
        looks.append(True)
        if len(looks) == 1:
            raise OperationalError("the database is away")

    monkeypatch.setattr(snapshot, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(snapshot, "refresh", refresh)
    following = asyncio.create_task(snapshot.keep_fresh())
    await until(lambda: len(looks) > 2 or following.done())
    following.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await following
    assert len(looks) > 2


async def test_who_is_to_follow_no_more_does_not_when_a_hint_comes_in_the_same_moment(redis_url, monkeypatch):
    listening, looked = [], asyncio.Event()

    async def listen(woken):
        listening.append(woken)
        await asyncio.Event().wait()

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(snapshot, "_listen", listen)
    monkeypatch.setattr(snapshot, "POLL_SECONDS", 3600.0)
    monkeypatch.setattr(snapshot, "refresh", lambda: loop.call_soon_threadsafe(looked.set))
    following = asyncio.create_task(snapshot.keep_fresh())
    await looked.wait()
    [woken] = listening
    await until(lambda: woken._waiters)
    woken.set()
    following.cancel()
    over, _ = await asyncio.wait([following], timeout=60)
    following.cancel()
    assert over


async def test_who_follows_no_more_has_nobody_reading(redis_url, monkeypatch):
    reading, may_end, ended = threading.Event(), threading.Event(), []
    monkeypatch.setattr(snapshot, "_LAST_READ_SECONDS", 60.0)
    monkeypatch.setattr(snapshot, "refresh", lambda: (reading.set(), may_end.wait(60), ended.append(True)))
    following = asyncio.create_task(snapshot.keep_fresh())
    await until(reading.is_set)
    following.cancel()
    asyncio.get_running_loop().call_later(0.1, may_end.set)
    with contextlib.suppress(asyncio.CancelledError):
        await following
    assert ended


def subscribers():
    with redis.Redis.from_url(settings.REDIS_URL) as client:
        return client.pubsub_numsub(snapshot.HINT_CHANNEL)[0][1]


async def until(condition):
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110  (what is waited for tells nobody)
            await asyncio.sleep(0.01)
