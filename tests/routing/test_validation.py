"""What is wrong with the policies as a whole."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from routing.types import Dropped, Prices, RoutingDefaults
from routing.validation import validate
from tests.routing.policy_snapshots import documents, seed_001, with_policies
from tests.routing.views import model, provider

NOW = 1_800_000_000.0
PRICED = Prices(Decimal(1), Decimal(2))


def found(snapshot, **rest):
    """Code and policy of every issue, then of every warning."""
    validation = validate(snapshot, now=NOW, **rest)
    return [[(issue.code, issue.name) for issue in issues] for issues in (validation.issues, validation.warnings)]


def only(snapshot, **rest):
    validation = validate(snapshot, now=NOW, **rest)
    (issue,) = (*validation.issues, *validation.warnings)
    return issue


def test_policies_that_serve_are_valid():
    assert found(with_policies(model("gpt-4o"), policies={"best": {"targets": ["gpt-4o"]}})) == [[], []]


def test_the_seeds_configuration_names_what_is_undefined_and_who_is_unserved():
    issues, warnings = found(seed_001())
    assert issues == [
        ("undefined_fallback", "gemini-2.5-pro"),
        ("undefined_fallback", "claude-sonnet"),
        ("unserved", "search_perplexity"),
    ]
    assert warnings == [("cycle", "gemini-2.5-pro")]


def test_an_undefined_name_is_said():
    (first, *_) = validate(seed_001(), now=NOW).issues
    assert "'gpt-4o'" in first.sentence


def test_the_requirement_that_leaves_nobody_is_said():
    issue = validate(seed_001(), now=NOW).of("search_perplexity").issues[0]
    assert issue.sentence == ("no model can serve it: none of the 2 models that it may choose from has web_search")


def test_requirements_that_leave_nobody_only_together_are_said_for_each_model():
    policies = {"both": {"requirements": {"capabilities": ["vision", "tools"]}}}
    registry = with_policies(
        model("sees", capabilities=("chat", "vision")), model("acts", capabilities=("chat", "tools")), policies=policies
    )
    assert only(registry).sentence == (
        "no model can serve it: openai/sees: it lacks tools; openai/acts: it lacks vision"
    )


def test_the_only_model_says_itself_what_it_lacks():
    registry = with_policies(model("m"), policies={"p": {"targets": ["m"], "requirements": {"max_cost_tier": "LOW"}}})
    assert only(registry).sentence == "no model can serve it: openai/m: its tier is MEDIUM, above LOW"


def test_an_embedding_policy_is_served_by_embeddings():
    registry = with_policies(model("e", model_type="embedding", capabilities=()), policies={"p": {"targets": ["e"]}})
    assert found(registry) == [[], []]


def test_a_policy_of_pictures_is_served_by_what_draws():
    draws = model("draws", model_type="image", capabilities=frozenset())
    assert found(with_policies(draws, policies={"p": {"targets": ["draws"]}})) == [[], []]


def test_an_undefined_target_is_an_issue_once():
    assert found(with_policies(model("m"), policies={"p": {"targets": ["nothing"]}})) == [
        [("undefined_target", "p")],
        [],
    ]


def test_a_target_at_a_provider_that_lacks_it_is_undefined():
    registry = with_policies(model("m"), policies={"p": {"targets": ["m", {"model": "m", "provider": "azure"}]}})
    assert "'azure/m'" in only(registry).sentence


def test_a_kind_that_no_policy_is_of_is_undefined():
    registry = with_policies(model("m"), policies={"p": {"targets": [{"kind": "logical"}], "fallbacks": ["m"]}})
    assert only(registry).code == "undefined_target"


def test_targets_that_are_all_switched_off_are_an_issue():
    registry = with_policies(model("m"), policies={"p": {"targets": ["off"], "fallbacks": ["m"]}})
    off = {"off": (Dropped("x/off", "disabled", "the model is disabled"),)}
    issues, warnings = found(replace(registry, out_of_service=off))
    assert issues == [("only_disabled_targets", "p")]
    assert warnings == [("disabled_target", "p")]


def test_one_target_of_two_that_is_switched_off_is_a_warning():
    registry = with_policies(model("m"), policies={"p": {"targets": ["off", "m"]}})
    off = {"off": (Dropped("x/off", "disabled", "the model is disabled"),)}
    assert found(replace(registry, out_of_service=off)) == [[], [("disabled_target", "p")]]


def test_a_policy_that_is_switched_off_is_told_from_one_that_is_not_there():
    registry = with_policies(model("m"), policies={"p": {"targets": ["m"], "fallbacks": ["spare"]}})
    assert found(registry, disabled=["spare"]) == [[], [("disabled_fallback", "p")]]


def test_a_strategy_that_nobody_has_is_an_issue():
    registry = with_policies(model("m"), policies={"p": {"targets": ["m"], "strategy": "astrology"}})
    assert only(registry).code == "unknown_strategy"


def test_weights_that_are_all_zero_are_an_issue():
    policies = {"p": {"targets": [{"model": "m", "weight": 0}], "strategy": "weighted"}}
    assert ("no_weight", "p") in found(with_policies(model("m"), policies=policies))[0]


def test_models_without_prices_under_a_limit_of_cost_are_named():
    policies = {"p": {"targets": ["known", "unknown"], "max_cost": "1"}}
    issue = only(with_policies(model("known", prices=PRICED), model("unknown"), policies=policies))
    assert issue.code == "price_unknown"
    assert "openai/unknown" in issue.sentence
    assert "openai/known" not in issue.sentence


def test_a_policy_that_hides_a_model_of_its_name_is_a_warning():
    registry = with_policies(model("gpt-5"), model("m"), policies={"gpt-5": {"targets": ["m"]}})
    assert only(registry).code == "shadows_a_model"


def test_a_policy_may_stand_for_the_model_of_its_name():
    assert found(with_policies(model("gpt-5"), policies={"gpt-5": {"targets": ["gpt-5"]}})) == [[], []]


def test_targets_that_come_back_are_a_warning():
    policies = {"a": {"targets": ["b", "m"]}, "b": {"targets": ["a", "m"]}}
    issue = only(with_policies(model("m"), policies=policies))
    assert (issue.code, issue.name) == ("cycle", "a")
    assert "a -> b -> a" in issue.sentence


def test_an_override_by_what_does_not_exist_is_an_issue():
    registry = with_policies(model("m"), policies={"p": {"targets": ["m"]}}, overrides={"p": ("gone", None)})
    assert only(registry).code == "undefined_override"


def test_an_override_that_has_expired_is_a_warning():
    registry = with_policies(model("m"), policies={"p": {"targets": ["m"]}}, overrides={"p": ("m", NOW - 1)})
    assert only(registry).code == "expired_override"


def test_what_a_key_would_cure_is_a_warning():
    keyless = replace(provider(keys=()), lacks_key=True)
    registry = with_policies(model("m", of=keyless), policies={"p": {"targets": ["m"]}})
    assert only(registry).code == "out_of_service"


def test_a_default_policy_that_does_not_exist_is_an_issue():
    registry = replace(with_policies(model("m"), policies={}), defaults=RoutingDefaults(default_policy="gone"))
    assert found(registry) == [[("undefined_default", "routing settings")], []]


def test_a_candidate_version_is_looked_at_too():
    registry = seed_001(policies=documents())
    policy = registry.policies["writer"]
    candidate = replace(policy.active, number=7, document=replace(policy.active.document, fallbacks=("gone",)))
    registry = replace(registry, policies=registry.policies | {"writer": replace(policy, candidate=candidate, share=1)})
    assert any("candidate version 7" in issue.sentence for issue in validate(registry, now=NOW).of("writer").issues)
