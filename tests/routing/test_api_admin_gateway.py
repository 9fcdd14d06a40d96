"""A source system's admin API: its clients find their questions answered from policies."""

from __future__ import annotations

import pytest
from django.test import override_settings

from routing import health, nodes, policy_actions, snapshot
from routing.models import Override, Policy, PolicyVersion
from routing.types import Conditions, RouteCondition
from tests.callers import caller
from tests.routing.policy_snapshots import store_seed_001

pytestmark = pytest.mark.django_db

URL = "/api/admin/gateway"
CLAUDE = "anthropic/claude-3.5-sonnet-20241022"
GEMINI = "google/gemini-2.0-flash-exp"


@pytest.fixture
def admin():
    return caller("admin")


@pytest.fixture
def seed():
    store_seed_001()


@pytest.fixture
def seen(monkeypatch):
    """Let the routes have fared so."""

    def set_conditions(**routes):
        told = {route.replace("__", "/"): condition for route, condition in routes.items()}
        monkeypatch.setattr(health, "read", lambda: Conditions(told))

    return set_conditions


def get(client, path, **query):
    answer = client.get(f"{URL}/{path}", query)
    assert answer.status_code == 200, answer.content
    return answer.json()


def put(client, path, body):
    return client.put(f"{URL}/{path}", body, format="json")


def post(client, path, body=None):
    return client.post(f"{URL}/{path}", body or {}, format="json")


SHAPES = {
    "health": ["overall_status", "providers", "timestamp"],
    "status": [
        "gateway_health",
        "configuration_valid",
        "configuration_issues",
        "configuration_warnings",
        "total_policies",
        "total_nodes",
        "current_assignments",
        "timestamp",
    ],
    "assignments": ["assignments", "timestamp"],
    "recommendations/writer": ["node_name", "recommendations", "performance_data", "requested_by", "timestamp"],
    "cost-optimization": [
        "total_nodes_analyzed",
        "optimization_opportunities",
        "estimated_savings_per_request",
        "recommendations",
    ],
    "validate": ["valid", "issues", "warnings", "total_policies", "total_nodes"],
}


@pytest.mark.parametrize("path", SHAPES)
def test_an_answer_has_the_members_that_clients_read(admin, seed, path):
    assert set(SHAPES[path]) <= get(admin, path).keys()


@pytest.mark.parametrize("path", SHAPES)
def test_an_empty_gateway_answers_too(admin, path):
    assert set(SHAPES[path]) <= get(admin, path).keys()


@pytest.mark.parametrize(
    ("method", "path"),
    [("get", path) for path in (*SHAPES, "policies", "node-requirements")]
    + [("put", "policies/writer"), ("put", "policies/bulk"), ("post", "policies/reload"), ("post", "test-selection")],
)
def test_a_key_that_is_no_admins_is_refused(method, path):
    for scopes in (("generate",), ("registry:read", "registry:write")):
        assert getattr(caller(*scopes), method)(f"{URL}/{path}").status_code == 403


# --- What there is ----------------------------------------------------------------------------------------------------------


def test_the_logical_models_are_told_in_the_seeds_words(admin, seed):
    told = get(admin, "policies")
    assert set(told) == {"gemini-2.5-pro", "claude-sonnet"}
    assert told["gemini-2.5-pro"] == {
        "logical_id": "gemini-2.5-pro",
        "provider": "openrouter",
        "provider_model_id": GEMINI,
        "capabilities": {
            "streaming": True,
            "function_calling": True,
            "vision": False,
            "reasoning": False,
            "web_search": False,
            "long_context": True,
            "creative_writing": True,
            "code_generation": False,
            "json_mode": False,
        },
        "cost_tier": "MEDIUM",
        "context_window": 32000,
        "input_cost_per_1k": 0.00015,
        "output_cost_per_1k": 0.0006,
        "fallback_models": ["claude-sonnet", "gpt-4o"],
        "admin_overridable": True,
    }


