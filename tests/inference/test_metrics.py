from __future__ import annotations

from inference.metrics import OVERHEAD_SECONDS, Histogram, Metrics, health_families
from routing import health, snapshot
from tests.inference import registry


def test_a_histogram_counts_into_cumulative_buckets() -> None:
    histogram = Histogram((0.1, 1.0))
    for value in (0.05, 0.1, 0.5, 7.0):
        histogram.observe(value)
    assert histogram.buckets() == [("0.1", 2.0), ("1.0", 3.0), ("+Inf", 4.0)]
    assert histogram.total == 7.65


def test_all_families_are_there_before_the_first_request() -> None:
    text = Metrics().render().decode()
    for name in (
        "gateway_requests_total",
        "gateway_request_duration_seconds",
        "gateway_time_to_first_token_seconds",
        "gateway_overhead_seconds",
        "gateway_upstream_attempts_total",
        "gateway_tokens_total",
        "gateway_inflight_requests",
    ):
        assert f"# TYPE {name} " in text


def test_bounds_rise() -> None:
    assert list(OVERHEAD_SECONDS) == sorted(OVERHEAD_SECONDS)


def test_breakers_and_resting_keys_of_what_is_in_service(serve) -> None:
    serve(registry.model(registry.remote("http://127.0.0.1:1")), registry.model(registry.provider()))
    [remote, _] = snapshot.current().models
    for _ in range(remote.provider.breaker.failure_threshold):
        health.current().failed(remote, "upstream_error")
    health.current().key_failed(remote, 1, "insufficient_quota")
    metrics = Metrics()
    metrics.sources = [health_families]
    text = metrics.render().decode()
    assert 'gateway_breaker_state{model="fake-chat",provider="remote"} 2.0' in text
    assert 'provider="fake"} 0' not in text
    assert 'gateway_upstream_keys_exhausted{provider="remote"} 1.0' in text
