from __future__ import annotations

from typing import Any

import pytest

from inference import chat_requests
from inference.errors import InvalidRequest
from routing.unwritten_nodes import ANY_NODE
from tests.routing.policy_snapshots import seed_001
from tests.routing.views import model, snapshot

MESSAGES = [{"role": "user", "content": "hi"}]
STRATEGIES = ("balanced", "priority")


def test_what_is_said_of_models_becomes_a_demand_and_the_rest_goes_on() -> None:
    asked = chat_requests.read(
        {
            "messages": MESSAGES,
            "node_name": "writer",
            "capabilities": ["function_calling"],
            "strategy": "balanced",
            "tier": "standard",
            "max_cost_tier": "high",
            "temperature": 0.2,
            "max_tokens": None,
            "tools": [{"type": "function"}],
            "user_context": {"conversation_id": "c-1"},
        },
        STRATEGIES,
    )
    assert asked.body("node/writer") == {
        "model": "node/writer",
        "messages": MESSAGES,
        "temperature": 0.2,
        "tools": [{"type": "function"}],
        "gateway_capabilities": ["tools"],
        "gateway_strategy": "balanced",
        "gateway_max_cost_tier": "HIGH",
    }
    assert asked.conversation_id == "c-1"


@pytest.mark.parametrize(
    ("told", "param"),
    [
        ([], None),
        ({}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": ["hi"]}, "messages"),
        ({"messages": MESSAGES, "capabilities": "vision"}, "capabilities"),
        ({"messages": MESSAGES, "strategy": "best"}, "strategy"),
        ({"messages": MESSAGES, "max_cost_tier": "cheap"}, "max_cost_tier"),
        ({"messages": MESSAGES, "model": 7}, "model"),
        ({"messages": MESSAGES, "user_context": 7}, None),
    ],
)
def test_a_bad_body_is_refused_naming_the_field(told: Any, param: str | None) -> None:
    with pytest.raises(InvalidRequest) as refused:
        chat_requests.read(told, STRATEGIES)
    assert refused.value.param == param


def test_the_oldest_form_takes_one_text_and_a_mode() -> None:
    asked = chat_requests.read_legacy({"messages": "hi", "mode": "Code", "temperature": 0.7})
    assert asked.messages == MESSAGES
    assert asked.capabilities == {"code_generation", "tools"}
    assert (asked.wished, asked.node) == (True, "legacy_code")


def test_an_unknown_mode_is_the_general_one() -> None:
    assert chat_requests.read_legacy({"messages": "hi", "mode": "poetry"}).capabilities == {"streaming"}


def test_a_node_is_asked_for_where_it_has_a_policy() -> None:
    asked = chat_requests.read({"messages": MESSAGES, "node_name": "writer"}, STRATEGIES)
    held = snapshot(model())
    assert chat_requests.name_for(asked, held) == ""
    held.policies["node/writer"] = object()  # type: ignore[index]
    assert chat_requests.name_for(asked, held) == "node/writer"
    named = chat_requests.read({"messages": MESSAGES, "node_name": "writer", "model": "gpt-4o"}, STRATEGIES)
    assert chat_requests.name_for(named, held) == "gpt-4o"


def test_a_node_that_nobody_wrote_down_asks_for_any_logical_model() -> None:
    held = seed_001()
    asked = chat_requests.read({"messages": MESSAGES, "node_name": "formatter"}, STRATEGIES)
    assert chat_requests.name_for(asked, held) == ANY_NODE
    wished = chat_requests.read_legacy({"messages": "hi", "mode": "code"})
    assert chat_requests.name_for(wished, held) == ""


def test_a_model_s_capabilities_are_shown_in_nine_words() -> None:
    shown = chat_requests.shows(frozenset({"tools", "vision"}))
    assert len(shown) == 9
    assert {word for word, holds in shown.items() if holds} == {"function_calling", "vision"}