def test_the_nodes_are_told_with_what_they_demand(admin, seed):
    assert get(admin, "node-requirements")["writer"] == {
        "required_capabilities": ["creative_writing", "streaming"],
        "preferred_capabilities": ["function_calling", "long_context"],
        "min_context_window": 8000,
        "max_cost_tier": "HIGH",
        "reasoning_required": False,
    }


def test_each_node_is_served_by_what_meets_its_demands(admin, seed):
    told = get(admin, "assignments")["assignments"]
    assert {node: one["model_id"] for node, one in told.items()} == {
        "writer": "gemini-2.5-pro",
        "evaluator": "claude-sonnet",
        "search_perplexity": None,
    }
    assert "web_search" in told["search_perplexity"]["reasoning"]


def test_the_status_counts_and_names_issues(admin, seed):
    told = get(admin, "status")
    assert (told["total_policies"], told["total_nodes"], told["configuration_valid"]) == (2, 3, False)
    assert told["current_assignments"]["evaluator"] == "claude-sonnet"


def test_validation_names_what_is_undefined_and_who_is_unserved(admin, seed):
    told = get(admin, "validate")
    text = " ".join(told["issues"])
    assert (told["valid"], "search_perplexity" in text, "gpt-4o" in text) == (False, True, True)
    assert (told["total_policies"], told["total_nodes"]) == (2, 3)


def test_health_is_worse_when_a_breaker_is_open(admin, seed, seen):
    assert get(admin, "health")["overall_status"] == "healthy"
    seen(**{f"openrouter/{CLAUDE}": RouteCondition(breaker="open")})
    told = get(admin, "health")
    assert told["overall_status"] == "degraded"
    assert told["providers"]["openrouter"]["circuit_breakers"] == {CLAUDE: "open"}
    assert get(admin, "status")["gateway_health"] == "degraded"


# --- Selecting --------------------------------------------------------------------------------------------------------------


def test_a_node_that_nobody_wrote_down_chooses_among_the_logical_models(admin, seed):
    answer = post(
        admin, "test-selection", {"node_name": "formatter", "capabilities": ["streaming"], "strategy": "balanced"}
    )
    told = answer.json()
    assert answer.status_code == 200
    assert (told["selected_model"], told["provider"]) == ("gemini-2.5-pro", "openrouter")
    assert "60.0 against 50.0" in told["reasoning"]
    assert told["estimated_cost"] == 0.00045
    assert told["alternatives"] == ["claude-sonnet"]
    assert told["fallback_chain"] == ["claude-sonnet"]
    assert 0 < told["confidence_score"] <= 1
    assert told["tested_by"].startswith("key:")
    assert told["explanation"]["candidates"][0]["model_id"] == GEMINI


def test_a_selection_needs_no_more_than_the_node(admin, seed):
    assert post(admin, "test-selection", {"node_name": "evaluator"}).json()["selected_model"] == "claude-sonnet"


def test_a_request_may_demand_more_than_the_node(admin, seed):
    body = {"node_name": "formatter", "capabilities": ["reasoning"], "tier": "standard"}
    assert post(admin, "test-selection", body).json()["selected_model"] == "claude-sonnet"


def test_a_tier_may_be_capped(admin, seed):
    body = {"node_name": "formatter", "capabilities": ["streaming"], "cost_tier_override": "medium"}
    assert post(admin, "test-selection", body).json()["alternatives"] == []


def test_where_nobody_fits_the_missing_capability_is_named(admin, seed):
    answer = post(admin, "test-selection", {"node_name": "search_perplexity"})
    told = answer.json()
    assert (answer.status_code, told["selected_model"], told["confidence_score"]) == (422, None, 0)
    assert "web_search" in told["reasoning"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "node_name"),
        ({"node_name": "x", "strategy": "astrology"}, "strategy"),
        ({"node_name": "x", "capabilities": "streaming"}, "capabilities"),
        ({"node_name": "x", "cost_tier_override": "FREE"}, "cost_tier_override"),
    ],
)
def test_a_selection_that_does_not_read_is_refused(admin, body, field):
    answer = post(admin, "test-selection", body)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, field)


