"""A set of prompts, each asked of both sides and both answers kept: the parallel run's comparison without live traffic.

A line is a JSON object: `{"model", "prompt"}`, or a body of `/v1/chat/completions`. The day's money for copies pays for both
answers; when it is used up the rest is not asked.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from time import time
from typing import Any

import orjson
from django.db import connections

from inference import loop as bridge
from inference import shadow_asking, shadow_budget, shadow_pairs
from inference.request_ids import new_request_id
from inference.shadow_asking import Heard, LegacyWay, Question, model_of
from inference.shadow_budget import Budget, StoreAway
from inference.shadow_pairs import Compared, ShadowPair
from inference.shadow_texts import Asked, Unreadable, asked
from routing.types import RolloutView, Snapshot

PATH = "/v1/chat/completions"
AT_ONCE = 4
ANSWER_SECONDS = 120.0


class BadLine(Exception):
    """A line of the set cannot be asked; the text says which and why, and not what it holds."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one prompt: `stored`, `cap_reached` or `store_away`; with the pair where there is one."""

    number: int
    status: str
    pair_id: int | None = None
    equal: bool = False
    similarity: float | None = None


def read(lines: Iterable[str], *, default_model: str = "") -> list[Asked]:
    """Raises `BadLine`; blank lines are skipped."""
    return list(_read(lines, default_model))


def run(
    prompts: list[Asked],
    rollout: RolloutView,
    registry: Snapshot,
    *,
    redis_url: str,
    label: str,
    progress: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """Ask both sides each prompt, a few at a time; the outcomes in the order of the prompts."""
    return bridge.run(_run(prompts, rollout, registry, redis_url, label, progress))


async def _run(
    prompts: list[Asked],
    rollout: RolloutView,
    registry: Snapshot,
    redis_url: str,
    label: str,
    progress: Callable[[Outcome], None],
) -> list[Outcome]:
    room, budget, way = asyncio.Semaphore(AT_ONCE), Budget(redis_url), LegacyWay()

    async def one(number: int, prompt: Asked) -> Outcome:
        async with room:
            outcome = await _compare(number, prompt, rollout, registry, budget, way, label)
        progress(outcome)
        return outcome

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(line, prompt)) for line, prompt in enumerate(prompts, 1)]
        return [task.result() for task in tasks]
    finally:
        way.close()
        await budget.aclose()


async def _compare(
    number: int,
    prompt: Asked,
    rollout: RolloutView,
    registry: Snapshot,
    budget: Budget,
    way: LegacyWay,
    label: str,
) -> Outcome:
    model = model_of(registry, prompt.model)
    most = shadow_budget.estimate(
        model, request_bytes=prompt.size, most_output_tokens=prompt.most_output_tokens, choices=prompt.choices
    )
    at = time()
    try:
        reservation = await budget.reserve(2 * most, rollout.shadow_daily_cap, at)
    except StoreAway:
        return Outcome(number, "store_away")
    if reservation is None:
        return Outcome(number, "cap_reached")
    costs = 2 * most
    try:
        here, there = await asyncio.gather(
            shadow_asking.of_gateway(prompt, registry, ANSWER_SECONDS),
            way.ask(rollout, _question(prompt), registry, ANSWER_SECONDS),
        )
        costs = sum((most if heard.counts is None else heard.counts for heard in (here, there)), start=0 * most)
    finally:
        await budget.settle(reservation, costs)
    return await _kept(number, prompt, here, there, at, label)


async def _kept(number: int, prompt: Asked, here: Heard, there: Heard, at: float, label: str) -> Outcome:
    pair = await asyncio.to_thread(
        _store,
        Compared(
            at=at,
            request_id="",
            answered_by="",
            path=PATH,
            model=prompt.model,
            request_text=prompt.text,
            gateway=here.answer,
            legacy=there.answer,
            run=label,
        ),
    )
    return Outcome(number, "stored", pair.pk, pair.equal, pair.similarity)


def _store(pair: Compared) -> ShadowPair:
    try:
        return shadow_pairs.store(pair)
    finally:
        connections.close_all()  # the thread may never be used again


def _question(prompt: Asked) -> Question:
    body = orjson.dumps(prompt.body)
    return Question(
        path=PATH,
        target=PATH.encode(),
        query=b"",
        headers=[(b"content-type", b"application/json")],
        address="",
        scheme="http",
        request_id=new_request_id(),
        body=body,
        asked=prompt,
    )


def _read(lines: Iterable[str], default_model: str) -> Iterator[Asked]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            told = json.loads(line)
        except ValueError:
            raise BadLine(f"Line {number} is not JSON.") from None
        if not isinstance(told, dict):
            raise BadLine(f"Line {number} is not a JSON object.")
        try:
            yield asked(PATH, orjson.dumps(_body(told, default_model)))
        except Unreadable as error:
            raise BadLine(f"Line {number} cannot be asked: {error}.") from None


def _body(told: dict[str, Any], default_model: str) -> dict[str, Any]:
    body = {"model": default_model, **told}
    prompt = body.pop("prompt", None)
    if isinstance(prompt, str) and prompt:
        body["messages"] = [{"role": "user", "content": prompt}]
    if not isinstance(body.get("messages"), list) or not body["messages"]:
        raise Unreadable("it holds neither a prompt nor messages")
    return body
