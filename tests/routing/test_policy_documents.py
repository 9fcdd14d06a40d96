from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.capabilities import TASKS
from providers.cost_tiers import COST_TIERS
from routing.policy_documents import (
    CACHE_SCOPES,
    KINDS,
    LONGEST_CACHED_SECONDS,
    BadPolicy,
    Cache,
    PolicyDocument,
    Requirements,
    Retries,
    Target,
    Timeouts,
    as_document,
    differences,
    read,
)

_NAMES = st.sampled_from(["gpt-4o", "openai/gpt-4o", "writer", "a b", "ü"])
_WORDS = st.frozensets(st.sampled_from(["tools", "vision", "pii"]))
_SECONDS = st.one_of(st.none(), st.floats(0.001, 86_400))
_DOCUMENTS = st.builds(
    PolicyDocument,
    targets=st.lists(
        st.one_of(
            st.builds(Target, model=_NAMES, provider=st.sampled_from(["", "openai"]), weight=st.integers(0, 100)),
            st.builds(Target, kind=st.sampled_from(KINDS), weight=st.integers(0, 100)),
        ),
        max_size=3,
    ).map(tuple),
    requirements=st.builds(
        Requirements,
        capabilities=_WORDS,
        preferred_capabilities=_WORDS,
        min_context_window=st.integers(0, 10**6),
        max_cost_tier=st.sampled_from(["", *COST_TIERS]),
        reasoning=st.booleans(),
        vision=st.booleans(),
        task=st.sampled_from(["", *TASKS]),
        local_only=st.booleans(),
        data_tags=_WORDS,
    ),
    strategy=st.sampled_from(["priority", "balanced"]),
    fallbacks=st.lists(_NAMES, max_size=3).map(tuple),
    retries=st.builds(Retries, st.one_of(st.none(), st.integers(0, 10)), _SECONDS, st.floats(1, 10)),
    timeouts=st.builds(Timeouts, _SECONDS, _SECONDS),
    cache=st.one_of(
        st.builds(Cache), st.builds(Cache, st.integers(1, LONGEST_CACHED_SECONDS), st.sampled_from(CACHE_SCOPES))
    ),
    max_cost=st.one_of(st.none(), st.decimals(0, 1000, places=6)),
    overridable=st.booleans(),
    mixed_embeddings=st.booleans(),
)


@given(_DOCUMENTS)
def test_a_policy_comes_back_from_its_document(policy):
    document = as_document(policy)
    assert read(document) == policy
    assert as_document(read(document)) == document


def test_a_document_says_only_what_is_not_as_usual():
    assert as_document(PolicyDocument()) == {"strategy": "priority"}
    assert read({}) == read(None) == PolicyDocument()


def test_a_name_alone_is_a_target():
    assert read({"targets": ["gpt-4o"]}).targets == (Target("gpt-4o"),)


def test_capabilities_and_tiers_are_read_in_the_words_of_other_systems():
    demanded = read({"requirements": {"capabilities": ["Function_Calling"], "max_cost_tier": "high"}}).requirements
    assert (demanded.capabilities, demanded.max_cost_tier) == (frozenset({"tools"}), "HIGH")


@pytest.mark.parametrize(
    ("document", "place"),
    [
        ({"target": []}, "target"),
        ({"targets": "gpt-4o"}, "targets"),
        ({"targets": [{}]}, "targets[0]"),
        ({"targets": [{"model": "a", "kind": "node"}]}, "targets[0]"),
        ({"targets": [{"model": "a", "weight": -1}]}, "targets[0].weight"),
        ({"targets": [{"model": "a", "weigth": 1}]}, "targets[0].weigth"),
        ({"targets": ["a", {"kind": "nodes"}]}, "targets[1].kind"),
        ({"requirements": {"task": "x"}}, "requirements.task"),
        ({"requirements": {"max_cost_tier": "CHEAP"}}, "requirements.max_cost_tier"),
        ({"requirements": {"vision": 1}}, "requirements.vision"),
        ({"requirements": []}, "requirements"),
        ({"strategy": "luck"}, "strategy"),
        ({"fallbacks": [1]}, "fallbacks"),
        ({"retries": {"attempts": 11}}, "retries.attempts"),
        ({"retries": {"backoff": 0.5}}, "retries.backoff"),
        ({"timeouts": {"attempt_seconds": 0}}, "timeouts.attempt_seconds"),
        ({"cache": {"ttl_seconds": -1}}, "cache.ttl_seconds"),
        ({"cache": {"scope": "team"}}, "cache.ttl_seconds"),
        ({"cache": {"ttl_seconds": 5, "scope": "world"}}, "cache.scope"),
        ({"cache": {"seconds": 5}}, "cache.seconds"),
        ({"max_cost": "free"}, "max_cost"),
        ({"max_cost": "-1"}, "max_cost"),
        ({"overridable": "yes"}, "overridable"),
        ([], ""),
    ],
)
def test_what_is_wrong_is_named_by_its_place(document, place):
    with pytest.raises(BadPolicy) as refused:
        read(document, ["priority", "balanced"])
    assert place in [where for where, _ in refused.value.problems]


def test_every_mistake_is_named_at_once():
    with pytest.raises(BadPolicy) as refused:
        read({"strategy": "luck", "max_cost": "free", "more": 1}, ["priority"])
    assert [where for where, _ in refused.value.problems] == ["strategy", "max_cost", "more"]


def test_two_versions_are_compared_member_by_member():
    before = as_document(PolicyDocument((Target("a"), Target("b")), max_cost=Decimal("0.1")))
    after = as_document(PolicyDocument((Target("a", weight=3),), Requirements(vision=True), "weighted"))
    assert differences(before, after) == [
        ("targets[1].model", "b", None),
        ("strategy", "priority", "weighted"),
        ("max_cost", "0.1", None),
        ("targets[0].weight", None, 3),
        ("requirements.vision", None, True),
    ]
    assert differences(before, before) == []