def test_a_body_that_is_too_large_is_refused_as_such(admin, settings):
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1024
    answer = post(admin, "test-selection", {"node_name": "w" * 2000})
    assert (answer.status_code, answer.json()["code"]) == (413, "request_too_large")
    assert "1024 bytes" in answer.json()["detail"]


def test_trying_a_selection_changes_nothing(admin, seed):
    before = snapshot.refresh()
    post(admin, "test-selection", {"node_name": "formatter"})
    assert snapshot.refresh() is before
    assert "formatter" not in before.policies


# --- Overriding -------------------------------------------------------------------------------------------------------------


def serves(node):
    first = nodes.select(node, snapshot.refresh(), Conditions(), now=0).first
    return nodes.name_of(first)


def test_the_seeds_own_override_counts_at_once(admin, seed):
    assert serves("writer") == "gemini-2.5-pro"
    answer = put(admin, "policies/writer", {"model_id": "claude-sonnet", "mode": "override"})
    told = answer.json()
    assert answer.status_code == 200
    assert {"success", "node_name", "model_id", "mode", "updated_by", "timestamp"} <= told.keys()
    assert (told["success"], told["model_id"], told["mode"]) == (True, "claude-sonnet", "override")
    assert serves("writer") == "claude-sonnet"
    assert get(admin, "assignments")["assignments"]["writer"]["mode"] == "override"


def test_a_process_that_held_the_older_registry_sees_the_override(admin, seed):
    held = snapshot.refresh()
    put(admin, "policies/writer", {"model_id": "claude-sonnet"})
    snapshot.replace(held)  # as another process that has not looked yet
    assert snapshot.refresh().revision > held.revision
    assert serves("writer") == "claude-sonnet"


def test_an_override_ends_by_its_ttl(admin, seed):
    told = put(admin, "policies/writer", {"model_id": "claude-sonnet", "ttl": 60}).json()
    expires_at = Override.objects.get().expires_at.timestamp()
    assert told["expires_at"] is not None
    registry = snapshot.refresh()
    for now, model in ((expires_at - 1, "claude-sonnet"), (expires_at, "gemini-2.5-pro")):
        assert nodes.name_of(nodes.select("writer", registry, Conditions(), now=now).first) == model


def test_default_takes_the_override_away(admin, seed):
    put(admin, "policies/writer", {"model_id": "claude-sonnet"})
    told = put(admin, "policies/writer", {"mode": "default"}).json()
    assert told["model_id"] == "gemini-2.5-pro"
    assert not Override.objects.exists()


def test_config_writes_the_model_into_the_policy_as_a_new_version(admin, seed):
    Policy.objects.get(name="writer")
    policy_actions.create(
        {"name": "editor", "kind": "node", "document": {"targets": [{"kind": "logical"}], "strategy": "balanced"}}
    )
    assert serves("editor") == "gemini-2.5-pro"
    assert put(admin, "policies/editor", {"model_id": "claude-sonnet", "mode": "config"}).status_code == 200
    row = Policy.objects.get(name="editor")
    assert (row.version, row.document["targets"], row.document["fallbacks"]) == (
        2,
        [{"model": "claude-sonnet"}],
        ["gemini-2.5-pro"],
    )
    assert serves("editor") == "claude-sonnet"
    assert "claude-sonnet" in PolicyVersion.objects.get(policy=row, number=2).note


def test_config_refuses_a_model_that_the_node_would_never_ask(admin, seed):
    answer = put(admin, "policies/writer", {"model_id": "claude-sonnet", "mode": "config"})
    assert (answer.status_code, answer.json()["code"]) == (409, "requirements_not_met")
    assert "creative_writing" in answer.json()["detail"]
    assert Policy.objects.get(name="writer").version == 1


