"""What it costs to count: the same gateway without books, with them, and with a key under limits and budgets as well.

`GATEWAY_DATA_DIR=DIR python -m benchmarks.metered` puts the limits and budgets on the key of that installation.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from benchmarks import upstream
from benchmarks.contenders import Gateway, set_up
from benchmarks.load import Findings
from benchmarks.measures import Bench, Results, throughput_of
from benchmarks.processes import Program
from gateway_project import embedded_redis

BARE, RECORDED, METERED = "gateway, bare", "gateway, recorded", "gateway, metered"
_PLENTY = 10**12


class _WithRedis(Gateway):
    """With a Redis of its own."""

    def start(self, upstream_port: int, core: int, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        command = embedded_redis.command(directory)
        self._redis = Program(command, core=None, log=directory / "redis.log")
        super().start(upstream_port, core, directory)

    def stop(self) -> None:
        super().stop()
        self._redis.stop()


class Bare(_WithRedis):
    name = BARE
    module = "benchmarks.bare"


class Recorded(_WithRedis):
    name = RECORDED


class Metered(_WithRedis):
    name = METERED

    def prepare(self, env: dict[str, str]) -> None:
        set_up(["-m", "benchmarks.metered"], env)


def measure(bench: Bench) -> Results:
    """Small whole answers, closed loop, the three in turn."""
    seen: dict[str, list[Findings]] = {}
    running: list[Gateway] = []
    try:
        for kind in (Bare, Recorded, Metered):
            contender = kind()
            contender.start(bench.mock.port, bench.cores.contender, bench.directory / f"m{len(running)}")
            running.append(contender)
        for number in range(bench.plan.rounds):
            for contender in running[number % 3 :] + running[: number % 3]:
                findings = bench.ask(
                    contender,
                    upstream.WHOLE,
                    seconds=bench.plan.seconds,
                    connections=bench.plan.connections,
                    warmup=1.0,
                )
                seen.setdefault(contender.name, []).append(findings)
                time.sleep(1)  # what the one still writes is not the next one's
    finally:
        for contender in running:
            contender.stop()
    results = {name: throughput_of(runs) for name, runs in seen.items()}
    base = results.get(BARE, {}).get("per_core")
    for numbers in results.values():
        if base and "per_core" in numbers:
            numbers["of_bare"] = numbers["per_core"] / base
    return results


def limit_every_key() -> None:
    """Limits and budgets as a careful operator would set them, none of which the bench can reach."""
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway_project.settings")
    django.setup()
    from providers import actor
    from routing import subjects
    from routing.models import Budget, RateLimit

    with actor.acting_as("command:benchmarks"):
        RateLimit.objects.create(
            subject=subjects.EACH_KEY,
            requests_per_minute=_PLENTY,
            tokens_per_minute=_PLENTY,
            concurrent_requests=100_000,
        )
        Budget.objects.create(subject=subjects.EACH_KEY, period="month", amount=10**9)
        Budget.objects.create(subject=subjects.ALL, period="day", amount=10**9)


if __name__ == "__main__":
    sys.exit(limit_every_key())
