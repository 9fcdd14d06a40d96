"""What a policy decides: who goes first, who follows, and who is left out."""

from dataclasses import replace
from decimal import Decimal

import pytest

from routing import rollout, strategies
from routing.decide import decide
from routing.policy_documents import PolicyDocument, Requirements, Target
from routing.resolving import by_every_name, with_document
from routing.shortlists import ENOUGH
from routing.types import (
    Conditions,
    Dropped,
    OverrideView,
    PolicyTarget,
    Prices,
    RouteCondition,
    RoutingDefaults,
)
from tests.routing.views import facts, model, policy, provider, snapshot

NOW = 1_000.0
A, B, C, D = (model(name, of=provider(f"at-{name}")) for name in "abcd")
HELD = snapshot(A, B, C, D)
OPEN = RouteCondition(breaker="open", failures=5, retry_at=NOW + 30)


def of(*targets, **said):
    return PolicyDocument(targets=tuple(Target(name) for name in targets), **said)


def held(over=HELD, **documents):
    for name, document in documents.items():
        over = with_document(over, name, document, number=1)
    return over


def changed(over, name, **fields):
    return replace(over, policies={**over.policies, name: replace(over.policies[name], **fields)})


def override(*models, until=None):
    return OverrideView("x", tuple(PolicyTarget(each) for each in models), until)


def order(decision):
    return [candidate.model.model_id for candidate in decision.candidates]


def reasons(decision):
    return {dropped.route.partition("/")[2]: dropped.reason for dropped in decision.dropped}


def asked(over, name="p", conditions=None, chance=0.0, everything=False, **told):
    return decide(
        facts(name, **told), over, Conditions(conditions or {}), now=NOW, chance=chance, everything=everything
    )


# --- Order ------------------------------------------------------------------------------------------------------------------


def test_an_override_goes_before_a_wish_before_the_choice_before_its_chain_before_the_rest_before_the_fallbacks():
    models = [model(name, of=provider(f"at-{name}")) for name in ("over", "wish", "first", "chain", "rest", "last")]
    over = held(
        snapshot(*models),
        logical=of("first", fallbacks=("chain",)),
        p=of("logical", "rest", fallbacks=("last",)),
    )
    over = changed(over, "p", override=override(models[0]))
    decision = asked(over, preferred_model="wish")
    assert order(decision) == ["over", "wish", "first", "chain", "rest", "last"]
    assert [one.role for one in decision.candidates] == [
        "override",
        "preferred",
        "target",
        "fallback",
        "target",
        "fallback",
    ]
    assert decision.candidates[2].via == "logical"


def test_a_model_that_stands_in_several_places_is_asked_once_at_the_first():
    assert order(asked(held(p=of("a", "b", fallbacks=("b", "a", "c"))), preferred_model="b")) == ["b", "a", "c"]


def test_an_override_that_has_run_out_counts_no_more():
    over = changed(held(p=of("a")), "p", override=override(B, until=NOW))
    assert order(asked(over)) == ["a"]


def test_fallbacks_of_fallbacks_follow_and_a_circle_ends():
    over = held(first=of("a", fallbacks=("second",)), second=of("b", fallbacks=("first", "c")))
    assert order(asked(over, "first")) == ["a", "b", "c"]
    assert order(asked(over, "second")) == ["b", "a", "c"]


def test_policies_that_name_each_other_end():
    over = held(p=of("q", "a"), q=of("p", "b"))
    assert set(order(asked(over))) == {"a", "b"}


def test_without_fallback_only_the_first_is_asked():
    over = replace(held(p=of("a", "b")), defaults=RoutingDefaults(fallback_enabled=False))
    decision = asked(over)
    assert (order(decision), reasons(decision)) == (["a"], {"b": "fallback_off"})


def test_a_strategy_of_the_request_goes_before_the_policys():
    cheap = replace(B, cost_tier="LOW")
    over = held(snapshot(A, cheap), p=of("a", "b"))
    assert order(asked(over, strategy="cost_optimized")) == ["b", "a"]


# --- Wishes -----------------------------------------------------------------------------------------------------------------


def test_a_wish_that_is_out_leaves_the_policys_choice():
    assert order(asked(held(p=of("a")), preferred_model="b", conditions={B.route: OPEN})) == ["a"]


def test_a_wish_that_does_not_exist_is_said():
    decision = asked(held(p=of("a")), preferred_model="gone")
    assert order(decision) == ["a"]
    assert decision.notices == ("the preferred model 'gone' does not exist",)


