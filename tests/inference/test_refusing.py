"""Why nobody serves: each reason has its own code."""

from __future__ import annotations

from decimal import Decimal

import pytest

from inference.refusing import refusal
from routing.decide import decide
from routing.types import NOMINAL, Conditions, Dropped, Identity, Prices, RequestFacts, RouteCondition
from tests.inference import registry

NOW = 1_000.0


def refused(*models, conditions: Conditions = NOMINAL, snapshot=None, **asked):
    facts = RequestFacts(**{"model": "m", "prompt_bytes": 400, **asked})
    decision = decide(facts, snapshot or registry.snapshot(*models), conditions, now=NOW)
    assert decision.candidates == ()
    return refusal(facts, decision, NOW)


def model(model_id="m", **more):
    return registry.model(registry.provider(**more.pop("of", {})), model_id, **more)


@pytest.mark.parametrize(
    ("its", "asked", "expected"),
    [
        ({}, {"max_cost": Decimal("0.000001")}, (400, "max_cost_exceeded", "max_cost")),
        ({"prices": Prices()}, {"max_cost": Decimal(5)}, (400, "max_cost_exceeded", "max_cost")),
        ({}, {"require_vision": True}, (400, "unsupported_capability", "model")),
        ({}, {"images": 1}, (400, "unsupported_capability", "model")),
        ({}, {"capabilities": frozenset({"tools"})}, (400, "unsupported_capability", "model")),
        ({}, {"task": "vision"}, (400, "unsupported_capability", "model")),
        ({}, {"operation": "embeddings"}, (400, "unsupported_capability", "model")),
        ({"context_window": 50}, {}, (400, "context_length_exceeded", "messages")),
        ({}, {"local_only": True}, (403, "not_local", None)),
        ({}, {"data_tags": frozenset({"pii"})}, (403, "data_not_allowed", None)),
        ({}, {"provider_id": "other"}, (404, "model_not_found", "provider_id")),
        ({"auto_disabled": "six failures in a row"}, {}, (503, "no_healthy_target", None)),
        ({"of": {"lacks_key": True}}, {}, (503, "no_healthy_target", None)),
    ],
)
def test_the_code_says_what_is_in_the_way(its, asked, expected) -> None:
    error = refused(model(**its), **asked)
    assert (error.status, error.code, error.param) == expected


def test_what_is_missing_is_named() -> None:
    assert "tools" in refused(model(), capabilities=frozenset({"tools"})).message
    assert "pictures" in refused(model(), images=1).message


def test_a_task_that_nothing_is_meant_for_is_told_apart_from_one_whose_models_lack_something() -> None:
    smart = model("b", tasks=frozenset({"chat_smart"}))
    error = refused(model("a"), smart, model="", task="audio")
    assert (error.param, error.message) == ("task", "No model is meant for the task 'audio'.")
    error = refused(model("a"), smart, model="", task="chat_smart", images=1)
    assert error.message == "No model for the task 'chat_smart' can serve this request: it cannot see pictures."


def test_an_unknown_price_is_said_to_be_unknown() -> None:
    assert "not known" in refused(model(prices=Prices()), max_cost=Decimal(5)).message


def test_the_model_that_came_furthest_says_why() -> None:
    blind, dear = model("a"), model("b", capabilities=frozenset({"chat", "vision"}))
    error = refused(blind, dear, model="", require_vision=True, max_cost=Decimal("0.000001"))
    assert error.code == "max_cost_exceeded"


def test_a_model_that_is_only_away_goes_before_one_that_never_could() -> None:
    away = Conditions({"fake/b": RouteCondition(breaker="open", retry_at=NOW + 7.5)})
    seeing = model("b", capabilities=frozenset({"chat", "vision"}))
    error = refused(model("a"), seeing, conditions=away, model="", require_vision=True)
    assert (error.status, error.code, error.retry_after) == (503, "no_healthy_target", 7.5)


def test_the_soonest_return_is_told_and_never_less_than_a_second() -> None:
    conditions = Conditions(
        {
            "fake/m": RouteCondition(breaker="open", retry_at=NOW + 30),
            "b/m": RouteCondition(keys_back_at=NOW + 0.2),
        }
    )
    other = registry.model(registry.provider("b"), "m")
    assert refused(model(), other, conditions=conditions).retry_after == 1.0


def test_a_model_that_the_key_may_not_use_looks_like_none() -> None:
    identity = Identity(1, "gw-1", "t", frozenset(), ("other-*",))
    hidden = refused(model(), identity=identity)
    unknown = refused(model("x"), identity=identity)
    assert (hidden.status, hidden.code, hidden.message) == (unknown.status, unknown.code, unknown.message)


def test_a_model_that_is_switched_off_is_said_to_be_so_to_those_who_may_use_it() -> None:
    off = {"m": (Dropped("fake/m", "disabled", "the model is disabled"),)}
    held = registry.snapshot(model("x"), out_of_service=off)
    assert (refused(snapshot=held).status, refused(snapshot=held).code) == (404, "model_not_found")
    assert "switched off" in refused(snapshot=held).message
    stranger = Identity(1, "gw-1", "t", frozenset(), ("x",))
    assert "switched off" not in refused(snapshot=held, identity=stranger).message
