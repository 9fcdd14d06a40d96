"""What each strategy looks at first, and what breaks its ties."""

from decimal import Decimal

import pytest

from routing import strategies
from routing.policy_documents import Requirements
from routing.types import Prices, RouteCondition
from tests.routing.strategies.known import asked, candidates
from tests.routing.views import model, provider

CHEAP, DEAR = Prices(Decimal(1), Decimal(1)), Prices(Decimal(5), Decimal(5))


def ordered(strategy, *models, **told):
    return [one.model.model_id for one in strategies.find(strategy).order(candidates(*models), asked(**told))]


def test_the_lower_priority_number_comes_first_though_it_is_dearer():
    first, second = provider("ollama", priority=1), provider("openai", priority=2)
    assert ordered("priority", model("b", of=second, prices=CHEAP), model("a", of=first, prices=DEAR)) == ["a", "b"]


def test_among_equal_priorities_the_cheaper_comes_first():
    assert ordered("priority", model("dear", prices=DEAR), model("cheap", prices=CHEAP)) == ["cheap", "dear"]


def test_among_equal_prices_the_order_of_the_configuration_stays():
    assert ordered("priority", model("z", prices=CHEAP), model("a", prices=CHEAP)) == ["z", "a"]


@pytest.mark.parametrize("strategy", ["priority", "cost_optimized"])
def test_an_unknown_price_is_not_taken_for_a_low_one(strategy):
    half = Prices(Decimal(0), None)
    assert ordered(strategy, model("half", prices=half), model("unknown"), model("dear", prices=DEAR)) == [
        "dear",
        "half",
        "unknown",
    ]


def test_a_cheap_tier_comes_before_a_low_price():
    low, high = model("low", cost_tier="LOW", prices=DEAR), model("high", cost_tier="HIGH", prices=CHEAP)
    assert ordered("cost_optimized", high, low) == ["low", "high"]


@pytest.mark.parametrize(
    "strategy",
    ["priority", "cost_optimized", "performance_optimized", "balanced", "capability_strict", "admin_preferred"],
)
def test_more_of_what_is_preferred_breaks_a_tie(strategy):
    wanted = Requirements(preferred_capabilities=frozenset({"tools", "json_mode"}))
    none, one, both = (
        model("none"),
        model("one", capabilities=("tools",)),
        model("both", capabilities=("tools", "json_mode")),
    )
    assert ordered(strategy, none, one, both, requirements=wanted) == ["both", "one", "none"]


def test_targets_are_asked_as_they_are_written_though_others_are_cheaper_and_go_first_by_priority():
    late = provider("late", priority=900)
    written = model("first", of=late, prices=DEAR), model("second", prices=CHEAP), model("third", prices=CHEAP)
    assert ordered("in_order", *written) == ["first", "second", "third"]


def test_a_strict_choice_prefers_whoever_has_everything_to_whoever_is_cheap():
    wanted = Requirements(preferred_capabilities=frozenset({"tools"}))
    able = model("able", capabilities=("tools",), cost_tier="PREMIUM")
    assert ordered("capability_strict", model("cheap", cost_tier="LOW"), able, requirements=wanted) == ["able", "cheap"]


def test_the_lowest_latency_comes_first_and_failures_make_it_longer():
    seen = {
        "openai/slow": RouteCondition(latency_seconds=0.9, success_rate=1.0),
        "openai/fast": RouteCondition(latency_seconds=0.2, success_rate=1.0),
        "openai/flaky": RouteCondition(latency_seconds=0.1, success_rate=0.05),
    }
    assert ordered(
        "lowest_latency", model("flaky"), model("slow"), model("fast"), model("untried"), conditions=seen
    ) == ["fast", "slow", "untried", "flaky"]


def test_a_model_that_never_succeeded_is_not_divided_by_zero():
    seen = {"openai/dead": RouteCondition(latency_seconds=0.1, success_rate=0.0)}
    assert ordered("lowest_latency", model("dead"), model("alive"), conditions=seen) == ["alive", "dead"]


def test_whoever_has_the_fewest_calls_under_way_comes_first_and_priority_breaks_the_tie():
    busy = {"openai/a": 2, "openai/b": 1}
    assert ordered(
        "least_busy", model("a"), model("b"), model("c", prices=DEAR), model("d", prices=CHEAP), in_flight=busy
    ) == ["d", "c", "b", "a"]