def test_a_model_that_is_named_and_preferred_as_well_has_others_after_it():
    assert order(asked(HELD, "b", preferred_model="b")) == ["b", "a", "c", "d"]
    assert order(asked(HELD, "b", preferred_model="b", conditions={B.route: OPEN})) == ["a", "c", "d"]
    assert order(asked(HELD, "b", preferred_model="b", allowed=("b",))) == ["b"]
    assert order(asked(held(p=of("b")), preferred_model="p")) == ["b"]
    assert asked(HELD, "gone", preferred_model="gone").candidates == ()


def test_a_preferred_model_that_the_key_is_not_allowed_does_not_exist_to_it():
    held = snapshot(model("gpt-4o"), model("secret"), model("small", context_window=1))
    for preferred, told in (("secret", "does not exist"), ("small", "may not serve this request")):
        asked = facts(allowed=("gpt-*", "small"), preferred_model=preferred, prompt_bytes=100)
        assert decide(asked, held, now=NOW).notices == (f"the preferred model '{preferred}' {told}",)


def test_a_wish_must_see_where_the_request_holds_pictures():
    seeing = model("seeing", capabilities=("chat", "vision"))
    decision = asked(held(snapshot(A, seeing), p=of("a", "seeing")), preferred_model="a", require_vision=True)
    assert (order(decision), reasons(decision)) == (["seeing"], {"a": "missing_vision"})
    assert "may not serve" in decision.notices[0]


def test_a_policy_that_is_wished_for_brings_its_own_demands():
    able = model("able", capabilities=("chat", "tools"))
    over = held(snapshot(A, able), p=of("a"), tools=PolicyDocument(requirements=Requirements(frozenset({"tools"}))))
    assert order(asked(over, preferred_model="tools")) == ["able", "a"]


def test_a_key_may_not_wish_for_what_it_may_not_use_and_still_gets_it_where_the_policy_chooses_it():
    over = held(p=of("b", "a"))
    decision = asked(over, preferred_model="a", allowed=("p",))
    assert (order(decision), decision.dropped) == (["b", "a"], ())
    assert "does not exist" in decision.notices[0]


# --- Names ------------------------------------------------------------------------------------------------------------------


def test_a_policy_is_found_by_its_kind_and_name_and_allowed_by_either():
    over = replace(HELD, policies={})
    node = policy("writer", over, A, kind="node")
    over = replace(over, policies={"writer": node, "node/writer": node})
    for name in ("writer", "node/writer"):
        assert order(asked(over, name)) == ["a"]
        for allowed in (("writer",), ("node/*",), ("a",)):
            assert order(asked(over, name, allowed=allowed)) == ["a"]
    assert reasons(asked(over, "writer", allowed=("other",))) == {"a": "model_not_allowed"}


def test_a_policy_that_only_renames_another_one_is_decided_by_it_with_its_override():
    over = held(default=of("a", "b", strategy="cost_optimized"), alias=of("default"), further=of("alias"))
    over = changed(over, "default", override=override(B))
    for name in ("alias", "further"):
        decision = asked(over, name)
        assert (order(decision), decision.policy, decision.strategy) == (["b", "a"], "default", "cost_optimized")
    assert order(asked(over, "alias", allowed=("alias",))) == ["b", "a"]


def test_a_name_that_nothing_has_allows_no_key_what_the_default_chooses_in_its_place():
    over = replace(held(main=of("b")), defaults=RoutingDefaults(default_policy="main", unknown_model="default"))
    assert reasons(asked(over, "new-one", allowed=("new-*",))) == {"b": "model_not_allowed"}
    assert order(asked(over, "new-one", allowed=("main",))) == ["b"]


# --- Keys that are limited to policies or providers ---------------------------------------------------------------------------


def test_a_key_limited_to_policies_gets_all_that_they_choose_and_no_model_by_its_name():
    over = held(p=of("a", "b"))
    assert order(asked(over, "p", policies=("p",))) == ["a", "b"]
    for name in ("a", "at-a/a", ""):
        assert reasons(asked(over, name, policies=("p",)))["a"] == "model_not_allowed"
        assert order(asked(over, name, policies=("p",))) == []


