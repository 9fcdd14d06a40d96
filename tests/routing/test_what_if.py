"""What would have to change for a model to win. Each hint is followed by hand here, and the model wins."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.secrets import Secret
from routing import filters, remedies, strategies
from routing.decide import decide
from routing.types import NOMINAL, Conditions, Dropped, Prices, RouteCondition, UpstreamKey
from routing.what_if import what_would_change
from tests.routing.policy_snapshots import with_policies
from tests.routing.views import A_KEY, facts, model, provider, snapshot

NOW = 1_000.0
WANTED = "azure/gpt-4o"
CHEAP, DEAR = Prices(Decimal("0.15"), Decimal("0.60")), Prices(Decimal("2.50"), Decimal("10"))


def first(asked, held, conditions=NOMINAL):
    candidates = decide(asked, held, conditions, now=NOW).candidates
    return candidates[0].model.route if candidates else ""


def hint(asked, held, conditions=NOMINAL, wanted=WANTED):
    told = what_would_change(asked, held, conditions, wanted, now=NOW)
    json.dumps(told, allow_nan=False)
    return told


def remedies_of(told):
    return [step["remedy"] for step in told["steps"]] + [way["remedy"] for way in told["ways"]]


@dataclass
class Case:
    """A model that is kept out: what asks, what the model and its provider are, and what its policy demands.

    The members after `says` are what the hint says to change.
    """

    reason: str
    says: str
    asks: Mapping[str, Any] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=dict)
    provider: Mapping[str, Any] = field(default_factory=dict)
    policy: Mapping[str, Any] = field(default_factory=dict)
    condition: RouteCondition = field(default_factory=RouteCondition)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    then_asks: Mapping[str, Any] = field(default_factory=dict)
    then_model: Mapping[str, Any] = field(default_factory=dict)
    then_provider: Mapping[str, Any] = field(default_factory=dict)
    then_policy: Mapping[str, Any] = field(default_factory=dict)
    then_condition: Mapping[str, Any] = field(default_factory=dict)
    then_defaults: Mapping[str, Any] = field(default_factory=dict)

    def world(self, followed: bool):
        def of(name: str) -> dict[str, Any]:
            return {**getattr(self, name), **(getattr(self, f"then_{name}") if followed else {})}

        own = replace(provider("azure"), **of("provider"))
        held = with_policies(
            model(of=own, **{"prices": DEAR, **of("model")}),
            policies={"writer": {"targets": ["gpt-4o"], **of("policy")}},
        )
        held = replace(held, defaults=replace(held.defaults, **of("defaults")))
        condition = replace(self.condition, **self.then_condition) if followed else self.condition
        return facts("writer", **of("asks")), held, Conditions({WANTED: condition})


EXPIRED = UpstreamKey(2, Secret("sk"), expires_at=NOW - 1)
CASES = [
    Case("provider_pinned", "Ask for the provider 'azure'", {"provider_id": "x"}, then_asks={"provider_id": "azure"}),
    Case(
        "model_not_allowed",
        "Add 'azure/gpt-4o' to the models",
        {"allowed": ("claude*",)},
        then_asks={"allowed": ("claude*", "azure/gpt-4o")},
    ),
    Case(
        "policy_not_allowed",
        "Add 'writer' to the policies",
        {"policies": ("other",)},
        then_asks={"policies": ("other", "writer")},
    ),
    Case(
        "provider_not_allowed",
        "Add 'azure' to the providers",
        {"providers": ("openai",)},
        then_asks={"providers": ("openai", "azure")},
    ),
    Case(
        "provider_type_off",
        "Switch providers of type openai on again",
        defaults={"barred_types": frozenset({"openai"})},
        then_defaults={"barred_types": frozenset()},
    ),
    Case(
        "unsupported_operation",
        "Declare the capability embedding",
        {"operation": "embeddings"},
        then_model={"capabilities": ("chat", "embedding")},
    ),
    Case("not_local", "provider azure is local", {"local_only": True}, then_provider={"local": True}),
    Case(
        "data_not_allowed",
        "Allow the provider azure data tagged pii",
        {"data_tags": frozenset({"pii"})},
        then_provider={"data_tags": frozenset({"pii"})},
    ),
    Case(
        "missing_capability",
        "Declare the capability tools",
        policy={"requirements": {"capabilities": ["tools"]}},
        then_model={"capabilities": ("chat", "tools")},
    ),
    Case(
        "missing_vision",
        "Declare the capability vision",
        {"images": 1},
        then_model={"capabilities": ("chat", "vision")},
    ),
    Case(
        "missing_reasoning",
        "Declare the capability reasoning",
        policy={"requirements": {"reasoning": True}},
        then_model={"capabilities": ("chat", "reasoning")},
    ),
    Case("other_task", "Add the task vision", {"task": "vision"}, then_model={"tasks": frozenset({"vision"})}),
    Case(
        "cost_tier",
        "Allow the tier PREMIUM (the policy writer allows LOW)",
        model={"cost_tier": "PREMIUM"},
        policy={"requirements": {"max_cost_tier": "LOW"}},
        then_policy={"requirements": {"max_cost_tier": "PREMIUM"}},
    ),
    Case(
        "context_window",
        "Lower min_context_window of the policy writer to 4096",
        model={"context_window": 4096},
        policy={"requirements": {"min_context_window": 8000}},
        then_policy={"requirements": {"min_context_window": 4096}},
    ),
    Case(
        "prompt_too_long",
        "Shorten the prompt of about 10,000 tokens to below 8,192",
        {"prompt_bytes": 40_000},
        model={"context_window": 8192},
        then_asks={"prompt_bytes": 8191 * 4},
    ),
    Case(
        "price_unknown",
        "Enter the model's prices",
        {"max_cost": Decimal("0.1")},
        model={"prices": Prices()},
        then_model={"prices": CHEAP},
    ),
    Case(
        "max_cost",
        "Raise max_cost to 0.0125 USD (the request allows 0.01)",
        {"max_cost": Decimal("0.01"), "input_tokens": 3000},
        then_asks={"max_cost": Decimal("0.0125")},
    ),
    Case(
        "no_usable_key",
        "Store a key for the provider azure",
        provider={"keys": (EXPIRED,)},
        then_provider={"keys": (EXPIRED, A_KEY)},
    ),
    Case(
        "auto_disabled",
        "Switch the model on again",
        model={"auto_disabled": "5 failures"},
        then_model={"auto_disabled": ""},
    ),
    Case(
        "keys_exhausted",
        "Store another key for the provider azure, or wait 60 s",
        condition=RouteCondition(keys_back_at=NOW + 60),
        then_condition={"keys_back_at": NOW},
    ),
    Case(
        "breaker_open",
        "Reset the breaker, or wait 34 s",
        condition=RouteCondition(breaker="open", retry_at=NOW + 33.5),
        then_condition={"breaker": "closed"},
    ),
]


@pytest.mark.parametrize("case", CASES, ids=[case.reason for case in CASES])
def test_the_remedy_of_each_rule_lets_the_model_win(case: Case) -> None:
    told = hint(*case.world(followed=False))
    assert [step["reason"] for step in told["steps"]] == [case.reason]
    assert case.says in told["steps"][0]["remedy"]
    assert (told["verdict"], told["wins"], told["place_then"]) == ("dropped", True, 1)
    assert first(*case.world(followed=False)) != WANTED
    assert first(*case.world(followed=True)) == WANTED


def test_every_rule_has_a_remedy() -> None:
    told = set(re.findall(r'Dropped\(\s*model\.route,\s*"(\w+)"', inspect.getsource(filters)))
    assert told == {case.reason for case in CASES}
    assert remedies.REMEDIES.keys() == told | {"other_embedding"}


def test_all_reasons_are_told_and_not_only_the_first() -> None:
    held = with_policies(
        model(of=provider("azure"), context_window=1000, prices=DEAR),
        policies={"writer": {"targets": ["gpt-4o"], "requirements": {"capabilities": ["tools"]}}},
    )
    asked = facts("writer", prompt_bytes=40_000, max_cost=Decimal("0.000001"))
    conditions = Conditions({WANTED: RouteCondition(breaker="open", retry_at=NOW + 9)})
    told = hint(asked, held, conditions)
    assert [step["reason"] for step in told["steps"]] == [
        "missing_capability",
        "prompt_too_long",
        "max_cost",
        "breaker_open",
    ]
    assert told["sentence"] == "4 reasons keep azure/gpt-4o out. Without them it would be chosen."


# --- Outranked --------------------------------------------------------------------------------------------------------------


def two(**azure: Any):
    azure = {"priority": 2, "prices": DEAR, **azure}
    return snapshot(
        model(of=provider("openai", priority=1), prices=DEAR),
        model(of=provider("azure", priority=azure.pop("priority")), **azure),
    )


def test_what_is_first_needs_nothing() -> None:
    told = hint(facts(), two(), wanted="openai/gpt-4o")
    assert (told["verdict"], told["place"], told["wins"]) == ("first", 1, True)
    assert told["steps"] == told["ways"] == []


def test_a_higher_priority_number_is_lowered_no_further_than_it_has_to_be() -> None:
    told = hint(facts(), two())
    assert "Lower the priority number of the provider azure from 2 to 0." in remedies_of(told)
    assert first(facts(), two(priority=1)) == "openai/gpt-4o"
    assert first(facts(), two(priority=0)) == WANTED

    assert "Lower the priority number of the provider azure from 2 to 1." in remedies_of(
        hint(facts(), two(prices=CHEAP))
    )
    assert first(facts(), two(priority=1, prices=CHEAP)) == WANTED


def test_among_equals_the_price_is_told_that_would_be_low_enough() -> None:
    told = hint(facts(), two(priority=1))
    held = two(priority=1, prices=Prices(Decimal("3"), Decimal("10")))
    said = "Its price of a million tokens in and a million out (13 USD) would have to be below 12.50."
    assert said in remedies_of(hint(facts(), held))
    assert first(facts(), two(priority=1, prices=Prices(Decimal("2.49"), Decimal("10")))) == WANTED
    assert told["wins"]


def test_a_preferred_model_always_wins_without_an_override() -> None:
    told = hint(facts(), two())
    assert "Send preferred_model 'azure/gpt-4o'." in remedies_of(told)
    assert first(facts(preferred_model=WANTED), two()) == WANTED


def test_against_an_override_only_the_override_helps() -> None:
    held = with_policies(
        model(of=provider("openai", priority=1)),
        model(of=provider("azure", priority=2)),
        policies={"writer": {"targets": ["gpt-4o"]}},
        overrides={"writer": ("openai/gpt-4o", None)},
    )
    told = hint(facts("writer"), held)
    assert told["sentence"] == "azure/gpt-4o may serve, and openai/gpt-4o comes first by an override."
    assert remedies_of(told) == ["Let the override of the policy writer name 'azure/gpt-4o'."]


def test_a_model_that_the_policy_does_not_mean_is_to_be_made_a_target() -> None:
    held = with_policies(
        model("claude", of=provider("openai", priority=1)),
        model(of=provider("azure", priority=2)),
        policies={"writer": {"targets": ["claude"]}},
    )
    told = hint(facts("writer"), held)
    assert (told["verdict"], told["place_then"]) == ("not_meant", 2)
    assert told["steps"][0]["remedy"] == "Add 'azure/gpt-4o' to the targets of the policy writer."
    assert told["wins"]


def test_a_model_that_the_request_does_not_name_is_to_be_asked_for() -> None:
    held = snapshot(model("claude", of=provider("openai")), model(of=provider("azure")))
    told = hint(facts("claude"), held)
    assert remedies_of(told) == ["Ask for the model 'azure/gpt-4o'."]
    assert told["place_then"] == 1
    assert hint(facts("unheard-of"), held)["wins"]


def test_a_fallback_is_to_be_made_a_target() -> None:
    held = with_policies(
        model("claude", of=provider("openai", priority=2)),
        model(of=provider("azure", priority=1)),
        policies={"writer": {"targets": ["claude"], "fallbacks": ["gpt-4o"]}},
    )
    assert "Make 'azure/gpt-4o' a target of the policy writer." in remedies_of(hint(facts("writer"), held))


def test_without_fallback_the_second_is_outranked_and_not_kept_out() -> None:
    held = two()
    held = replace(held, defaults=replace(held.defaults, fallback_enabled=False))
    told = hint(facts(), held)
    assert (told["verdict"], told["steps"], told["wins"]) == ("outranked", [], True)


def test_the_latency_that_would_be_low_enough_is_found() -> None:
    held = with_policies(
        model(of=provider("openai")),
        model(of=provider("azure")),
        policies={"writer": {"targets": ["gpt-4o"], "strategy": "lowest_latency"}},
    )

    def conditions(ours: float) -> Conditions:
        seen = {"openai/gpt-4o": 0.5, WANTED: ours}
        return Conditions({route: RouteCondition(calls=9, latency_seconds=it) for route, it in seen.items()})

    told = hint(facts("writer"), held, conditions(2.0))
    (said,) = [one for one in remedies_of(told) if "answer in" in one]
    assert said == "It would have to answer in 0.5 s instead of 2 s."
    assert first(facts("writer"), held, conditions(0.499)) == WANTED


def test_vectors_of_another_model_are_to_be_asked_for_by_name() -> None:
    held = with_policies(
        model("small", of=provider("openai", priority=1), model_type="embedding", dimension=768),
        model("gpt-4o", of=provider("azure", priority=2), model_type="embedding", dimension=1536),
        policies={"search": {"targets": ["small", "gpt-4o"]}},
    )
    told = hint(facts("search", "embeddings"), held)
    assert [step["reason"] for step in told["steps"]] == ["other_embedding"]
    assert told["wins"]
    told = hint(facts("search", "embeddings", preferred_model="small"), held)
    assert "by name and prefer no other" in told["steps"][0]["remedy"]
    assert told["wins"]


def test_of_a_large_pool_only_those_in_front_are_tried_again() -> None:
    crowd = [model(f"m{n}", of=provider(f"p{n % 30}", 1), prices=DEAR) for n in range(600)]
    held = with_policies(*crowd, model(of=provider("azure", 3), prices=DEAR), policies={"any": {}})
    told = hint(facts("any"), held)
    assert (told["verdict"], told["place"], told["wins"]) == ("outranked", 601, True)
    assert "Lower the priority number of the provider azure from 3 to 0." in remedies_of(told)
    told = hint(facts("any", require_vision=True), held)
    assert [step["reason"] for step in told["steps"]] == ["missing_vision"]
    assert told["wins"]


# --- Names ------------------------------------------------------------------------------------------------------------------


def test_a_name_that_nothing_has_is_unknown() -> None:
    assert hint(facts(), two(), wanted="gpt-99")["verdict"] == "unknown"


def test_a_model_that_is_switched_off_says_so() -> None:
    held = replace(two(), out_of_service={"old": (Dropped("azure/old", "disabled", "the model is disabled"),)})
    told = hint(facts(), held, wanted="old")
    assert (told["verdict"], told["wins"]) == ("disabled", False)
    assert told["steps"][0]["remedy"] == "Switch it on again."


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "c"]),
            st.sampled_from(["m", "n"]),
            st.integers(1, 3),
            st.sampled_from([(), ("vision",), ("tools", "vision")]),
            st.sampled_from([None, 1000, 100_000]),
            st.sampled_from([Prices(), CHEAP, DEAR]),
            st.sampled_from(["closed", "open", "half_open"]),
        ),
        unique_by=lambda row: row[:2],
        min_size=1,
        max_size=5,
    ),
    st.sampled_from(strategies.names()),
    st.booleans(),
    st.sampled_from([0, 10_000]),
    st.fixed_dictionaries(
        {},
        optional={
            "max_cost": st.just(Decimal("0.001")),
            "preferred_model": st.sampled_from(["m", "n", "gone"]),
            "allowed": st.sampled_from([("m",), ("p",), ("x",)]),
            "provider_id": st.sampled_from(["a", "x"]),
            "operation": st.just("embeddings"),
        },
    ),
    st.booleans(),
    st.booleans(),
)
def test_whatever_is_asked_a_way_is_found_for_each_model(
    rows, strategy, vision, prompt_bytes, wishes, overridden, fallback
) -> None:
    models = [
        model(model_id, of=provider(of, rank), capabilities=can, context_window=window, prices=prices)
        for of, model_id, rank, can, window, prices, _ in rows
    ]
    conditions = Conditions(
        {f"{row[0]}/{row[1]}": RouteCondition(breaker=row[-1], retry_at=NOW + 5, calls=3) for row in rows}
    )
    held = with_policies(
        *models,
        policies={"p": {"targets": ["m"], "strategy": strategy}},
        overrides={"p": (models[0].route, None)} if overridden else None,
    )
    held = replace(held, defaults=replace(held.defaults, fallback_enabled=fallback))
    asked = facts("p", require_vision=vision, prompt_bytes=prompt_bytes, **wishes)
    for one in models:
        told = hint(asked, held, conditions, wanted=one.route)
        assert told["wins"], told
        assert all(step["remedy"] for step in told["steps"])
