from dataclasses import replace

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.breaker_settings import BreakerSettings
from routing import breakers, shared_health
from routing.breakers import CLOSED, HALF_OPEN, LEASE_MS, OPEN, WELL, Step, after
from tests import services

USUAL = BreakerSettings(failure_threshold=5, open_seconds=60, success_threshold=2)
START = 1_800_000_000_000
MINUTE = 60_000


class Route:
    """A breaker with a clock that stands still until it is moved."""

    def __init__(self, numbers=USUAL):
        self.numbers, self.now, self.breaker = numbers, START, WELL

    def step(self, kind, **told):
        self.breaker, granted = after(self.breaker, Step("p/m", kind, self.numbers, **told), self.now)
        return granted

    def fail(self, times=1):
        for _ in range(times):
            self.step("bad", code="upstream_error")

    @property
    def state(self):
        return breakers.settle(self.breaker, self.numbers, self.now).state


@pytest.fixture
def route():
    return Route()


def opened(numbers=USUAL):
    route = Route(numbers)
    route.fail(numbers.failure_threshold)
    assert route.state == OPEN
    return route


def test_it_opens_after_five_failures_in_a_row(route):
    route.fail(4)
    assert route.state == CLOSED
    route.fail()
    assert (route.state, route.breaker.failures, route.breaker.failed_at) == (OPEN, 5, START)


def test_a_success_ends_the_row(route):
    route.fail(4)
    route.step("good")
    route.fail(4)
    assert route.state == CLOSED


def test_it_lets_nobody_through_while_open_and_tries_after_sixty_seconds():
    route = opened()
    route.now += MINUTE - 1
    assert not route.step("permit", lease="a")
    route.now += 1
    assert route.step("permit", lease="a")
    assert route.state == HALF_OPEN


def test_two_good_calls_close_it():
    route = opened()
    route.now += MINUTE
    route.step("permit", lease="a")
    route.step("good", lease="a")
    assert route.state == HALF_OPEN
    route.step("permit", lease="b")
    route.step("good", lease="b")
    assert (route.state, route.breaker.failures) == (CLOSED, 0)


def test_one_failure_opens_it_again_for_the_whole_time():
    route = opened()
    route.now += MINUTE
    route.step("permit", lease="a")
    route.step("bad", lease="a")
    assert (route.state, route.breaker.failures) == (OPEN, 6)
    route.now += MINUTE - 1
    assert route.state == OPEN


def test_no_more_than_the_quota_pass_at_a_time():
    route = opened(replace(USUAL, probe_quota=3))
    route.now += MINUTE
    assert sum(route.step("permit", lease=str(number)) for number in range(100)) == 3
    route.step("release", lease="0")
    assert route.step("permit", lease="next")


def test_a_call_whose_process_died_gives_its_place_back_after_the_lease():
    route = opened()
    route.now += MINUTE
    assert route.step("permit", lease="a")
    route.now += LEASE_MS - 1
    assert not route.step("permit", lease="b")
    route.now += 1
    assert route.step("permit", lease="b")


def test_a_call_that_goes_on_keeps_its_place():
    route = opened()
    route.now += MINUTE
    route.step("permit", lease="a")
    route.now += LEASE_MS - 1
    assert route.step("renew", lease="a")
    route.now += LEASE_MS - 1
    assert not route.step("permit", lease="b")


def test_it_opens_when_half_of_twenty_calls_failed_though_never_five_in_a_row(route):
    for _ in range(9):
        route.fail()
        route.step("good")
    assert route.state == CLOSED
    route.fail()
    assert route.state == CLOSED
    route.step("good")
    route.fail()
    assert route.state == OPEN


def test_calls_that_left_the_window_count_no_more(route):
    for _ in range(9):
        route.fail()
        route.step("good")
    route.now += MINUTE
    route.fail()
    route.step("good")
    route.fail()
    assert route.state == CLOSED


