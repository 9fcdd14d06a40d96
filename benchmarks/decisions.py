"""What a decision costs in a registry of 1,000 providers and 10,000 models, and what a snapshot of that registry costs.

`measure` starts a process of its own over a new database: `GATEWAY_DATA_DIR=DIR python -m benchmarks.decisions SIZE RESULT`.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.measures import Results
from gateway_project import first_keys

ROOT = Path(__file__).resolve().parent.parent
SEED = 4
_CAPABILITIES = ("streaming", "tools", "vision", "reasoning", "json_mode", "long_context", "code_generation")
_TICK_SECONDS = 0.001


@dataclass(frozen=True, slots=True)
class Size:
    providers: int = 1_000
    models: int = 10_000
    policies: int = 500
    client_keys: int = 1_000
    decisions: int = 5_000
    """Of each question."""
    builds: int = 3


QUICK = Size(decisions=1_000, builds=1)


class DecisionsFailed(Exception):
    """The process ended badly; the text is the end of what it said."""


def measure(size: Size, directory: Path, say: Callable[[str], None]) -> Results:
    directory.mkdir(parents=True, exist_ok=True)
    first_keys.create_missing(directory)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
    environment.pop("DATABASE_URL", None)
    environment["GATEWAY_DATA_DIR"] = str(directory)
    result = directory / "decisions.json"
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks.decisions", json.dumps(asdict(size)), str(result)],
        env=environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if ended.returncode:
        raise DecisionsFailed(ended.stdout[-800:])
    figures: Results = json.loads(result.read_text())
    for what, numbers in figures.items():
        if "p99_us" in numbers:
            say(f"{what}: p99 {numbers['p99_us']:,.0f} us")
    return figures


def main(size: Size, result: Path) -> None:
    """In the process of its own."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway_project.settings")
    import django

    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    fill(size)
    from routing.building import build

    figures = {"snapshot": asyncio.run(measure_builds(build, size.builds))}
    held = build()
    gc.collect()
    gc.freeze()  # as the data plane does: what lives long is not looked through again and again
    for what, facts in questions(held):
        figures[what] = measure_question(held, facts, size.decisions)
    result.write_text(json.dumps(figures))


# --- The registry -----------------------------------------------------------------------------------------------------------


def fill(size: Size) -> None:
    from providers import actor

    with actor.acting_as("command:benchmarks"):
        _fill(size, Random(SEED))


