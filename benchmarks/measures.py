"""What is measured, one function per question. Each asks every contender in turn and returns plain numbers.

Times are microseconds in the generator's findings and milliseconds or microseconds, as named, in the results.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from benchmarks import upstream
from benchmarks.load import Findings, hold, run
from benchmarks.machine import Cores

Numbers = dict[str, float]
Results = dict[str, Numbers]
"""By the contender's name."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how often; `--quick` makes it small."""

    seconds: float = 5.0
    rounds: int = 3
    connections: int = 64
    low_rate: float = 50.0
    requests: int = 20_000
    requests_limit_seconds: float = 60.0
    held: int = 500
    slow: int = 200


@dataclass(slots=True)
class Bench:
    """The running contenders and all that a measure needs to question them."""

    contenders: list
    mock: upstream.Upstream
    cores: Cores
    plan: Plan
    directory: Path
    say: Callable[[str], None]
    restarts: int = 0

    def ask(self, contender, model: str, *, stream: bool = False, **how) -> Findings:
        findings = run(
            contender.target,
            upstream.body(contender.model(model), stream=stream),
            core=self.cores.load,
            stream=stream,
            watch=contender.pids(),
            **how,
        )
        if findings.complaint:
            self.say(f"{contender.name}: {findings.complaint[:300]}")
        return findings

    def restart(self, contender) -> None:
        """As fresh as at the start, in a directory of its own."""
        contender.stop()
        self.restarts += 1
        contender.start(self.mock.port, self.cores.contender, self.directory / f"{contender.name}-{self.restarts}")

    def rounds(self) -> Iterable[tuple]:
        """Every contender once per round, the order turned each time so that no one always follows the same peer."""
        for number in range(self.plan.rounds):
            turn = number % len(self.contenders)
            yield self.contenders[turn:] + self.contenders[:turn]

    def served(self) -> list:
        return [contender for contender in self.contenders if contender.pids()]


def throughput(bench: Bench) -> Results:
    """Small whole answers, closed loop: as many as it can."""
    seen: dict[str, list[Findings]] = {}
    for contenders in bench.rounds():
        for contender in contenders:
            findings = bench.ask(
                contender, upstream.WHOLE, seconds=bench.plan.seconds, connections=bench.plan.connections, warmup=1.0
            )
            seen.setdefault(contender.name, []).append(findings)
    return {name: throughput_of(runs) for name, runs in seen.items()}


def throughput_of(runs: list[Findings]) -> Numbers:
    good = [_good(one) for one in runs]
    numbers = {
        "requests_per_second": _median(one.per_second for one in runs),
        "failed": float(sum(one.failed for one in runs)),
        "p50_ms": _median(one.latency.p50 for one in runs) / 1000,
        "p99_ms": _median(one.latency.p99 for one in runs) / 1000,
        "lowest": min(one.per_second for one in runs),
        "highest": max(one.per_second for one in runs),
    }
    if runs[0].cpu_seconds and all(good):
        numbers["busy"] = _median(one.busy for one in runs)
        # Where the load's core was the limit, the contender had time left: its rate per second of its own CPU is the
        # fair figure, and the harder one to be compared with.
        numbers["per_core"] = _median(count / one.cpu_seconds for count, one in zip(good, runs, strict=True))
        numbers["cpu_us_per_request"] = _median(
            one.cpu_seconds / count * 1e6 for count, one in zip(good, runs, strict=True)
        )
    return numbers


def _good(one: Findings) -> int:
    return one.finished - one.failed - one.cut


def low_load(bench: Bench) -> Results:
    """Whole answers at a rate that leaves everybody idle most of the time: what the contender adds to each."""
    seen: dict[str, list[Findings]] = {}
    for contenders in bench.rounds():
        for contender in contenders:
            findings = bench.ask(
                contender, upstream.WHOLE, seconds=bench.plan.seconds, connections=8, rate=bench.plan.low_rate
            )
            seen.setdefault(contender.name, []).append(findings)
    return _added(seen, lambda one: one.latency)


def first_token(bench: Bench) -> Results:
    """Streams at a low rate: what the contender adds to the time until the first token."""
    seen: dict[str, list[Findings]] = {}
    for contenders in bench.rounds():
        for contender in contenders:
            findings = bench.ask(
                contender, upstream.SHORT, stream=True, seconds=bench.plan.seconds, connections=16, rate=20.0
            )
            seen.setdefault(contender.name, []).append(findings)
    return _added(seen, lambda one: one.first_token)


def _added(seen: dict[str, list[Findings]], spread: Callable) -> Results:
    results: Results = {}
    for name, runs in seen.items():
        numbers = {
            "p50_ms": _median(spread(one).p50 for one in runs) / 1000,
            "p99_ms": _median(spread(one).p99 for one in runs) / 1000,
            "failed": float(sum(one.failed + one.cut for one in runs)),
        }
        if name != "direct" and "direct" in seen:
            pairs = list(zip(runs, seen["direct"], strict=True))
            numbers["added_p50_ms"] = _median(spread(one).p50 - spread(base).p50 for one, base in pairs) / 1000
            numbers["added_p99_ms"] = _median(spread(one).p99 - spread(base).p99 for one, base in pairs) / 1000
        results[name] = numbers
    return results


