"""A node that nobody wrote down is served as it is said to be."""

from routing import nodes
from routing.decide import decide
from routing.types import NOMINAL, RequestFacts
from routing.unwritten_nodes import ANY_NODE
from tests.routing.policy_snapshots import seed_001, with_policies
from tests.routing.views import model, snapshot

NOW = 1_000.0


def served(held, **asked):
    return decide(RequestFacts(model=ANY_NODE, **asked), held, now=NOW)


def test_it_is_served_by_what_a_selection_says():
    held, streaming = seed_001(), frozenset({"streaming"})
    said = nodes.select("formatter", held, NOMINAL, now=NOW, capabilities=streaming).decision
    decision = served(held, capabilities=streaming)
    assert [one.via for one in decision.candidates] == ["gemini-2.5-pro", "claude-sonnet"]
    assert [one.model.route for one in decision.candidates] == [one.model.route for one in said.candidates]
    assert decision.strategy == said.strategy == "balanced"


def test_what_the_request_demands_holds():
    assert served(seed_001(), capabilities=frozenset({"web_search"})).candidates == ()


def test_what_a_logical_model_demands_holds():
    inner = {"targets": ["gpt-4o"], "requirements": {"local_only": True}}
    held = with_policies(model("gpt-4o"), policies={"inner": inner}, kinds={"inner": "logical"})
    assert served(held).candidates == ()


def test_without_logical_models_nothing_has_that_name():
    assert served(snapshot(model("a"))).reason == f"no model is named {ANY_NODE!r}"
