from dataclasses import replace
from decimal import Decimal

import pytest

from providers.secrets import Secret
from routing import filters
from routing.policy_documents import Requirements
from routing.types import NOMINAL, Asked, Conditions, Prices, RouteCondition, UpstreamKey
from tests.routing.views import facts, model, provider

NOW = 1_000.0


def asked(some_facts, requirements=None, conditions=NOMINAL, **rest):
    return Asked(some_facts, requirements or Requirements(), conditions, NOW, **rest)


def reason(a_model, some_facts, *rest, **more):
    question = asked(some_facts, *rest, **more)
    dropped = filters.refusal(a_model, question) or filters.out_for_now(a_model, question)
    return dropped.reason if dropped else None


def test_a_model_that_meets_every_rule_stays():
    assert reason(model(), facts()) is None


def test_a_pin_drops_every_other_provider():
    assert reason(model(), facts(provider_id="azure")) == "provider_pinned"
    assert reason(model(), facts(provider_id="openai")) is None


@pytest.mark.parametrize(
    ("allowed", "expected"),
    [
        (None, None),
        ((), "model_not_allowed"),
        (("gpt-4o",), None),
        (("gpt-*",), None),
        (("openai/*",), None),
        (("openai/gpt-4o",), None),
        (("azure/*",), "model_not_allowed"),
        (("GPT-4O",), "model_not_allowed"),
        (("claude-*", "gpt-4?"), None),
    ],
)
def test_a_key_reaches_the_models_that_its_patterns_name(allowed, expected):
    assert reason(model(), facts(allowed=allowed)) == expected


@pytest.mark.parametrize(
    ("model_type", "capabilities", "operation", "expected"),
    [
        ("chat", {"chat"}, "chat", None),
        ("chat", {"chat"}, "completions", None),
        ("chat", {"chat"}, "embeddings", "unsupported_operation"),
        ("embedding", {"embedding"}, "embeddings", None),
        ("embedding", set(), "embeddings", None),
        ("embedding", {"embedding"}, "chat", "unsupported_operation"),
        ("chat", {"chat", "embedding"}, "embeddings", None),
        ("of-tomorrow", set(), "chat", None),
    ],
)
def test_a_model_serves_what_its_type_or_capabilities_say(model_type, capabilities, operation, expected):
    assert reason(model(model_type=model_type, capabilities=capabilities), facts(operation=operation)) == expected


@pytest.mark.parametrize(
    ("expiries", "expected"),
    [((), None), ((None,), None), ((NOW + 1,), None), ((NOW,), "no_usable_key"), ((NOW - 1, NOW + 1), None)],
)
def test_a_provider_whose_keys_expired_since_the_snapshot_is_dropped(expiries, expected):
    keys = [UpstreamKey(number, Secret("sk"), expires_at=at) for number, at in enumerate(expiries)]
    assert reason(model(of=provider(keys=keys)), facts()) == expected


def test_a_provider_that_lacks_a_key_is_dropped():
    assert reason(model(of=replace(provider(), lacks_key=True)), facts()) == "no_usable_key"


def test_a_refusal_names_the_route_and_says_why():
    dropped = filters.refusal(model(), asked(facts(provider_id="azure")))
    assert dropped.route == "openai/gpt-4o"
    assert "'azure'" in dropped.detail


@pytest.mark.parametrize(
    ("a_model", "demanded", "expected"),
    [
        (model(), Requirements(capabilities=frozenset({"tools"})), "missing_capability"),
        (model(capabilities=("chat", "tools")), Requirements(capabilities=frozenset({"tools"})), None),
        (model(), Requirements(preferred_capabilities=frozenset({"tools"})), None),
        (model(), Requirements(vision=True), "missing_vision"),
        (model(capabilities=("chat", "vision")), Requirements(vision=True), None),
        (model(model_type="vision", capabilities=()), Requirements(vision=True), None),
        (model(), Requirements(reasoning=True), "missing_reasoning"),
        (model(capabilities=("chat", "reasoning")), Requirements(reasoning=True), None),
        (model(), Requirements(task="chat_smart"), "other_task"),
        (model(tasks=frozenset({"chat_small", "chat_smart"})), Requirements(task="chat_smart"), None),
        (model(capabilities=("chat", "vision")), Requirements(task="vision"), None),
        (model(model_type="embedding"), Requirements(task="embedding"), None),
        (model(model_type="embedding"), Requirements(task="audio"), "other_task"),
        (model(cost_tier="LOW"), Requirements(max_cost_tier="HIGH"), None),
        (model(cost_tier="HIGH"), Requirements(max_cost_tier="HIGH"), None),
        (model(cost_tier="PREMIUM"), Requirements(max_cost_tier="HIGH"), "cost_tier"),
        (model(cost_tier="MEDIUM"), Requirements(max_cost_tier="LOW"), "cost_tier"),
        (model(context_window=8000), Requirements(min_context_window=8000), None),
        (model(context_window=7999), Requirements(min_context_window=8000), "context_window"),
        (model(context_window=None), Requirements(min_context_window=8000), None),
        (model(), Requirements(local_only=True), "not_local"),
        (model(of=replace(provider(), local=True)), Requirements(local_only=True), None),
        (model(), Requirements(data_tags=frozenset({"pii"})), "data_not_allowed"),
        (model(of=replace(provider(), data_tags=frozenset({"pii"}))), Requirements(data_tags=frozenset({"pii"})), None),
    ],
)
def test_what_is_demanded_of_a_model_is_hard_and_what_is_preferred_is_not(a_model, demanded, expected):
    assert reason(a_model, facts(), demanded) == expected
    assert filters.meets(a_model, demanded) == (expected is None)