def test_config_leaves_what_a_file_owns(admin, seed):
    Policy.objects.filter(name="evaluator").update(managed_by="/etc/gateway/nodes.yaml")
    answer = put(admin, "policies/evaluator", {"model_id": "claude-sonnet", "mode": "config"})
    assert (answer.status_code, answer.json()["code"]) == (409, "owned_by_file")


def test_what_says_that_it_may_not_be_overridden_is_not(admin, seed):
    row = Policy.objects.get(name="writer")
    policy_actions.update(row, {"document": row.document | {"overridable": False}})
    answer = put(admin, "policies/writer", {"model_id": "claude-sonnet"})
    assert (answer.status_code, answer.json()["code"]) == (409, "not_overridable")


def test_a_model_that_may_not_override_does_not(admin, seed):
    row = Policy.objects.get(name="claude-sonnet")
    policy_actions.update(row, {"document": row.document | {"overridable": False}})
    answer = put(admin, "policies/writer", {"model_id": "claude-sonnet"})
    assert (answer.status_code, answer.json()["code"]) == (409, "not_overridable")


def test_an_unknown_model_and_an_unknown_node_are_told_apart(admin, seed):
    model = put(admin, "policies/writer", {"model_id": "gpt-9"})
    node = put(admin, "policies/reader", {"model_id": "claude-sonnet"})
    assert (model.status_code, model.json()["code"]) == (400, "unknown_model")
    assert (node.status_code, node.json()["code"]) == (404, "unknown_node")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "model_id"),
        ({"model_id": "claude-sonnet", "mode": "sometimes"}, "mode"),
        ({"model_id": "claude-sonnet", "ttl": "soon"}, "ttl"),
        ({"model_id": "claude-sonnet", "ttl": -1}, "ttl"),
    ],
)
def test_an_update_that_does_not_read_is_refused(admin, seed, body, field):
    answer = put(admin, "policies/writer", body)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, field)


def test_the_bulk_path_is_not_taken_for_a_node(admin, seed):
    body = {"updates": {"writer": "gemini-2.5-pro", "evaluator": "claude-sonnet"}}
    answer = put(admin, "policies/bulk", body)
    told = answer.json()
    assert answer.status_code == 200
    assert {"results", "updated_by", "timestamp"} <= told.keys()
    assert {node: one["success"] for node, one in told["results"].items()} == {"writer": True, "evaluator": True}
    assert Override.objects.count() == 2


def test_of_a_bulk_the_good_are_written_and_the_bad_say_why(admin, seed):
    updates = {
        "writer": {"model_id": "claude-sonnet", "ttl": 60},
        "reader": "claude-sonnet",
        "evaluator": "gpt-9",
        "search_perplexity": {"mode": "default"},
    }
    results = put(admin, "policies/bulk", {"updates": updates}).json()["results"]
    assert {node: one.get("code", "done") for node, one in results.items()} == {
        "writer": "done",
        "reader": "unknown_node",
        "evaluator": "unknown_model",
        "search_perplexity": "done",
    }
    assert Override.objects.get().expires_at is not None


def test_a_bulk_has_a_mode_for_all(admin, seed):
    put(admin, "policies/bulk", {"updates": {"evaluator": "claude-sonnet"}, "mode": "config"})
    assert not Override.objects.exists()
    assert Policy.objects.get(name="evaluator").version == 2


@pytest.mark.parametrize("updates", [[], "x", {"writer": 5}, {"writer": {"mode": 1}}, {"writer": None}])
def test_a_bulk_that_does_not_read_is_no_server_error(admin, seed, updates):
    answer = put(admin, "policies/bulk", {"updates": updates})
    assert answer.status_code == 400 or not answer.json()["results"]["writer"]["success"]


def test_a_node_named_bulk_is_reached_by_its_kind(admin, seed):
    policy_actions.create({"name": "bulk", "kind": "node", "document": {"targets": [{"kind": "logical"}]}})
    assert put(admin, "policies/node/bulk", {"model_id": "claude-sonnet"}).status_code == 200
    assert Override.objects.get().policy.name == "bulk"


