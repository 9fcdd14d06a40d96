from dataclasses import replace

from routing.nearest import nearest
from tests.routing.views import facts, model, policy, provider, snapshot

MANY = snapshot(
    *(model(f"vendor/model-{number:03}", of=provider(f"p{number % 3}")) for number in range(300)), model("gpt-4o")
)


def test_among_hundreds_of_names_the_likely_ones_are_found():
    assert nearest(facts("gpt4o"), MANY)[0] == "gpt-4o"
    assert "25" in nearest(facts("vendor/model-25"), MANY)[0]


def test_whoever_names_no_provider_is_told_of_models_and_not_of_every_provider_that_has_one():
    few = snapshot(*(model("gpt-4o", of=provider(f"p{number}")) for number in range(120)))
    assert nearest(facts("gpt-4"), few) == ("gpt-4o",)
    assert all("/gpt-4o" in name for name in nearest(facts("p1/gpt-4"), few))


def test_policies_are_names_too_and_only_those_that_the_key_may_use():
    held = replace(MANY, policies={"writer": policy("writer", MANY)})
    assert nearest(facts("writr"), held)[0] == "writer"
    assert nearest(facts("writr", allowed=("gpt*",)), held) == ()


def test_a_name_of_any_length_is_looked_for():
    assert nearest(facts("x" * 100_000), MANY) == ()
    assert nearest(facts("\ud800"), MANY) == ()
