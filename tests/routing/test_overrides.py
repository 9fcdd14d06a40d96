"""What an override does to a decision, and what it does not."""

from __future__ import annotations

from dataclasses import replace

from routing.decide import decide
from tests.routing.policy_snapshots import documents, seed_001, with_policies
from tests.routing.views import facts, model, provider

NOW = 1_800_000_000.0
CLAUDE = "openrouter/anthropic/claude-3.5-sonnet-20241022"
GEMINI = "openrouter/google/gemini-2.0-flash-exp"


def first(registry, asked, now=NOW):
    decision = decide(asked, registry, now=now)
    return decision.candidates[0].model.route if decision.candidates else None


def test_without_one_the_writer_is_served_by_what_it_requires():
    assert first(seed_001(), facts("writer")) == GEMINI


def test_the_model_that_an_admin_names_serves_though_the_policy_would_not_choose_it():
    registry = seed_001(overrides={"writer": ("claude-sonnet", None)})
    decision = decide(facts("writer"), registry, now=NOW)
    assert [one.model.route for one in decision.candidates] == [CLAUDE, GEMINI]
    assert decision.candidates[0].role == "override"
    assert CLAUDE not in {one.route for one in decision.dropped}


def test_it_ends_by_itself_without_a_new_snapshot():
    registry = seed_001(overrides={"writer": ("claude-sonnet", NOW + 60)})
    assert first(registry, facts("writer"), NOW + 59) == CLAUDE
    assert first(registry, facts("writer"), NOW + 60) == GEMINI


def test_what_the_request_itself_needs_still_holds():
    registry = seed_001(overrides={"writer": ("claude-sonnet", None)})
    assert first(registry, facts("writer", capabilities=frozenset({"long_context"}))) == GEMINI


def test_where_data_may_go_still_holds():
    home = replace(provider("home"), local=True, data_tags=frozenset({"medical"}))
    models = model("cloud"), model("own", of=home)
    for needs in ({"local_only": True}, {"data_tags": ["medical"]}):
        policies = {"p": {"targets": ["cloud", "own"], "requirements": needs}}
        registry = with_policies(*models, policies=policies, overrides={"p": ("cloud", None)})
        assert first(registry, facts("p")) == "home/own"


def test_the_policys_own_choice_follows_when_the_override_cannot_serve():
    registry = seed_001(overrides={"writer": ("claude-sonnet", None)})
    small = facts("writer", allowed=(GEMINI,))
    assert first(registry, small) == GEMINI


def test_other_policies_are_not_overridden():
    registry = seed_001(policies=documents(), overrides={"writer": ("claude-sonnet", None)})
    assert first(registry, facts("gemini-2.5-pro")) == GEMINI
