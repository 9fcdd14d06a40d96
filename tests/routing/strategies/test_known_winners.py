"""The answers that the nodes' system should have given, by its own formulas and its own configuration."""

import pytest

from providers.capabilities import canonical
from routing.decide import decide
from routing.policy_documents import Requirements
from routing.strategies import points
from routing.types import Conditions, RouteCondition
from tests.routing.strategies.known import CLAUDE, GEMINI, NODES, POORLY, WELL, nodes
from tests.routing.views import facts

SEEDS_STRATEGIES = ("balanced", "cost_optimized", "performance_optimized", "capability_strict", "admin_preferred")


def winner(node, strategy, conditions=None, **told):
    decision = decide(facts(node, **told), nodes(strategy), Conditions(conditions or {}), now=0.0)
    return decision.candidates[0] if decision.candidates else None


@pytest.mark.parametrize("strategy", SEEDS_STRATEGIES)
@pytest.mark.parametrize(("node", "model"), [("writer", GEMINI), ("node/writer", GEMINI), ("evaluator", CLAUDE)])
def test_each_node_gets_the_model_that_fits(strategy, node, model):
    assert winner(node, strategy).model == model


@pytest.mark.parametrize("strategy", SEEDS_STRATEGIES)
def test_nothing_serves_what_no_model_can_do_and_the_lacking_capability_is_named(strategy):
    decision = decide(facts("search_perplexity"), nodes(strategy), now=0.0)
    assert decision.candidates == ()
    assert {dropped.reason for dropped in decision.dropped} == {"missing_capability"}
    assert all("web_search" in dropped.detail for dropped in decision.dropped)


def test_the_balanced_choice_for_the_formatter_has_sixty_points_against_fifty():
    decision = decide(facts("formatter", capabilities=canonical(["streaming"])), nodes("balanced"), now=0.0)
    assert [(one.model.model_id, one.score) for one in decision.candidates] == [
        ("gemini-2.5-pro", 60.0),
        ("claude-sonnet", 50.0),
    ]
    assert dict(decision.candidates[0].parts) == {"performance": 50.0, "cheapness": 75.0, "registry": 30.0}
    assert decision.confidence == 0.6


def test_the_balanced_choice_changes_with_what_was_seen():
    conditions = {GEMINI.route: POORLY, CLAUDE.route: WELL}
    assert winner("formatter", "balanced", conditions).model == CLAUDE


def test_the_cheaper_tier_is_the_cost_optimised_choice():
    assert winner("formatter", "cost_optimized").model == GEMINI


def test_the_dear_one_is_the_choice_for_performance_while_nothing_was_seen():
    chosen = winner("formatter", "performance_optimized")
    assert (chosen.model, chosen.score) == (CLAUDE, 55.0)


def test_the_better_one_is_the_choice_for_performance_when_both_were_seen():
    chosen = winner("formatter", "performance_optimized", {GEMINI.route: WELL, CLAUDE.route: POORLY})
    assert (chosen.model, chosen.score) == (GEMINI, 95.0)


def test_the_strict_choice_is_the_cheapest_of_those_that_have_everything():
    assert winner("formatter", "capability_strict").model == GEMINI
    assert winner("formatter", "capability_strict", capabilities=frozenset({"reasoning"})).model == CLAUDE


def test_the_best_written_entry_is_the_admins_choice_and_certain():
    decision = decide(facts("formatter"), nodes("admin_preferred"), now=0.0)
    # 10 and 5 for the tiers, 2 x min(context / 4000, 5) for the room.
    assert [(one.model, one.score) for one in decision.candidates] == [(GEMINI, 20.0), (CLAUDE, 15.0)]
    assert decision.confidence == 1.0


def test_points_of_the_registry_count_what_is_demanded_and_what_is_preferred():
    # 2 demanded, 2 preferred, MEDIUM, and room for four times the least context.
    assert points.registry(GEMINI, NODES["writer"]) == 20 + 10 + 10 + 8
    assert points.registry(CLAUDE, Requirements()) == 5 + 10


@pytest.mark.parametrize(
    ("condition", "score"),
    [
        (RouteCondition(), 50.0),
        (RouteCondition(calls=1, success_rate=1.0), 85.0),
        (RouteCondition(calls=1, success_rate=1.0, latency_seconds=0.0), 100.0),
        (RouteCondition(calls=1, success_rate=0.5, latency_seconds=2.0, recent_failures=2), 50.0),
        (RouteCondition(calls=9, success_rate=0.0, latency_seconds=9.0, recent_failures=10), 0.0),
    ],
)
def test_points_of_performance(condition, score):
    assert points.performance(condition) == score
