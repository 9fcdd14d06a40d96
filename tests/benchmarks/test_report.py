from __future__ import annotations

import io

import pytest
from rich.console import Console

from benchmarks import report

KEPT = {
    "throughput": {
        "gateway": {"per_core": 13_000.0},
        "nginx": {"per_core": 60_000.0},
        "litellm": {"per_core": 125.0},
    },
    "streams_flat_out": {"gateway": {"cpu_us_per_chunk": 10.0, "cut": 0.0}},
    "first_token": {"gateway": {"added_p50_ms": 0.5}},
    "memory": {"gateway": {"after_requests_mb": 100.0, "kb_per_held_stream": 20.0, "cut": 0.0}},
    "slow_neighbours": {"gateway": {"beside_p99_ms": 1.0, "cut": 0.0}},
}


def _with(measure: str, contender: str, name: str, value: float) -> report.Measured:
    results = {**KEPT[measure], contender: {**KEPT[measure][contender], name: value}}
    return {**KEPT, measure: results}


def test_a_run_that_keeps_every_promise_misses_none():
    assert report.missed(KEPT) == []


@pytest.mark.parametrize(
    ("measure", "name", "value", "what"),
    [
        ("throughput", "per_core", 7_000.0, ["requests/s per core, against LiteLLM proxy", "requests/s per core, against nginx", "requests/s per core"]),
        ("streams_flat_out", "cpu_us_per_chunk", 12.1, ["CPU per relayed chunk, flat out"]),
        ("first_token", "added_p50_ms", 0.81, ["added time to first token, low load"]),
        ("memory", "after_requests_mb", 150.0, ["resident after the requests"]),
        ("memory", "kb_per_held_stream", 40.0, ["memory per held stream"]),
        ("memory", "cut", 1.0, ["streams cut"]),
        ("slow_neighbours", "beside_p99_ms", 2.0, ["others' p99 beside slow streams"]),
    ],
)  # fmt: skip
def test_each_broken_promise_is_named(measure, name, value, what):
    assert report.missed(_with(measure, "gateway", name, value)) == what


def test_local_promises_are_ratios_to_the_other_engines():
    gateway = {
        "tokens_per_second_plain_8": 70.0,
        "tokens_per_second_cached_8": 140.0,
        "tokens_per_second_shared_8": 65.0,
    }
    direct = {"tokens_per_second_plain_8": 36.0, "tokens_per_second_cached_8": 40.0, "tokens_per_second_shared_8": 35.0}
    local = {"gateway": gateway, "direct": direct, "parallel slots": {"tokens_per_second_shared_8": 9.0}}
    assert report.missed({"local": local}) == [
        "local tokens/s, 8 users, prompts cached, against one after another",
    ]
    assert "7.22 x" in _shown({"local": local})


def test_a_promise_without_its_figures_is_neither_kept_nor_missed():
    alone = {"throughput": {"gateway": {"per_core": 13_000.0}}}
    assert report.missed(alone) == []
    assert "not measured" in _shown(alone)


def test_the_table_says_kept_and_missed_and_shows_the_peers():
    shown = _shown(_with("memory", "gateway", "cut", 3.0))
    assert "104.0 x" in shown
    assert "60,000" in shown
    assert "MISSED" in next(line for line in shown.splitlines() if "streams cut" in line)


def _shown(measured: report.Measured) -> str:
    console = Console(file=io.StringIO(), width=200)
    report.show(console, measured)
    return console.file.getvalue()