def test_a_key_limited_to_policies_names_the_models_that_it_is_allowed_besides():
    over = held(p=of("a", "b"))
    assert order(asked(over, "b", policies=("p",), allowed=("b",))) == ["b"]
    assert order(asked(over, "p", policies=("p",), allowed=("b",))) == ["a", "b"]


def test_another_policy_is_closed_also_where_its_models_are_allowed():
    over = held(p=of("a"), q=of("b"))
    for sent in ("q", "policy/q"):
        decision = asked(over, sent, policies=("p",), allowed=("b",))
        assert (order(decision), reasons(decision)) == ([], {"b": "policy_not_allowed"})
        assert (decision.policy, decision.version) == ("", 0)
    assert order(asked(over, "a", preferred_model="q", policies=("p",), allowed=("a", "b"))) == ["a"]


def test_a_chain_ends_at_a_policy_that_the_key_is_not_allowed():
    over = held(s=of("d"), r=of("c", fallbacks=("s",)), p=of("a", fallbacks=("b", "r")))
    assert order(asked(over)) == ["a", "b", "c", "d"]
    decision = asked(over, policies=("p",))
    assert order(decision) == ["a", "b"]
    assert reasons(decision) == {"c": "policy_not_allowed", "d": "policy_not_allowed"}
    assert order(asked(over, policies=("p", "r"))) == ["a", "b", "c"]
    assert order(asked(over, policies=("*",))) == ["a", "b", "c", "d"]


def test_a_chosen_logical_model_falls_back_by_its_own_chain_for_those_who_may_name_it():
    over = held(small=of("a", fallbacks=("d",)), p=of("small", "b"))
    assert order(asked(over)) == ["a", "d", "b"]
    assert order(asked(over, policies=("p",))) == ["a", "b"]
    assert order(asked(over, policies=("p", "small"))) == ["a", "d", "b"]


def test_a_fallback_that_an_allowed_way_leads_to_serves_though_another_way_is_closed():
    over = held(q=of("c", fallbacks=("d",)), r=of("c", fallbacks=("d",)), p=of("a", fallbacks=("q", "r")))
    assert order(asked(over, policies=("p", "r"))) == ["a", "c", "d"]


def test_the_default_is_closed_to_a_key_that_may_not_name_it():
    over = replace(held(main=of("b"), p=of("a")), defaults=RoutingDefaults(default_policy="main"))
    assert order(asked(over, "", policies=("p",))) == []
    assert order(asked(over, "", policies=("main",))) == ["b"]


@pytest.mark.parametrize("name", ["p", "", "a", "b"])
def test_no_policy_and_no_name_leads_to_a_provider_that_the_key_is_not_allowed(name):
    over = held(p=of("a", fallbacks=("b",)))
    decision = asked(over, name, providers=("at-b",), preferred_model="a")
    assert set(order(decision)) <= {"b"}
    assert reasons(decision).get("a", "") in ("provider_not_allowed", "")


def test_limits_hold_in_a_pool_of_very_many_models_too():
    many = [model(f"m{number:03}", of=provider(f"at-{number % 2}")) for number in range(3 * ENOUGH)]
    over = held(snapshot(*many), p=PolicyDocument(strategy="cost_optimized"), q=PolicyDocument())
    found = asked(over, "p", providers=("at-1",), policies=("p",)).candidates
    assert found
    assert {one.model.provider.provider_id for one in found} == {"at-1"}
    assert asked(over, "q", policies=("p",)).candidates == ()
    assert asked(over, "", policies=("p",)).candidates == ()


def test_policies_that_only_rename_each_other_serve_nobody_and_end():
    assert order(asked(held(p=of("q"), q=of("p")))) == []


def test_a_policy_named_by_another_one_keeps_its_demands():
    able = model("able", capabilities=("chat", "tools"))
    demanding = PolicyDocument(requirements=Requirements(capabilities=frozenset({"tools"})))
    over = held(snapshot(A, able), tools=demanding, p=of("tools", strategy="balanced"))
    assert order(asked(over)) == ["able"]


def test_a_task_needs_no_policy():
    able = replace(A, tasks=frozenset({"chat_small", "chat_smart"}))
    over = snapshot(able, B)
    for told in ({"name": "task/chat_small"}, {"name": "chat_smart"}, {"name": "", "task": "chat_small"}):
        name = told.pop("name")
        decision = asked(over, name, **told)
        assert (order(decision), reasons(decision)) == (["a"], {"b": "other_task"})


