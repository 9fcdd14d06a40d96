"""Runs the load generator and gives its findings a shape."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from benchmarks.native import program


@dataclass(frozen=True, slots=True)
class Target:
    """A server under load: where it listens and the bearer key it wants."""

    port: int
    path: str = "/v1/chat/completions"
    key: str = "none"


@dataclass(frozen=True, slots=True)
class Spread:
    """A distribution of times in microseconds."""

    count: int
    mean: float
    p50: float
    p90: float
    p99: float
    max: float


@dataclass(slots=True)
class Findings:
    """What one run saw within its window of `seconds`. `cut` are streams that began and did not end properly."""

    seconds: float
    finished: int
    failed: int
    cut: int
    streams: int
    open: int
    chunks: int
    tokens: int
    unsent: int
    latency: Spread
    first_token: Spread
    relay: Spread
    cpu_seconds: float
    """Of the watched processes together."""
    load_cpu_seconds: float
    complaint: str = field(default="")
    """The first bad answer, in its own words."""

    @property
    def per_second(self) -> float:
        return (self.finished - self.failed - self.cut) / self.seconds

    @property
    def busy(self) -> float:
        """Share of one core that the watched processes used."""
        return self.cpu_seconds / self.seconds


def run(
    target: Target,
    request: bytes,
    *,
    core: int | None = None,
    connections: int = 32,
    seconds: float = 3.0,
    warmup: float = 0.5,
    rate: float | None = None,
    requests: int | None = None,
    stream: bool = False,
    watch: Sequence[int] = (),
) -> Findings:
    with tempfile.NamedTemporaryFile(suffix=".json") as body:
        body.write(request)
        body.flush()
        argv = _argv(target, body.name, core, connections, seconds, warmup, watch)
        argv += ["--rate", str(rate)] if rate else []
        argv += ["--requests", str(requests)] if requests else []
        argv += ["--stream"] if stream else []
        done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=seconds + warmup + 60)
    return parse(done.stdout)


class Held:
    """Streams held open by a load generator that runs beside us."""

    def __init__(self, child: subprocess.Popen[str]) -> None:
        self._child = child
        self.findings: Findings | None = None

    def release(self) -> Findings:
        """Leave in the middle, as clients do, and say what was seen until then."""
        if self.findings is None:
            out, _ = self._child.communicate(timeout=30)
            self.findings = parse(out.strip().splitlines()[-1])
        return self.findings


@contextmanager
def hold(
    target: Target, request: bytes, *, streams: int, core: int | None = None, seconds: float = 120
) -> Iterator[Held]:
    """Yield once each of `streams` has had its first token (or has failed)."""
    with tempfile.NamedTemporaryFile(suffix=".json") as body:
        body.write(request)
        body.flush()
        argv = [*_argv(target, body.name, core, streams, seconds, 0.0, ()), "--hold"]
        child = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        held = Held(child)
        try:
            first = child.stdout.readline() if child.stdout else ""
            if first.strip() != "held":
                held.findings = parse(first)
            yield held
        finally:
            held.release()
            child.wait(10)


def _argv(
    target: Target,
    body: str,
    core: int | None,
    connections: int,
    seconds: float,
    warmup: float,
    watch: Sequence[int],
) -> list[str]:
    argv = [] if core is None else ["taskset", "-c", str(core)]
    argv += [str(program("load")), "--port", str(target.port), "--path", target.path, "--auth", target.key]
    argv += ["--body", body, "--connections", str(connections), "--seconds", str(seconds), "--warmup", str(warmup)]
    return [*argv, "--watch", ",".join(map(str, watch))] if watch else argv


def parse(text: str) -> Findings:
    seen: dict[str, Any] = json.loads(text)
    cpu = seen.pop("cpu")
    return Findings(
        latency=Spread(**seen.pop("latency")),
        first_token=Spread(**seen.pop("first_token")),
        relay=Spread(**seen.pop("relay")),
        cpu_seconds=sum(cpu.values()),
        load_cpu_seconds=seen.pop("own_cpu"),
        **seen,
    )