def test_files_are_read_again(admin, tmp_path):
    missing = str(tmp_path / "none.yaml")
    assert post(admin, "policies/reload").json()["success"] is True
    with override_settings(GATEWAY_CONFIG_FILES=[missing]):
        told = post(admin, "policies/reload").json()
    assert {"success", "message", "reloaded_by", "timestamp"} <= told.keys()
    assert (told["success"], missing in told["message"]) == (False, True)


# --- What could be better ---------------------------------------------------------------------------------------------------


def test_recommendations_come_with_how_the_models_did(admin, seed, seen):
    seen(
        **{f"openrouter/{GEMINI}": RouteCondition(calls=40, success_rate=0.95, latency_seconds=1.25, recent_failures=1)}
    )
    told = get(admin, "recommendations/writer")
    assert [one["model_id"] for one in told["recommendations"]] == ["gemini-2.5-pro", "claude-sonnet"][:1]
    assert told["performance_data"]["gemini-2.5-pro"]["success_rate"] == 0.95
    assert told["performance_data"]["gemini-2.5-pro"]["avg_latency_ms"] == 1250


def test_an_unknown_node_is_recommended_logical_models(admin, seed):
    told = get(admin, "recommendations/formatter")
    assert {one["model_id"] for one in told["recommendations"]} == {"gemini-2.5-pro", "claude-sonnet"}


def test_nothing_can_be_saved_where_every_node_is_served_by_the_only_model(admin, seed):
    told = get(admin, "cost-optimization")
    assert (told["total_nodes_analyzed"], told["optimization_opportunities"]) == (3, 0)
    assert told["estimated_savings_per_request"] == 0


def test_a_wasteful_assignment_is_found_with_what_it_costs(admin, seed):
    put(admin, "policies/writer", {"model_id": "claude-sonnet"})
    told = get(admin, "cost-optimization")
    assert told["optimization_opportunities"] == 1
    (found,) = told["recommendations"]
    assert (found["node_name"], found["current_model"], found["recommended_model"]) == (
        "writer",
        "claude-sonnet",
        "gemini-2.5-pro",
    )
    assert told["estimated_savings_per_request"] == pytest.approx(0.0105 - 0.00045)


@pytest.mark.parametrize(
    ("method", "path", "members"),
    [
        ("GET", "health", "overall_status providers timestamp"),
        (
            "GET",
            "status",
            "gateway_health configuration_valid configuration_issues configuration_warnings total_policies total_nodes current_assignments timestamp",
        ),
        ("GET", "policies", ""),
        ("GET", "node-requirements", ""),
        ("GET", "assignments", "assignments timestamp"),
        ("PUT", "policies/writer", "success node_name model_id mode updated_by timestamp"),
        ("PUT", "policies/bulk", "results updated_by timestamp"),
        ("POST", "policies/reload", "success message reloaded_by timestamp"),
        (
            "POST",
            "test-selection",
            "selected_model provider reasoning confidence_score estimated_cost alternatives fallback_chain tested_by timestamp",
        ),
        ("GET", "recommendations/writer", "node_name recommendations performance_data requested_by timestamp"),
        (
            "GET",
            "cost-optimization",
            "total_nodes_analyzed optimization_opportunities estimated_savings_per_request recommendations",
        ),
        ("GET", "traces", "traces limit requested_by timestamp"),
        ("GET", "metrics", "total_traces successful_traces error_rate avg_duration_ms operations time_range_hours"),
        ("GET", "validate", "valid issues warnings total_policies total_nodes"),
    ],
)
def test_an_answer_has_every_member_that_its_clients_read(admin, seed, method, path, members):
    body = {"model_id": "claude-sonnet", "updates": {}, "node_name": "writer"}
    answer = getattr(admin, method.lower())(f"{URL}/{path}", *([body] if method != "GET" else []))
    assert answer.status_code == 200, answer.content
    assert set(members.split()) <= answer.json().keys()
