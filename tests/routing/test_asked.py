from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing import asked
from routing.types import Identity, RequestFacts

IDENTITY = Identity(1, "gw-abc", "tests", frozenset({"generate"}))
_NAMES = st.text("abc/-. é", min_size=1, max_size=12).map(str.strip).filter(bool)


def test_what_is_usual_is_not_told():
    assert asked.document(RequestFacts(model="gpt-4o")) == {"model": "gpt-4o"}


def test_the_client_key_stands_by_its_prefix_and_is_given_back_by_whoever_knows_it():
    told = asked.document(RequestFacts(model="m", identity=IDENTITY))
    assert told == {"model": "m", "client_key": "gw-abc"}
    assert asked.client_key(told) == "gw-abc"
    assert asked.facts(told, IDENTITY).identity is IDENTITY
    assert asked.facts(told).identity is None


@given(
    st.builds(
        RequestFacts,
        model=st.one_of(st.just(""), _NAMES),
        operation=st.sampled_from(["chat", "completions", "embeddings"]),
        stream=st.booleans(),
        provider_id=st.one_of(st.none(), _NAMES),
        session_id=st.one_of(st.none(), _NAMES),
        preferred_model=st.one_of(st.none(), _NAMES),
        require_vision=st.booleans(),
        images=st.integers(0, 5),
        max_cost=st.one_of(st.none(), st.decimals(0, 100, places=6)),
        prompt_bytes=st.integers(0, 10**6),
        prompt_tokens=st.one_of(st.none(), st.integers(0, 10**6)),
        input_tokens=st.one_of(st.none(), st.integers(0, 10**6)),
        max_output_tokens=st.one_of(st.none(), st.integers(0, 10**6)),
        choices=st.integers(1, 100),
        task=st.sampled_from(["", "vision", "chat_small"]),
        capabilities=st.frozensets(st.sampled_from(["vision", "tools", "streaming"])),
        max_cost_tier=st.sampled_from(["", "LOW", "PREMIUM"]),
        local_only=st.booleans(),
        data_tags=st.frozensets(st.sampled_from(["pii", "health"])),
        strategy=st.sampled_from(["", "priority"]),
    )
)
def test_facts_come_back_from_their_document(facts):
    assert asked.facts(asked.document(facts)) == facts


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({"task": "x"}, "task"),
        ({"operation": "sing"}, "operation"),
        ({"stream": "yes"}, "stream"),
        ({"images": -1}, "images"),
        ({"images": True}, "images"),
        ({"prompt_bytes": 1.5}, "prompt_bytes"),
        ({"max_cost": "cheap"}, "max_cost"),
        ({"max_cost": "NaN"}, "max_cost"),
        ({"max_cost": -1}, "max_cost"),
        ({"max_cost": True}, "max_cost"),
        ({"capabilities": "vision"}, "capabilities"),
        ({"capabilities": [1]}, "capabilities"),
        ({"capabilities": ["x" * 101]}, "capabilities"),
        ({"data_tags": ["x"] * 51}, "data_tags"),
        ({"max_cost_tier": "CHEAP"}, "max_cost_tier"),
        ({"model": 5}, "model"),
        ({"model": "x" * 1001}, "model"),
        ({"strategy": "luck"}, "strategy"),
        ({"models": "x"}, "models"),
    ],
)
def test_a_member_that_says_nothing_sensible_is_named(document, field):
    with pytest.raises(asked.BadRequest) as refused:
        asked.facts(document)
    assert refused.value.field == field
    assert refused.value.sentence


def test_an_unknown_task_is_answered_with_the_seven():
    with pytest.raises(asked.BadRequest, match=r"embedding, chat_small, .*, vision, audio, image_generation"):
        asked.facts({"task": "x"})


def test_words_of_other_systems_and_cases_are_understood():
    read = asked.facts({"capabilities": ["function_calling"], "max_cost_tier": "high", "max_cost": 0.05})
    assert (read.capabilities, read.max_cost_tier, read.max_cost) == (frozenset({"tools"}), "HIGH", Decimal("0.05"))


def test_null_is_the_usual():
    assert asked.facts({"max_cost": None, "task": None, "stream": None, "model": None}) == RequestFacts()


def test_what_is_no_object_is_refused():
    with pytest.raises(asked.BadRequest):
        asked.facts(["model"])
