"""What an explanation tells, and what is kept of it."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal

from routing import explain
from routing.decide import decide
from routing.types import NOMINAL, Conditions, Prices, RouteCondition
from tests.routing.policy_snapshots import with_policies
from tests.routing.views import facts, model, provider, snapshot

DEAR = Prices(Decimal("2.50"), Decimal("10"))
NOW = 1_800_000_000.0


def explained(asked, registry, conditions=NOMINAL, now=NOW, **rest):
    return explain.document(asked, decide(asked, registry, conditions, now=now), registry, conditions, now=now, **rest)


def two_providers():
    return snapshot(
        model(of=provider("openai", priority=1), prices=DEAR), model(of=provider("azure", priority=2), prices=DEAR)
    )


def test_it_tells_candidates_in_order_with_the_reason_for_each():
    told = explained(facts(prompt_bytes=4000, max_output_tokens=500), two_providers())
    assert [one["route"] for one in told["candidates"]] == ["openai/gpt-4o", "azure/gpt-4o"]
    assert told["candidates"][0]["reason"] == "first by priority"
    assert told["candidates"][1]["reason"] == "its provider's priority is 2, the first one's 1"
    assert told["estimate"] == {"input_tokens": 1000, "output_tokens": 500, "cost_usd": 0.0075}


def test_it_tells_what_policy_and_request_demand_together():
    held = with_policies(
        model(of=provider(), capabilities=("chat", "vision", "tools"), prices=DEAR),
        policies={"writer": {"requirements": {"capabilities": ["tools"], "max_cost_tier": "HIGH"}, "max_cost": "0.5"}},
    )
    told = explained(facts("writer", images=1, max_cost=Decimal("0.2")), held)
    assert told["demands"] == {
        "capabilities": ["tools"],
        "max_cost_tier": "HIGH",
        "vision": True,
        "max_cost_usd": 0.2,
    }


def test_of_a_draw_each_share_is_told():
    held = with_policies(
        model(of=provider("openai")),
        model("claude", of=provider("anthropic")),
        policies={"p": {"targets": [{"model": "gpt-4o", "weight": 3}, "claude"], "strategy": "weighted"}},
    )
    told = explained(facts("p"), held)
    assert told["candidates"][1]["reason"] == "drawn by chance: 25.0% of the requests begin with it"


def test_it_is_json():
    json.dumps(explained(facts(max_cost=Decimal("0.01")), two_providers()), allow_nan=False)


def test_it_tells_what_was_dropped_and_when_it_is_back():
    conditions = Conditions({"openai/gpt-4o": RouteCondition(breaker="open", retry_at=NOW + 34, failures=5)})
    told = explained(facts(), two_providers(), conditions)
    (dropped,) = told["dropped"]
    assert (dropped["route"], dropped["reason"]) == ("openai/gpt-4o", "breaker_open")
    assert dropped["back_at"] == "2027-01-15T08:00:34.000Z"


def test_what_is_kept_is_the_same_for_another_prompt_at_another_time():
    registry = two_providers()
    one = explained(facts(prompt_bytes=10), registry)
    other = explained(facts(prompt_bytes=5000, max_output_tokens=7), registry, now=NOW + 60)
    assert one != other
    assert explain.digest(one) == explain.digest(other)
    assert explain.kept(one) == explain.kept(other)


def test_what_is_kept_differs_when_the_order_does():
    registry = two_providers()
    conditions = Conditions({"openai/gpt-4o": RouteCondition(breaker="open", retry_at=NOW + 34)})
    assert explain.digest(explained(facts(), registry)) != explain.digest(explained(facts(), registry, conditions))


def test_small_changes_of_latency_do_not_make_another_digest():
    def with_latency(seconds):
        conditions = Conditions({"openai/gpt-4o": RouteCondition(latency_seconds=seconds)})
        return explain.digest(explained(facts(), two_providers(), conditions))

    assert with_latency(0.402) == with_latency(0.398)
    assert with_latency(0.4) != with_latency(4.0)


def test_scores_that_are_measured_do_not_make_another_digest_at_every_call():
    held = with_policies(
        model(of=provider("openai")),
        model(of=provider("azure")),
        policies={"writer": {"targets": ["gpt-4o"], "strategy": "balanced"}},
    )

    def kept(latency):
        seen = {"openai/gpt-4o": 0.5, "azure/gpt-4o": latency}
        routes = {name: RouteCondition(calls=9, success_rate=1.0, latency_seconds=it) for name, it in seen.items()}
        return explain.kept(explained(facts("writer"), held, Conditions(routes)))

    assert kept(0.801) == kept(0.804)
    assert kept(0.8)["candidates"][1]["reason"] == "fewer points than the first"


def test_a_session_that_sticks_has_no_digest_of_its_own():
    held = with_policies(
        model(of=provider("openai")),
        model(of=provider("azure")),
        policies={"writer": {"targets": ["gpt-4o"], "strategy": "session_sticky"}},
    )
    digests = {explain.digest(explained(facts("writer", session_id=f"s{n}"), held)) for n in range(50)}
    assert len(digests) == 2


def test_what_is_cut_off_is_counted():
    registry = snapshot(*(model(f"m{n}", capabilities=("chat",)) for n in range(5)))
    told = explained(replace(facts("", capabilities=frozenset({"vision"}))), registry, most=2)
    assert len(told["dropped"]) == 2
    assert told["left_out"] == {"candidates": 0, "dropped": 3}
    assert told["dropped_by_reason"] == {"missing_capability": 5}


def test_what_is_kept_of_thousands_is_bounded():
    registry = snapshot(*(model(f"m{n}") for n in range(250)))
    told = explained(facts(""), registry)
    assert len(told["candidates"]) + told["left_out"]["candidates"] + told["left_out"]["dropped"] == 250
    kept = explain.kept({**told, "candidates": told["candidates"] * 5})
    assert len(kept["candidates"]) == explain.MOST_KEPT


def test_a_caller_is_not_told_of_models_that_its_key_may_not_use():
    registry = snapshot(model("gpt-4o"), model("secret-model", of=provider("internal")))
    asked = facts("", allowed=("gpt-*",))
    told = explained(asked, registry)
    assert "secret-model" in json.dumps(told)
    shown = explain.for_caller(told, asked.identity, registry)
    assert "secret-model" not in json.dumps(shown)
    assert "internal" not in json.dumps(shown)
    assert shown["left_out"]["dropped"] == 0


def test_nor_of_what_an_override_puts_in_place_of_them():
    registry = with_policies(
        model("gpt-4o"),
        model("secret-model"),
        policies={"writer": {"targets": ["gpt-4o"]}},
        overrides={"writer": ("secret-model", None)},
    )
    for allowed, knows in (("gpt-*", False), ("writer", True), ("*", True)):
        asked = facts("writer", allowed=(allowed,))
        shown = explain.for_caller(explained(asked, registry), asked.identity, registry)
        assert ("secret-model" in json.dumps(shown)) is knows


def test_a_model_that_is_dropped_for_another_reason_is_hidden_as_well():
    registry = snapshot(model("gpt-4o", of=provider("openai")), model("gpt-4o", of=provider("internal")))
    asked = facts(allowed=("openai/*",), provider_id="openai")
    told = explained(asked, registry)
    assert [one["reason"] for one in told["dropped"]] == ["provider_pinned"]
    assert explain.for_caller(told, asked.identity, registry)["dropped"] == []


def test_a_key_that_is_allowed_a_policy_is_told_of_its_models():
    held = with_policies(
        model("gpt-4o"), model("small", context_window=10), policies={"writer": {"targets": ["gpt-4o", "small"]}}
    )
    asked = facts("writer", allowed=("writer",), prompt_bytes=1000)
    shown = explain.for_caller(explained(asked, held), asked.identity, held)
    assert [one["route"] for one in shown["dropped"]] == ["openai/small"]


def test_no_secret_of_a_provider_is_in_it():
    told = explained(facts(), two_providers())
    assert '"sk"' not in json.dumps(told)
    assert told["candidates"][0]["keys"] == [{"key_id": 1, "share": 1.0}]