def _fill(size: Size, chance: Random) -> None:
    from providers.models import Provider, ProviderModel
    from routing.models import ClientKey, Policy, PolicyVersion

    Provider.objects.bulk_create(
        Provider(
            provider_id=f"provider-{number:04}",
            provider_type="openai_compatible",
            display_name=f"Provider {number}",
            priority=chance.randint(1, 20),
            connection_params={"base_url": f"https://upstream-{number}.example/v1"},
        )
        for number in range(size.providers)
    )
    owners = list(Provider.objects.order_by("id"))
    names = max(1, size.models // 10)
    """A model's name is found at ten providers."""
    ProviderModel.objects.bulk_create(
        [
            ProviderModel(
                provider=owners[number % size.providers],
                model_id=_model_id((number // size.providers + number) % names),
                display_name=f"Model {number}",
                model_type="chat" if number % 10 else "embedding",
                context_window=chance.choice([8_000, 32_000, 128_000, 1_000_000]),
                max_tokens=4096,
                capabilities=["chat", *chance.sample(_CAPABILITIES, 4)] if number % 10 else [],
                cost_tier=chance.choice(["", "LOW", "MEDIUM", "HIGH", "PREMIUM"]),
                input_cost_per_million=chance.choice([None, chance.randint(1, 20)]),
                output_cost_per_million=chance.choice([None, chance.randint(1, 60)]),
            )
            for number in range(size.models)
        ],
        batch_size=500,
        ignore_conflicts=True,
    )
    offered = list(ProviderModel.objects.order_by("id").values_list("model_id", flat=True).distinct())
    policies = Policy.objects.bulk_create(
        Policy(name=f"policy-{number:03}", document=_document(number, offered, chance), version=1)
        for number in range(size.policies)
    )
    PolicyVersion.objects.bulk_create(
        PolicyVersion(policy=policy, number=1, document=policy.document) for policy in policies
    )
    ClientKey.objects.bulk_create(
        ClientKey(prefix=f"gw-{number:012}", name=f"key {number}", digest="00" * 32, pepper_id="p", scopes=["generate"])
        for number in range(size.client_keys)
    )


def _model_id(number: int) -> str:
    return f"vendor-{number % 50}/model-{number:04}"


def _document(number: int, offered: list[str], chance: Random) -> dict[str, Any]:
    """Every second policy lists its targets; the others take whatever has what they demand."""
    if number % 2 == 0:
        targets = [{"model": name} for name in chance.sample(offered, min(5, len(offered)))]
        return {"targets": targets, "strategy": "priority", "fallbacks": chance.sample(offered, min(2, len(offered)))}
    demanded = {"capabilities": sorted(chance.sample(_CAPABILITIES, 2)), "max_cost_tier": "HIGH"}
    return {"requirements": demanded, "strategy": ("balanced", "cost_optimized", "priority")[number % 3]}


# --- The questions ----------------------------------------------------------------------------------------------------------


def questions(held: Any) -> Iterator[tuple[str, Callable[[Random], dict[str, Any]]]]:
    """Each sort of question with what a request of it says."""
    named = sorted(held.by_name)
    policies = sorted(name for name in held.policies if "/" not in name)
    listed, demanding = policies[::2], policies[1::2]
    yield "policy with targets", lambda chance: {"model": chance.choice(listed)}
    yield "policy that demands", lambda chance: {"model": chance.choice(demanding)}
    yield "model", lambda chance: {"model": chance.choice(named)}
    yield "no name", lambda chance: {}
    yield "no name, with demands", lambda chance: {"capabilities": frozenset({chance.choice(_CAPABILITIES)})}
    yield "a limit of cost", lambda chance: {"model": chance.choice(demanding), "max_cost": chance.choice(_LIMITS)}
    yield "unknown name", lambda chance: {"model": f"{chance.choice(named)}x"}


_LIMITS: list[Any] = []


def _conditions(held: Any, chance: Random) -> Any:
    """A few hundred routes were called lately, some of them are out."""
    from routing.types import Conditions, RouteCondition

    routes = {}
    for model in chance.sample(held.models, min(300, len(held.models))):
        out = chance.random() < 0.1
        routes[model.route] = RouteCondition(
            breaker="open" if out else "closed",
            retry_at=2e9 if out else None,
            calls=chance.randint(1, 1000),
            success_rate=chance.random(),
            latency_seconds=chance.random() * 3,
        )
    return Conditions(routes)


def measure_question(held: Any, told: Callable[[Random], dict[str, Any]], count: int) -> dict[str, float]:
    """Conditions change every hundred decisions, about as often as they do under load."""
    from decimal import Decimal

    from routing.decide import decide
    from routing.types import RequestFacts

    _LIMITS[:] = [Decimal("0.0001"), Decimal("0.01"), Decimal(1)]
    chance = Random(SEED)
    every = [RequestFacts(prompt_bytes=chance.randint(10, 60_000), **told(chance)) for _ in range(count)]
    conditions = _conditions(held, chance)
    taken, computed = [], []
    for number, facts in enumerate(every):
        if number % 100 == 0:
            conditions = _conditions(held, chance)
        drawn = chance.random()
        begun, began = time.perf_counter(), time.thread_time()
        decide(facts, held, conditions, now=1e9, chance=drawn)
        computed.append(time.thread_time() - began)
        taken.append(time.perf_counter() - begun)
    taken.sort()
    computed.sort()
    return {
        "cpu_p99_us": 1e6 * computed[int(len(computed) * 0.99)],
        "p50_us": 1e6 * taken[len(taken) // 2],
        "p99_us": 1e6 * taken[int(len(taken) * 0.99)],
        "worst_us": 1e6 * taken[-1],
        "per_second": len(taken) / sum(taken),
    }


async def measure_builds(build: Callable[[], Any], times: int) -> dict[str, float]:
    """As the data plane does it: in a thread, while the loop goes on. The median of the builds, the worst lag of all."""
    taken, lags = [], [0.0]
    for _ in range(times):
        begun = time.perf_counter()
        building = asyncio.create_task(asyncio.to_thread(build))
        while not building.done():
            slept = time.perf_counter()
            await asyncio.sleep(_TICK_SECONDS)
            lags.append(time.perf_counter() - slept - _TICK_SECONDS)
        await building
        taken.append(time.perf_counter() - begun)
    return {"build_seconds": sorted(taken)[len(taken) // 2], "lag_ms": 1e3 * max(lags)}


if __name__ == "__main__":
    main(Size(**json.loads(sys.argv[1])), Path(sys.argv[2]))
