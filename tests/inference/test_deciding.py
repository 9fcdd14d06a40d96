"""When a decision may stand for another request, and when it is made anew."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest

from inference import deciding
from inference.deciding import rule
from inference.wire.openai import CHAT, EMBEDDINGS, parse
from routing import health
from routing.types import Conditions, Identity, RouteCondition
from tests.inference import registry


@pytest.fixture
def held(monkeypatch):
    monkeypatch.setattr(deciding, "time", lambda: 1_000.5)
    small = registry.model(registry.provider("a"), "m", context_window=1_000)
    large = registry.model(registry.provider("b", priority=200), "m", context_window=100_000)
    return registry.snapshot(
        small,
        large,
        documents={"drawn": {"targets": [{"model": "a/m"}, {"model": "b/m"}], "strategy": "weighted"}},
    )


def asked(text: str = "hi", **members):
    return parse(CHAT, orjson.dumps({"model": "m", "messages": [{"role": "user", "content": text}], **members}))


def test_requests_alike_share_a_ruling(held) -> None:
    assert rule(asked("one"), None, held) is rule(asked("two", temperature=1, stream=True), None, held)


@pytest.mark.parametrize(
    "members",
    [
        {"model": "a/m"},
        {"provider_id": "b"},
        {"preferred_model": "b/m"},
        {"require_vision": True},
        {"task": "vision"},
        {"max_cost": 1},
    ],
)
def test_requests_that_wish_differently_do_not(held, members) -> None:
    assert rule(asked(), None, held) is not rule(asked(**members), None, held)


def test_a_decision_by_an_older_registry_is_not_remembered_under_the_one_that_came_meanwhile(held, monkeypatch) -> None:
    """As when a thread asks by the newer one while another still decides by the older."""
    newer, decide = replace(held), deciding._ruling

    def meanwhile(facts, snapshot, *more):
        if snapshot is held:
            rule(asked(provider_id="b"), None, newer)
        return decide(facts, snapshot, *more)

    monkeypatch.setattr(deciding, "_ruling", meanwhile)
    rule(asked(), None, held)
    assert rule(asked(), None, newer).snapshot is newer


def test_a_limit_of_cost_is_weighed_each_time(held) -> None:
    assert rule(asked(max_cost=1), None, held) is not rule(asked(max_cost=1), None, held)


def test_what_chance_decides_is_drawn_each_time(held) -> None:
    drawn = {rule(asked(model="drawn"), None, held).candidates[0].model.route for _ in range(200)}
    assert drawn == {"a/m", "b/m"}


def test_a_prompt_that_may_not_fit_is_looked_at_itself(held) -> None:
    short = rule(asked(), None, held)
    long = rule(asked("words " * 2_000), None, held)
    assert [one.model.route for one in short.candidates] == ["a/m", "b/m"]
    assert [one.model.route for one in long.candidates] == ["b/m"]
    assert rule(asked(), None, held) is short


def test_another_operation_and_another_key_ask_anew(held) -> None:
    first = rule(asked(), None, held)
    assert rule(parse(EMBEDDINGS, b'{"model":"m","input":"x"}'), None, held) is not first
    for limits in ((("b/m",),), (None, ("drawn",)), (None, None, ("b",))):
        ruling = rule(asked(), Identity(1, "gw-1", "t", frozenset(), *limits), held)
        assert ruling is not first
        assert [one.model.route for one in ruling.candidates] == ([] if limits[-1] == ("drawn",) else ["b/m"])


def test_a_new_registry_new_conditions_and_a_new_second_end_it(held, monkeypatch) -> None:
    first = rule(asked(), None, held)
    second = rule(asked(), None, replace(held, revision=2))
    assert second is not first
    monkeypatch.setattr(deciding, "time", lambda: 1_001.5)
    third = rule(asked(), None, held)
    assert third is not first
    opened = Conditions({"a/m": RouteCondition(breaker="open", retry_at=2_000.0)})
    monkeypatch.setattr(health.current(), "conditions", lambda: opened)
    assert [one.model.route for one in rule(asked(), None, held).candidates] == ["b/m"]