@pytest.mark.parametrize(
    ("told", "ratio", "expected"),
    [
        ({"prompt_bytes": 3_996}, None, None),
        ({"prompt_bytes": 4_000}, None, "prompt_too_long"),
        ({"prompt_bytes": 4_000}, 0.1, None),
        ({"prompt_bytes": 2_000}, 0.5, "prompt_too_long"),
        ({"images": 1}, None, "prompt_too_long"),
        ({"input_tokens": 999}, None, None),
        ({"input_tokens": 1_000}, None, "prompt_too_long"),
    ],
)
def test_a_prompt_must_leave_room_in_the_context(told, ratio, expected):
    small = model(context_window=1_000)
    seen = Conditions({small.route: RouteCondition(tokens_per_byte=ratio)})
    assert reason(small, facts(**told), conditions=seen) == expected
    assert reason(model(), facts(**told), conditions=seen) is None


@pytest.mark.parametrize(
    ("prices", "limit", "expected"),
    [
        (Prices(Decimal(10), Decimal(20)), "0.02", None),
        (Prices(Decimal(10), Decimal(20)), "0.0199", "max_cost"),
        (Prices(), "1000", "price_unknown"),
        (Prices(Decimal(10)), "1000", "price_unknown"),
        (Prices(Decimal(0), Decimal(0)), "0", None),
        (Prices(), None, None),
    ],
)
def test_a_limit_of_cost_is_hard_and_an_unknown_price_is_not_zero(prices, limit, expected):
    told = facts(input_tokens=1_000, max_output_tokens=500)
    most = None if limit is None else Decimal(limit)
    assert reason(model(prices=prices), told, max_cost=most) == expected
    assert filters.affordable(model(prices=prices), asked(told, max_cost=most)) == (expected is None)


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        ("0.01", "about 0.0125 USD are above the limit of 0.01 USD"),
        ("0.01000000", "about 0.0125 USD are above the limit of 0.01 USD"),
        ("1e-9", "about 0.0125 USD are above the limit of 0.000000001 USD"),
        ("0", "about 0.0125 USD are above the limit of 0 USD"),
    ],
)
def test_amounts_are_told_as_people_write_them(limit, said):
    told = asked(facts(input_tokens=1_000, max_output_tokens=500), max_cost=Decimal(limit))
    assert filters.too_expensive(model(prices=Prices(Decimal("2.5"), Decimal(20))), told).detail == said


def test_a_provider_type_that_is_switched_off_serves_nobody():
    assert reason(model(), facts(), barred_types=frozenset({"openai"})) == "provider_type_off"
    assert reason(model(), facts(), barred_types=frozenset({"openrouter"})) is None


def test_a_key_that_may_use_the_policy_gets_what_the_policy_chooses():
    assert reason(model(), facts(allowed=("writer",))) == "model_not_allowed"
    assert reason(model(), facts(allowed=("writer",)), allowed_by_name=True) is None


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (RouteCondition(), None),
        (RouteCondition(breaker="open", retry_at=NOW + 1), "breaker_open"),
        (RouteCondition(breaker="open"), "breaker_open"),
        (RouteCondition(breaker="open", retry_at=NOW), None),
        (RouteCondition(breaker="half_open"), None),
        (RouteCondition(keys_back_at=NOW + 1), "keys_exhausted"),
        (RouteCondition(keys_back_at=NOW), None),
    ],
)
def test_what_passes_by_itself_keeps_a_model_out_until_then(condition, expected):
    assert reason(model(), facts(), conditions=Conditions({model().route: condition})) == expected


def test_a_model_that_took_itself_out_of_service_stays_out():
    assert reason(model(auto_disabled="6 failures in a row"), facts()) == "auto_disabled"


def test_every_rule_has_a_code_of_its_own_and_a_sentence():
    assert len(set(filters.LASTING)) == len(filters.LASTING)
    assert set(filters.DEMANDS) <= set(filters.FIXED) <= set(filters.LASTING)
    dropped = filters.refusal(model(), asked(facts(), Requirements(capabilities=frozenset({"b", "a"}))))
    assert (dropped.reason, dropped.detail) == ("missing_capability", "it lacks a, b")
