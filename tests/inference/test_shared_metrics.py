"""The counters of several processes as one."""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from inference import shared_metrics
from inference.metrics import Metrics
from inference.shared_metrics import SharedMetrics


class Process:
    """What one process would count."""

    def __init__(self, folder: Path) -> None:
        self.requests, self.revision, self.inflight = 0.0, 1.0, 0.0
        self.shared = SharedMetrics(folder, self.collect)

    def collect(self) -> Iterator[Metric]:
        requests = CounterMetricFamily("gateway_requests", "Requests.", labels=["outcome"])
        requests.add_metric(["ok"], self.requests)
        yield requests
        yield GaugeMetricFamily("gateway_snapshot_revision", "Revision.", value=self.revision)
        yield GaugeMetricFamily("gateway_inflight_requests", "Now.", value=self.inflight)


def shown(process: Process, name: str = "gateway_requests_total") -> float:
    for line in shared_metrics.text(process.shared.families()).decode().splitlines():
        if line.startswith(name):
            return float(line.split()[-1])
    raise AssertionError(name)


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[Process, Process]]:
    first, second = Process(tmp_path), Process(tmp_path)
    yield first, second
    first.shared.stop()
    second.shared.stop()


def test_each_process_shows_the_sum(two: tuple[Process, Process]) -> None:
    first, second = two
    first.requests, second.requests = 3, 4
    shown(second)
    assert shown(first) == 7
    assert shown(second) == 7


def test_gauges_are_put_together_by_what_they_mean(two: tuple[Process, Process]) -> None:
    first, second = two
    first.revision, second.revision = 9, 8
    first.inflight, second.inflight = 2, 3
    shown(second)
    assert shown(first, "gateway_snapshot_revision") == 8
    assert shown(first, "gateway_inflight_requests") == 5


def test_what_a_process_counted_outlives_it(two: tuple[Process, Process]) -> None:
    first, second = two
    first.requests, second.requests = 3, 4
    first.shared.stop()
    assert shown(second) == 7
    assert shown(second, "gateway_inflight_requests") == 0


def test_a_killed_process_is_added_once(tmp_path: Path) -> None:
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        process = Process(tmp_path)
        process.requests = 5
        process.shared.families()
        os.write(tell, b".")
        signal.pause()
    os.read(told, 1)
    left = Process(tmp_path)
    left.requests = 1
    assert shown(left) == 6
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert [shown(left), shown(left)] == [6, 6]
    assert len(list(tmp_path.glob("*-*.json"))) == 1
    left.shared.stop()
    os.close(told)
    os.close(tell)


def test_a_child_that_is_forked_meanwhile_keeps_nobody_from_summing(tmp_path: Path) -> None:
    process = Process(tmp_path)
    with process.shared._locked():
        child = os.fork()
        if child == 0:
            signal.pause()
    try:
        with (tmp_path / shared_metrics._LOCK).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_burial_that_was_broken_off_adds_nothing_twice(tmp_path: Path) -> None:
    dead, living = Process(tmp_path), Process(tmp_path)
    dead.requests = 5
    shown(dead)
    grave = {path: path.read_bytes() for path in tmp_path.glob("*-*.*")}
    dead.shared.disown()
    assert shown(living) == 5
    for path, text in grave.items():
        path.write_bytes(text)
    assert shown(living) == 5
    assert shown(living) == 5
    living.shared.stop()


def test_a_folder_that_cannot_be_used_leaves_the_process_its_own(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    process = Process(tmp_path / "file")
    process.requests = 2
    assert shown(process) == 2


def test_histograms_add_up(tmp_path: Path) -> None:
    metrics = [Metrics(), Metrics()]
    shared = [SharedMetrics(tmp_path, one.collect) for one in metrics]
    for one in metrics:
        one.first_token.observe(0.02)
    shared[1].families()
    text = shared_metrics.text(shared[0].families()).decode()
    assert "gateway_time_to_first_token_seconds_count 2.0" in text
    assert 'gateway_time_to_first_token_seconds_bucket{le="0.025"} 2.0' in text
    for one in shared:
        one.stop()
