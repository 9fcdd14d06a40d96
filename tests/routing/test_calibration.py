import threading

import pytest
import redis

from routing import calibration
from routing.calibration import KEY, Calibration


def taught(*prompts, route="p/m"):
    learned = Calibration()
    for prompt_bytes, tokens in prompts:
        learned.observe(route, prompt_bytes, tokens)
    return learned


@pytest.fixture
def store(redis_url):
    with redis.Redis.from_url(redis_url) as client:
        client.delete(KEY)
        yield client


def told(learned):
    learned.exchange()
    return dict(learned.ratios())


def test_a_ratio_is_told_once_enough_was_seen(store):
    assert told(taught((1000, 300))) == {}
    assert told(taught((1000, 300), (1000, 300))) == {"p/m": 0.3}


@pytest.mark.parametrize("prompt", [(199, 50), (1000, 10), (1000, 1001), (0, 5), (5000, 0)])
def test_prompts_that_tell_nothing_are_passed_over(store, prompt):
    assert told(taught((2000, 500), prompt)) == {"p/m": 0.25}


def test_one_odd_prompt_moves_a_ratio_a_little(store):
    learned = taught(*[(10_000, 2500)] * 20)
    assert told(learned) == {"p/m": 0.25}
    learned.observe("p/m", 900_000, 900_000)
    assert 0.25 < told(learned)["p/m"] < 0.28


def test_processes_learn_together(store):
    here, there = taught((2000, 400)), taught((2000, 800))
    assert told(here) == {"p/m": 0.2}
    assert told(there) == {"p/m": 0.3}


def test_what_was_learned_outlives_the_process(store):
    told(taught((4000, 1000)))
    assert told(Calibration()) == {"p/m": 0.25}


def test_what_was_seen_long_ago_weighs_less(store):
    old = taught(*[(20_000, 4000)] * 100)
    told(old)
    for _ in range(60):
        old.observe("p/m", 20_000, 7000)
        old.exchange()
    assert old.ratios()["p/m"] > 0.3


def test_readers_get_the_same_object_while_nothing_moves(store):
    learned = taught((20_000, 5000))
    learned.exchange()
    first = learned.ratios()
    learned.observe("p/m", 1000, 251)
    learned.exchange()
    assert learned.ratios() is first


def test_without_redis_a_process_goes_by_what_it_knows(settings):
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    learned = taught((4000, 1000))
    with pytest.raises(redis.RedisError):
        learned.exchange()
    assert dict(learned.ratios()) == {"p/m": 0.25}


def test_what_could_not_be_told_is_told_later_and_once(store, settings):
    here, there = settings.REDIS_URL, "redis://127.0.0.1:1/0"
    learned = taught((4000, 1000))
    settings.REDIS_URL = there
    with pytest.raises(redis.RedisError):
        learned.exchange()
    settings.REDIS_URL = here
    learned.exchange()
    learned.exchange()
    assert store.hget(KEY, "p/m") == b"4000.0 1000.0"


def test_routes_are_bounded(store, monkeypatch):
    monkeypatch.setattr(calibration, "MOST_ROUTES", 3)
    for number in range(6):
        told(taught((4000, 1000), route=f"p/{number}"))
    assert store.hlen(KEY) == 3


def test_garbage_in_the_store_is_passed_over(store):
    store.hset(KEY, mapping={"p/m": "much ado", "p/n": "4000 1000"})
    assert told(Calibration()) == {"p/n": 0.25}


def test_a_command_reads_what_all_know(store):
    told(taught((4000, 1000)))
    before = calibration.replace(Calibration())
    try:
        assert dict(calibration.read()) == {"p/m": 0.25}
    finally:
        calibration.replace(before)


def test_what_was_learned_last_is_told_before_the_process_ends(store, monkeypatch):
    monkeypatch.setattr(calibration, "_LAST_WORDS_SECONDS", 60.0)
    calibration.observe("p/m", 2000, 500)
    calibration.stop()
    assert told(Calibration()) == {"p/m": 0.25}
    assert "calibration" not in {thread.name for thread in threading.enumerate()}