def streams_flat_out(bench: Bench) -> Results:
    """Streams from an upstream that sends as fast as it is read."""
    return _streams(bench, upstream.FLAT_OUT, 32)


def streams_paced(bench: Bench) -> Results:
    """Fifty streams at twenty chunks a second each: 1,000 chunks a second that arrive one by one."""
    return _streams(bench, upstream.TWENTY_A_SECOND, 50)


def _streams(bench: Bench, model: str, connections: int) -> Results:
    seen: dict[str, list[Findings]] = {}
    for contenders in bench.rounds():
        for contender in contenders:
            findings = bench.ask(
                contender, model, stream=True, seconds=bench.plan.seconds, connections=connections, warmup=1.0
            )
            seen.setdefault(contender.name, []).append(findings)
    results: Results = {}
    for name, runs in seen.items():
        numbers = {
            "chunks_per_second": _median(one.chunks / one.seconds for one in runs),
            "streams": float(sum(one.streams for one in runs)),
            "cut": float(sum(one.cut + one.failed for one in runs)),
            "relay_p50_ms": _median(one.relay.p50 for one in runs) / 1000,
            "relay_p99_ms": _median(one.relay.p99 for one in runs) / 1000,
        }
        if runs[0].cpu_seconds and all(one.chunks for one in runs):
            numbers["busy"] = _median(one.busy for one in runs)
            numbers["cpu_us_per_chunk"] = _median(one.cpu_seconds / one.chunks * 1e6 for one in runs)
        results[name] = numbers
    return results


def memory(bench: Bench) -> Results:
    """What each of many held streams adds, whether their end was noticed, and resident memory after many requests.

    Each contender is started afresh and held streams come first, so that they do not live in memory that an earlier peak
    has left behind.
    """
    plan, results = bench.plan, {}
    for contender in bench.served():
        bench.restart(contender)
        bench.ask(contender, upstream.WHOLE, seconds=20, requests=50, warmup=0.0, connections=2)
        start_kb = contender.resident_kb()
        with hold(
            contender.target,
            upstream.body(contender.model(upstream.ONE_A_SECOND), stream=True),
            streams=plan.held,
            core=bench.cores.load,
        ) as held:
            time.sleep(3)
            held_kb = contender.resident_kb()
            open_upstream = bench.mock.stats()["open_streams"]
            seen = held.release()
        time.sleep(1)
        still_read = bench.mock.stats()["open_streams"]
        _await_quiet(bench)
        served = bench.ask(
            contender,
            upstream.WHOLE,
            seconds=plan.requests_limit_seconds,
            requests=plan.requests,
            warmup=0.0,
            connections=plan.connections,
        )
        results[contender.name] = {
            "start_mb": start_kb / 1024,
            "held_streams": float(open_upstream),
            "held_mb": held_kb / 1024,
            "kb_per_held_stream": (held_kb - start_kb) / max(open_upstream, 1),
            "cut": float(seen.cut + seen.failed),
            "still_read_a_second_after_leaving": float(still_read),
            "requests": float(served.finished),
            "after_requests_mb": contender.resident_kb() / 1024,
        }
    return results


def slow_neighbours(bench: Bench) -> Results:
    """What others' requests take while many slow streams are open, and what the streams' chunks take."""
    plan, results = bench.plan, {}
    for contender in bench.contenders:
        alone = bench.ask(contender, upstream.WHOLE, seconds=plan.seconds, connections=8, rate=plan.low_rate)
        with hold(
            contender.target,
            upstream.body(contender.model(upstream.TWO_A_SECOND), stream=True),
            streams=plan.slow,
            core=bench.cores.load,
        ) as held:
            beside = bench.ask(contender, upstream.WHOLE, seconds=plan.seconds, connections=8, rate=plan.low_rate)
            streams = held.release()
        results[contender.name] = {
            "alone_p50_ms": alone.latency.p50 / 1000,
            "alone_p99_ms": alone.latency.p99 / 1000,
            "beside_p50_ms": beside.latency.p50 / 1000,
            "beside_p99_ms": beside.latency.p99 / 1000,
            "failed": float(beside.failed),
            "cut": float(streams.cut + streams.failed),
            "relay_p99_ms": streams.relay.p99 / 1000,
        }
        _await_quiet(bench)
    return results


def _await_quiet(bench: Bench, seconds: float = 15) -> None:
    """Some peers go on reading streams whose client left; the next measure waits for them, a while."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and bench.mock.stats()["open_streams"]:
        time.sleep(0.2)


def _median(numbers: Iterable[float]) -> float:
    return statistics.median(list(numbers))


MEASURES: dict[str, Callable[[Bench], Results]] = {
    "throughput": throughput,
    "low_load": low_load,
    "first_token": first_token,
    "streams_flat_out": streams_flat_out,
    "streams_paced": streams_paced,
    "memory": memory,
    "slow_neighbours": slow_neighbours,
}