def test_a_rate_of_nought_is_off():
    route = Route(replace(USUAL, failure_rate=0))
    for _ in range(100):
        route.fail()
        route.step("good")
    assert route.state == CLOSED


def test_a_late_success_does_not_close_what_is_open():
    route = opened()
    route.step("good", count=50)
    assert route.state == OPEN


def test_a_person_opens_it_for_its_pause():
    route = Route()
    route.step("open")
    assert (route.breaker.state, route.breaker.failures) == (OPEN, 0)
    route.now = route.breaker.retry_at
    assert breakers.settle(route.breaker, route.numbers, route.now).state == HALF_OPEN


def test_a_reset_closes_it():
    route = opened()
    route.step("reset")
    assert route.breaker == WELL


@pytest.mark.parametrize("hour", [-3_600_000, 3_600_000])
def test_a_clock_that_jumps_leaves_no_breaker_stuck(hour):
    route = opened()
    route.now += hour
    route.step("permit", lease="a")
    route.now += MINUTE
    assert route.state == HALF_OPEN
    route.now += LEASE_MS
    assert route.step("permit", lease="b")


def test_a_document_reads_back():
    route = opened()
    assert breakers.from_document(breakers.as_document(route.breaker)) == route.breaker


def test_a_callers_mistake_and_a_bad_key_do_not_count():
    assert not breakers.COUNTING & {"invalid_request", "content_filter", "client_disconnected", "upstream_auth_failed"}


# --- The same in Redis ------------------------------------------------------------------------------------------------------

NUMBERS = st.builds(
    BreakerSettings,
    failure_threshold=st.integers(1, 4),
    open_seconds=st.sampled_from([0, 0.5, 10, 60]),
    success_threshold=st.integers(1, 3),
    failure_rate=st.sampled_from([0, 0.3, 0.5, 1]),
    window_seconds=st.sampled_from([0, 1, 7.3, 60]),
    minimum_calls=st.integers(1, 6),
    probe_quota=st.integers(1, 3),
)
KINDS = st.sampled_from(["good", "bad", "bad", "permit", "permit", "renew", "release", "open", "reset"])
STEPS = st.lists(
    st.tuples(
        KINDS,
        st.integers(1, 3),
        st.sampled_from(["", "a", "b", "c"]),
        st.sampled_from([0, 1, 400, 900, 5_000, 20_000, 61_000, -3_600_000]),
    ),
    max_size=25,
)


@settings(max_examples=80, deadline=None)
@given(numbers=NUMBERS, steps=STEPS)
def test_redis_follows_the_same_rules(redis_url, numbers, steps):
    services.empty(redis_url)
    here, now, calls, expected = WELL, START, [], []
    for kind, count, lease, later in steps:
        now += later
        step = Step("p/m", kind, numbers, count=count, lease=lease or "x", code="upstream_error")
        here, granted = after(here, step, now)
        expected.append((granted, here))
        calls.append(shared_health.steps([step], moment=now))
    found = [outcome for told in shared_health.ask(redis_url, *calls) for outcome in told.outcomes]
    assert found == expected


@settings(deadline=None)
@given(numbers=NUMBERS, steps=STEPS)
def test_what_always_holds(numbers, steps):
    here, now = WELL, START
    for kind, count, lease, later in steps:
        now += later
        before = breakers.settle(here, numbers, now)
        here, granted = after(here, Step("p/m", kind, numbers, count=count, lease=lease or "x"), now)
        assert here.state in (CLOSED, OPEN, HALF_OPEN)
        assert len(here.leases) <= numbers.probe_quota
        assert not here.leases or here.state == HALF_OPEN
        if before.state == OPEN:
            assert kind != "permit" or not granted
        if here.state == CLOSED and kind not in ("reset", "good"):
            assert here.failures < numbers.failure_threshold
        if here.state == OPEN:
            assert here.retry_at <= now + numbers.open_seconds * 1000
        orjson.dumps(breakers.as_document(here))
