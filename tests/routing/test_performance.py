from hypothesis import given, settings
from hypothesis import strategies as st

from routing import performance, shared_health
from routing.performance import DAY_MS, UNKNOWN, Batch, Figures, after
from tests import services

START = 1_800_000_000_000


def test_calls_and_their_success_are_added_up():
    figures = after(after(UNKNOWN, Batch(3, 1, 1000), START), Batch(4, 0, 1000), START + DAY_MS)
    assert (figures.calls, figures.success_rate) == (8, 7 / 8)


def test_what_is_older_than_seven_days_is_forgotten():
    old = after(UNKNOWN, Batch(0, 10), START)
    assert after(old, Batch(1, 0, 1000), START + 6 * DAY_MS).calls == 11
    figures = after(old, Batch(1, 0, 1000), START + 7 * DAY_MS)
    assert (figures.calls, figures.success_rate) == (1, 1.0)


def test_latency_moves_towards_what_is_seen():
    figures = after(UNKNOWN, Batch(1, 0, 100_000), START)
    assert figures.latency_seconds == 0.1
    assert after(figures, Batch(1, 0, 200_000), START).latency_seconds == 0.11
    assert after(figures, Batch(1000, 0, 200_000), START).latency_seconds == 0.2


def test_failures_alone_leave_the_latency():
    assert after(Figures(latency_us=5), Batch(0, 3), START).latency_us == 5
    assert UNKNOWN.latency_seconds is None
    assert UNKNOWN.success_rate is None


def test_recent_failures_stay_between_nought_and_ten():
    assert after(UNKNOWN, Batch(0, 3), START).recent_failures == 3
    assert after(UNKNOWN, Batch(0, 30), START).recent_failures == 10
    assert after(Figures(recent_failures=4), Batch(30, 1, 10), START).recent_failures == 0


BATCHES = st.lists(
    st.tuples(
        st.integers(0, 2000), st.integers(0, 50), st.integers(0, 10**9), st.sampled_from([0, 5000, DAY_MS, 8 * DAY_MS])
    ),
    max_size=12,
)


@settings(max_examples=40, deadline=None)
@given(BATCHES)
def test_redis_counts_the_same(redis_url, seen):
    services.empty(redis_url)
    here, now, calls, expected = UNKNOWN, START, [], []
    for good, bad, mean_us, later in seen:
        now += later
        batch = Batch(good, bad, mean_us)
        here = after(here, batch, now)
        expected.append(here)
        calls.append(shared_health.batches([("p/m", batch)], moment=now))
    found = [figures for counted in shared_health.ask(redis_url, *calls) for figures in counted.figures]
    assert found == expected
    assert all(performance.from_document(performance.as_document(figures)) == figures for figures in found)