def test_an_unknown_name_is_served_by_the_default_where_that_is_wanted_and_said_so():
    over = replace(held(main=of("b")), defaults=RoutingDefaults(default_policy="main", unknown_model="default"))
    decision = asked(over, "gpt-x")
    assert (order(decision), decision.policy) == (["b"], "main")
    assert decision.notices == ("no model is named 'gpt-x'; the default serves",)


def test_a_name_that_is_switched_off_is_not_taken_for_unknown():
    off = {"a-off": (Dropped("at/a-off", "disabled", "the model is disabled"),)}
    over = replace(HELD, out_of_service=off, defaults=RoutingDefaults(unknown_model="default"))
    decision = asked(over, "a-off")
    assert (decision.candidates, reasons(decision)) == ((), {"a-off": "disabled"})


def test_no_name_means_the_default_policy_and_else_any_model():
    assert order(asked(HELD, "")) == ["a", "b", "c", "d"]
    over = replace(held(main=of("c")), defaults=RoutingDefaults(default_policy="main"))
    assert order(asked(over, "")) == ["c"]


def test_embeddings_without_a_name_go_by_the_policy_for_embeddings():
    x, y = (model(name, of=A.provider, model_type="embedding", capabilities=("embedding",)) for name in "xy")
    over = snapshot(A, x, y)
    found = [policy("main", over, A), policy("embedding", over, y, kind="task")]
    over = replace(over, policies=by_every_name(found), defaults=RoutingDefaults(default_policy="main"))
    assert order(asked(over, "", operation="embeddings")) == ["y"]
    assert order(asked(over, "")) == ["a"]


# --- Limits -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_limit", "policy_limit", "global_limit"), [("0.01", 5, 5), (5, "0.01", 5), (5, 5, "0.01")]
)
def test_the_lowest_limit_of_cost_counts(request_limit, policy_limit, global_limit):
    dear = replace(A, prices=Prices(Decimal(1000), Decimal(1000)))
    over = held(snapshot(dear), p=of("a", max_cost=Decimal(policy_limit)))
    over = replace(over, defaults=RoutingDefaults(max_cost=Decimal(global_limit)))
    decision = asked(over, max_cost=Decimal(request_limit), prompt_bytes=4000)
    assert (order(decision), reasons(decision)) == ([], {"a": "max_cost"})


def test_a_half_open_breaker_asks_for_a_permit_and_an_open_one_whose_time_has_come_too():
    conditions = {A.route: RouteCondition(breaker="half_open"), B.route: replace(OPEN, retry_at=NOW)}
    decision = asked(held(p=of("a", "b", "c")), conditions=conditions)
    assert [one.needs_permit for one in decision.candidates] == [True, True, False]


def test_who_is_out_for_now_says_until_when():
    decision = asked(held(p=of("a", "b")), conditions={A.route: OPEN, B.route: RouteCondition(keys_back_at=NOW + 9)})
    assert {one.reason: one.back_at for one in decision.dropped} == {
        "breaker_open": NOW + 30,
        "keys_exhausted": NOW + 9,
    }


# --- Embeddings -------------------------------------------------------------------------------------------------------------


def vectors(name, at, dimension=3):
    return model(name, of=provider(at), model_type="embedding", dimension=dimension)


def test_embeddings_stay_with_the_first_model_also_while_it_is_out():
    same, other = vectors("e", "two"), vectors("f", "three")
    over = held(snapshot(vectors("e", "one"), same, other), p=of("e", "f"))
    decision = asked(over, operation="embeddings", conditions={"one/e": OPEN})
    assert [one.model.route for one in decision.candidates] == ["two/e"]
    assert reasons(decision) == {"e": "breaker_open", "f": "other_embedding"}


def test_embeddings_of_one_length_may_be_mixed_where_that_is_wanted():
    over = held(
        snapshot(vectors("e", "one"), vectors("f", "two"), vectors("g", "three", 4), vectors("h", "four", None)),
        p=of("e", "f", "g", "h", mixed_embeddings=True),
    )
    decision = asked(over, operation="embeddings")
    assert (order(decision), reasons(decision)) == (["e", "f"], {"g": "other_embedding", "h": "other_embedding"})


