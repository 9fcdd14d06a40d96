"""The dry run over REST: the source system's question, the whole explanation, and nothing that happens because of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
import redis
from django.conf import settings
from django.test import Client

from inference.models import DecisionRecord, Trace
from providers.capabilities import TASKS
from routing import snapshot
from routing.models import Policy
from tests.fakes.upstream import FakeUpstream
from tests.inference import workers

pytestmark = pytest.mark.django_db

SEEDS = ("provider_id", "model_id", "estimated_cost", "reason", "provider_type")


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    with FakeUpstream() as server:
        yield server


@pytest.fixture(autouse=True)
def _registry(db: None) -> Iterator[None]:
    workers.fresh_registry()
    local = workers.add_provider("ollama_local", "fake", priority=1)
    workers.add_model(local, "llama3.1:8b", tasks=["chat_small"], context_window=8192, **priced("0", "0"))
    workers.add_model(local, "llama3.1:70b", tasks=["chat_smart"], context_window=8192, **priced("0", "0"))
    cloud = workers.add_provider("openai_cloud", "fake", priority=2)
    workers.add_model(
        cloud,
        "gpt-4o-mini",
        tasks=["chat_small"],
        capabilities=["chat", "vision"],
        context_window=128_000,
        **priced("0.15", "0.60"),
    )
    workers.add_model(
        cloud,
        "gpt-4o",
        tasks=["chat_smart"],
        capabilities=["chat", "vision"],
        context_window=128_000,
        **priced("2.50", "10"),
    )
    yield
    snapshot.replace(None)


def priced(input_cost: str, output_cost: str) -> dict[str, Decimal]:
    return {"input_cost_per_million": Decimal(input_cost), "output_cost_per_million": Decimal(output_cost)}


def ask(body: Any, key: str | None = None, **headers: str) -> Any:
    secret = key or workers.client_key("generate")[1]
    text = body if isinstance(body, str) else json.dumps(body)
    return Client().post(
        "/api/v1/route",
        text,
        content_type="application/json",
        headers={"Authorization": f"Bearer {secret}", **headers},
    )


# --- As the source system's clients ask ---------------------------------------------------------------------------------------


def test_the_source_systems_question_has_its_answer() -> None:
    told = ask({"task": "chat_smart", "require_vision": False, "max_cost": 0.05}).json()
    assert [told[name] for name in SEEDS] == [
        "ollama_local",
        "llama3.1:70b",
        0.0,
        "ollama_local/llama3.1:70b: first by priority",
        "fake",
    ]


def test_the_estimate_is_that_of_the_source_system() -> None:
    told = ask({"task": "chat_small", "require_vision": True}).json()
    assert (told["model_id"], told["estimated_cost"]) == ("gpt-4o-mini", 0.00045)


def test_a_task_that_does_not_exist_is_refused_with_the_seven_that_do() -> None:
    answer = ask({"task": "chat_fast"})
    assert answer.status_code == 400
    assert all(task in answer.json()["detail"] for task in TASKS)


@pytest.mark.parametrize(
    ("wishes", "code", "live_status"),
    [
        ({"require_vision": True, "max_cost": 0.000001}, "max_cost_exceeded", 400),
        ({"context_size": 500_000}, "context_length_exceeded", 400),
        ({"capabilities": ["telepathy"]}, "unsupported_capability", 400),
    ],
)
def test_when_nothing_fits_the_code_says_why(wishes: dict[str, Any], code: str, live_status: int) -> None:
    answer = ask({"task": "chat_smart", **wishes})
    told = answer.json()
    assert (answer.status_code, told["code"], told["live_status"]) == (503, code, live_status)
    assert answer["Content-Type"] == "application/problem+json"
    assert {one["route"] for one in told["explanation"]["dropped"]} >= {
        "ollama_local/llama3.1:70b",
        "openai_cloud/gpt-4o",
    }


def test_the_size_of_the_context_rules_small_models_out() -> None:
    told = ask({"task": "chat_smart", "context_size": 10_000}).json()
    assert told["model_id"] == "gpt-4o"
    assert ("ollama_local/llama3.1:70b", "prompt_too_long") in {
        (one["route"], one["reason"]) for one in told["dropped"]
    }


# --- As it would be sent ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nested", [True, False])
def test_a_whole_request_is_explained(nested: bool) -> None:
    request = {
        "model": "gpt-4o",
        "messages": [{"role": "user", "content": "x" * 4000}],
        "max_tokens": 100,
        "some_new_member": {"of": "tomorrow"},
    }
    told = ask({"request": request} if nested else request).json()
    assert [one["route"] for one in told["candidates"]] == ["openai_cloud/gpt-4o"]
    assert told["request"]["max_output_tokens"] == 100
    assert told["estimate"]["output_tokens"] == 100
    assert told["estimate"]["input_tokens"] >= 1000
    assert told["notices"] == []


def test_a_long_prompt_rules_small_models_out() -> None:
    long = {"messages": [{"role": "user", "content": "word " * 10_000}], "task": "chat_smart"}
    assert ask(long).json()["model_id"] == "gpt-4o"


def test_a_node_is_named_by_member_or_by_header() -> None:
    Policy.objects.create(name="writer", kind="node", document={"targets": ["gpt-4o"]})
    for told in (ask({"node": "writer"}), ask({}, **{"x-gateway-node": "writer"}), ask({"model": "node/writer"})):
        assert told.json()["policy"] == {
            "name": "writer",
            "kind": "node",
            "version": 1,
            "override": None,
            "cache": None,
        }


def test_another_strategy_can_be_tried() -> None:
    told = ask({"task": "chat_small", "strategy": "cost_optimized"}).json()
    assert told["strategy"] == "cost_optimized"
    assert ask({"strategy": "magic"}).json()["errors"][0]["field"] == "strategy"


def test_what_would_have_to_change_is_told_with_it() -> None:
    told = ask({"task": "chat_smart", "wanted": "gpt-4o"}).json()["what_would_change"]
    assert (told["wanted"], told["verdict"], told["place"]) == ("openai_cloud/gpt-4o", "outranked", 2)
    assert "Send preferred_model 'openai_cloud/gpt-4o'." in [way["remedy"] for way in told["ways"]]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"request": "text"}, "request"),
        ({"operation": "sing"}, "operation"),
        ({"messages": "text"}, "messages"),
        ({"max_cost": "dear"}, "max_cost"),
        ({"context_size": -1}, "context_size"),
        ({"wanted": 5}, "wanted"),
        ({"data_tags": "pii"}, "data_tags"),
    ],
)
def test_what_is_wrong_is_named(body: dict[str, Any], field: str) -> None:
    answer = ask(body)
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == field


def test_a_name_that_nothing_has_is_not_found_with_the_nearest() -> None:
    answer = ask({"model": "gpt-4"})
    assert answer.status_code == 404
    assert "gpt-4o" in answer.json()["explanation"]["nearest"]


# --- Who is told what ---------------------------------------------------------------------------------------------------------


def test_without_a_key_nothing_is_told() -> None:
    assert Client().post("/api/v1/route", "{}", content_type="application/json").status_code == 401


def test_a_key_learns_nothing_of_models_that_it_may_not_use() -> None:
    _, key = workers.client_key("generate", allowed_models=["llama*"])
    for body in ({}, {"wanted": "gpt-4o"}, {"provider_id": "ollama_local"}, {"wanted": "openai_cloud/gpt-4o-mini"}):
        answer = ask(body, key)
        assert answer.status_code == 200
        known = json.loads(answer.content)
        wanted = known.pop("what_would_change", {"verdict": "unknown", "steps": []})
        assert "openai_cloud" not in json.dumps(known)
        assert (wanted["verdict"], wanted["steps"]) == ("unknown", [])


def test_only_who_reads_the_registry_asks_for_another_key() -> None:
    prefix, _ = workers.client_key("generate", allowed_models=["gpt-4o"])
    assert ask({"client_key": prefix}).status_code == 400
    _, admin = workers.client_key("registry:read", "generate")
    told = ask({"client_key": prefix, "task": "chat_smart"}, admin).json()
    assert [one["route"] for one in told["candidates"]] == ["openai_cloud/gpt-4o"]
    assert told["request"]["client_key"] == prefix
    assert "model_not_allowed" in told["dropped_by_reason"]


# --- Nothing happens ----------------------------------------------------------------------------------------------------------


def test_nobody_is_called_and_nothing_is_written(upstream: FakeUpstream) -> None:
    remote = workers.add_provider("remote", "openai_compatible", base_url=upstream.base_url)
    workers.add_model(remote, "far", tasks=["chat_smart"])
    key = workers.client_key("generate")[1]
    ask({"model": "far"}, key)
    with redis.Redis.from_url(settings.REDIS_URL) as store:
        store.flushdb()
        assert ask({"model": "far", "session_id": "s", "wanted": "gpt-4o"}, key).status_code == 200
        assert store.keys() == []
    assert upstream.requests == []
    assert (Trace.objects.count(), DecisionRecord.objects.count()) == (0, 0)
