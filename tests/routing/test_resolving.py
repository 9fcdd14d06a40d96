"""What names mean over a registry, and what a document would change."""

from dataclasses import replace

from routing.policy_documents import PolicyDocument, Requirements, Target
from routing.resolving import Resolving, by_every_name, with_document
from routing.types import OverrideView, PolicyTarget
from tests.routing.views import model, policy, provider, snapshot

FIRST, SECOND, OTHER = model("m", of=provider("one")), model("m", of=provider("two")), model("n", of=provider("one"))
HELD = snapshot(FIRST, SECOND, OTHER)


def resolved(name="p", **documents):
    documents = {each: PolicyDocument(**said) for each, said in documents.items()}
    kinds = dict.fromkeys(documents, "node")
    return Resolving(documents, kinds, HELD.models, HELD.by_name).version(name, 1, documents[name])


def targets(*names, **each):
    return {"targets": tuple(Target(name, **each) for name in names)}


def routes(found):
    return [target.model.route for target in found]


def test_a_model_id_means_every_provider_that_lists_it_and_a_provider_narrows_it():
    assert routes(resolved(p=targets("m")).targets) == ["one/m", "two/m"]
    assert routes(resolved(p=targets("m", provider="two")).targets) == ["two/m"]
    assert routes(resolved(p=targets("two/m", "gone")).targets) == ["two/m"]


def test_without_targets_every_model_is_one():
    assert routes(resolved(p={}).targets) == ["one/m", "two/m", "one/n"]


def test_models_of_one_target_are_one_group_with_its_weight():
    found = resolved(p={"targets": (Target("m", weight=9), Target("n", weight=1))}).targets
    assert [(target.weight, target.group, target.order) for target in found] == [(9, 1, 0), (9, 1, 1), (1, 2, 2)]


def test_a_policy_named_as_a_target_or_a_fallback_is_found_with_its_kind_too():
    found = resolved(p={**targets("node/q"), "fallbacks": ("node/r",)}, q=targets("n"), r=targets("two/m"))
    assert [(target.model.route, target.via) for target in found.targets] == [("one/n", "q")]
    assert routes(found.fallbacks) == ["two/m"]


def test_all_policies_of_a_kind_are_targets_but_the_one_that_says_so():
    found = resolved(p={"targets": (Target(kind="node"),)}, q=targets("n"), r=targets("m", provider="two"))
    assert routes(found.targets) == ["one/n", "two/m"]


def test_a_policy_may_stand_for_the_model_of_its_own_name():
    assert routes(resolved("m", m=targets("m")).targets) == ["one/m", "two/m"]


def test_a_policy_that_renames_another_one_stands_for_it_unless_something_stands_over_it():
    renaming = policy("alias", HELD)
    renaming = replace(renaming, active=replace(renaming.active, document=PolicyDocument((Target("p"),))))
    views = by_every_name([policy("p", HELD, OTHER), renaming])
    assert (views["alias"].stands_for, views["p"].stands_for) == ("p", "")
    over = replace(renaming, override=OverrideView("n", (PolicyTarget(OTHER),)))
    assert by_every_name([policy("p", HELD, OTHER), over])["alias"].stands_for == ""


def test_a_document_in_place_of_another_reaches_whoever_names_the_policy_and_leaves_the_rest():
    held = with_document(HELD, "inner", PolicyDocument((Target("m"),)), number=1)
    held = with_document(held, "outer", PolicyDocument((Target("inner"),), Requirements(vision=True)), number=3)
    after = with_document(held, "inner", PolicyDocument((Target("n"),)))
    assert routes(after.policies["outer"].active.targets) == ["one/n"]
    assert after.policies["outer"].active.number == 3
    assert routes(held.policies["outer"].active.targets) == ["one/m", "two/m"]


def test_what_stands_over_a_policy_is_left_out_of_its_draft():
    held = with_document(HELD, "p", PolicyDocument((Target("m"),)))
    over = replace(held.policies["p"], override=OverrideView("n", (PolicyTarget(OTHER),)))
    draft = with_document(replace(held, policies={"p": over}), "p", PolicyDocument((Target("n"),)))
    assert draft.policies["p"].override is None


def test_who_follows_by_way_of_a_policy_is_what_that_one_demands():
    here, there = model("here", of=replace(provider("own"), local=True)), model("there", of=provider("far"))
    held = snapshot(here, there)
    inner = PolicyDocument((Target("here"),), Requirements(local_only=True), fallbacks=("there",))
    held = with_document(held, "inner", inner)
    chosen = with_document(held, "p", PolicyDocument((Target("inner"),))).policies["p"].active
    assert (routes(chosen.targets), routes(chosen.chains["inner"])) == (["own/here"], [])
    fallen = with_document(held, "p", PolicyDocument((Target("gone"),), fallbacks=("inner",))).policies["p"].active
    assert routes(fallen.fallbacks) == ["own/here"]
    told = PolicyDocument((Target("gone"),), fallbacks=("inner", "there"))
    assert routes(with_document(held, "p", told).policies["p"].active.fallbacks) == ["own/here", "far/there"]
