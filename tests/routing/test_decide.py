from hypothesis import given
from hypothesis import strategies as st

from routing.decide import decide
from tests.routing.views import facts, model, provider, snapshot

NOW = 1_000.0
OPENAI, AZURE = provider("openai", priority=1), provider("azure", priority=2)


def routes(decision):
    return [candidate.model.route for candidate in decision.candidates]


def test_every_provider_of_a_model_is_a_candidate_in_the_snapshots_order():
    decision = decide(facts(), snapshot(model(of=OPENAI), model(of=AZURE)), now=NOW)
    assert routes(decision) == ["openai/gpt-4o", "azure/gpt-4o"]
    assert decision.dropped == ()
    assert "openai/gpt-4o" in decision.reason


def test_a_qualified_name_means_that_provider():
    decision = decide(facts("azure/gpt-4o"), snapshot(model(of=OPENAI), model(of=AZURE)), now=NOW)
    assert routes(decision) == ["azure/gpt-4o"]


def test_a_pin_leaves_one_and_tells_of_the_others():
    decision = decide(facts(provider_id="azure"), snapshot(model(of=OPENAI), model(of=AZURE)), now=NOW)
    assert routes(decision) == ["azure/gpt-4o"]
    assert [(dropped.route, dropped.reason) for dropped in decision.dropped] == [("openai/gpt-4o", "provider_pinned")]


def test_an_unknown_name_gives_the_nearest():
    decision = decide(facts("gpt-4"), snapshot(model("gpt-4o"), model("claude")), now=NOW)
    assert decision.candidates == ()
    assert decision.nearest[0] == "gpt-4o"
    assert "claude" not in decision.nearest


def test_names_that_the_caller_may_not_use_are_not_suggested():
    decision = decide(facts("gpt-4", allowed=("claude*",)), snapshot(model("gpt-4o"), model("claude")), now=NOW)
    assert decision.nearest == ()


def test_a_model_that_nobody_may_use_is_dropped_and_not_unknown():
    decision = decide(facts(allowed=("claude*",)), snapshot(model()), now=NOW)
    assert decision.candidates == ()
    assert decision.nearest == ()
    assert [dropped.reason for dropped in decision.dropped] == ["model_not_allowed"]


_MODELS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from(["m", "n"]),
        st.sampled_from(["chat", "embedding"]),
    ),
    unique_by=lambda row: row[:2],
    max_size=6,
)


@given(
    _MODELS,
    st.sampled_from(["m", "n", "a/m", "x"]),
    st.sampled_from(["chat", "embeddings"]),
    st.sampled_from([None, "a", "b"]),
    st.sampled_from([None, ("m",), ("a/*",), ()]),
)
def test_each_model_of_the_name_is_a_candidate_or_dropped_with_a_reason(rows, name, operation, pin, allowed):
    held = snapshot(
        *(model(model_id, of=provider(of), model_type=kind, capabilities=()) for of, model_id, kind in rows)
    )
    decision = decide(facts(name, operation, allowed=allowed, provider_id=pin), held, now=NOW)
    named = [each.route for each in held.by_name.get(name, ())]
    assert sorted([*routes(decision), *(dropped.route for dropped in decision.dropped)]) == sorted(named)
    assert all(dropped.reason and dropped.detail for dropped in decision.dropped)
    for candidate in decision.candidates:
        assert pin in (None, candidate.model.provider.provider_id)
        assert (candidate.model.model_type == "embedding") == (operation == "embeddings")