# --- Versions on trial ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("percentage", [0, 25, 50, 100])
def test_a_version_on_trial_gets_its_share_of_ten_thousand_keys_each_always_the_same(percentage):
    over = held(p=of("a"))
    trial = with_document(HELD, "p", of("b"), number=2).policies["p"].active
    share = rollout.buckets_below(Decimal(percentage))
    over = changed(over, "p", candidate=trial, share=share, salt=b"s" * 16)
    seen, asked_for = 0, facts("p")
    for number in range(10_000):
        key = replace(asked_for.identity, prefix=f"gw-{number}")
        decision = decide(replace(asked_for, identity=key), over, now=NOW)
        assert decision.varies
        assert decision.bucket is not None
        on_trial = decision.version == 2
        assert on_trial == (decision.bucket < share)
        assert order(decision) == (["b"] if on_trial else ["a"])
        seen += on_trial
    assert abs(seen / 100 - percentage) <= 1.5


def test_a_session_goes_before_the_key_when_the_share_is_drawn():
    trial = with_document(HELD, "p", of("b"), number=2).policies["p"].active
    over = changed(held(p=of("a")), "p", candidate=trial, share=5_000, salt=b"s" * 16)
    buckets = {asked(over, session_id=f"s{number}").bucket for number in range(20)}
    assert len(buckets) == 20
    assert asked(over, session_id="s1").bucket == asked(over, session_id="s1", allowed=("p",)).bucket


# --- Very many models -------------------------------------------------------------------------------------------------------


def many(count=400):
    """Half of them able, a tenth dear, all at ten providers of different priorities."""
    return snapshot(
        *(
            model(
                f"m{number:03}",
                of=provider(f"p{number % 10}", priority=number % 7),
                capabilities=("chat", "tools") if number % 2 else ("chat",),
                cost_tier="PREMIUM" if number % 10 == 3 else "LOW" if number % 3 else "HIGH",
                context_window=100 if number % 11 == 0 else 10_000,
                prices=Prices(Decimal(number % 13), Decimal(number % 17)) if number % 5 else Prices(),
            )
            for number in range(count)
        )
    )


SEEN = {
    f"p{number % 10}/m{number:03}": RouteCondition(
        breaker="open" if number % 3 else "closed",
        retry_at=NOW + 1,
        calls=5,
        success_rate=number % 4 / 4,
        latency_seconds=number % 5,
    )
    for number in range(0, 400, 7)
}


@pytest.mark.parametrize("strategy", strategies.names())
@pytest.mark.parametrize(
    "told", [{}, {"prompt_bytes": 2000}, {"max_cost": Decimal("0.005")}, {"allowed": ("m0*", "m3*")}]
)
def test_of_very_many_models_the_first_are_the_same_as_when_all_are_looked_at(strategy, told):
    demanded = Requirements(
        capabilities=frozenset({"tools"}), preferred_capabilities=frozenset({"vision"}), max_cost_tier="HIGH"
    )
    pool = many()
    over = replace(pool, policies={"p": policy("p", pool, requirements=demanded, strategy=strategy)})
    conditions = Conditions(SEEN, {"p1/m001": 3})
    every = decide(facts("p", **told), over, conditions, now=NOW, chance=0.4, everything=True)
    some = decide(facts("p", **told), over, conditions, now=NOW, chance=0.4)
    assert order(some) == order(every)[: len(some.candidates)]
    assert len(some.candidates) == min(ENOUGH, len(every.candidates))
    reasons = {one.reason for one in every.dropped}
    lasting = reasons & {"missing_capability", "cost_tier", "model_not_allowed"}
    assert {one.reason for one in some.dropped} >= (lasting if len(some.candidates) == ENOUGH else reasons)
    assert len(every.candidates) + len(every.dropped) == 400
    assert every.unnamed == 0
    named = len(some.candidates) + len(some.dropped)
    assert named < 400
    assert named + some.unnamed == 400


def test_models_that_are_out_do_not_hide_those_behind_them():
    pool = many()
    conditions = {each.route: OPEN for each in pool.models if each.provider.priority < 6}
    decision = asked(replace(pool, policies={}), "", conditions=conditions)
    assert len(decision.candidates) == ENOUGH
    assert {one.model.provider.priority for one in decision.candidates} == {6}


def test_a_decision_tells_up_to_which_length_it_holds():
    small = replace(A, context_window=500)
    decision = asked(held(snapshot(small, replace(B, context_window=9_000)), p=of("a", "b")))
    assert (decision.steady_bytes, decision.varies) == (500, False)
    assert asked(held(p=of("a", strategy="weighted"))).varies
    assert asked(held(p=of("a", max_cost=Decimal(1)))).varies
