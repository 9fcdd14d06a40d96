"""Promises 0-07, 0-20, 2-05 and 3-39: the in-process client's ways to choose, and what a selection changes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client

from inference import client, errors
from inference.recording import Recorder
from routing import snapshot
from routing.models import Policy
from tests.fakes.upstream import FakeUpstream
from tests.inference import workers

pytestmark = pytest.mark.django_db(transaction=True)

PNG = b"\x89PNG\r\n\x1a\n" + bytes(8)


@pytest.fixture(autouse=True)
def registry(client_recorder: Recorder) -> Iterator[None]:
    workers.fresh_registry()
    cheap = workers.add_provider("cheap", "fake", priority=1)
    workers.add_model(cheap, "llama3.1:8b")
    workers.add_model(cheap, "seeing", capabilities=["chat", "vision"])
    workers.add_model(workers.add_provider("other", "fake", priority=2), "gpt-4o-mini")
    yield
    snapshot.replace(None)


def point(name: str, model: str) -> None:
    document = {"targets": [{"model": model}]}
    Policy.objects.update_or_create(name=name, defaults={"kind": "alias", "document": document})


def test_the_four_examples_of_the_bridge_s_client() -> None:
    assert client.chat("Hello").model_id == "llama3.1:8b"
    assert client.chat("Hello", model="gpt-4o-mini").model_id == "gpt-4o-mini"
    assert client.chat("Hello", preferred_model="gpt-4o-mini").model_id == "gpt-4o-mini"
    seen = client.chat_with_image("What's in this image?", image_url="https://example.com/image.jpg")
    assert seen.model_id == "seeing"
    assert client.chat("Hello", max_cost=0.01).generated_content == "Hello"


def test_a_limit_of_cost_is_an_amount_in_any_type_of_number() -> None:
    assert client.chat("Hello", max_cost=Decimal("0.01")).generated_content == "Hello"
    for nothing in (float("nan"), float("inf"), Decimal("NaN")):
        with pytest.raises(errors.InvalidRequest, match="max_cost"):
            client.chat("Hello", max_cost=nothing)


async def test_the_same_from_async_code() -> None:
    assert (await client.chat_async("Hello", preferred_model="gpt-4o-mini")).model_id == "gpt-4o-mini"
    assert (await client.chat_with_image_async("What?", image=PNG)).model_id == "seeing"


def test_a_picture_s_bytes_reach_the_model() -> None:
    with FakeUpstream() as upstream:
        owner = workers.add_provider("real", "openai_compatible", base_url=upstream.base_url)
        workers.add_model(owner, "eyes", capabilities=["chat", "vision"])
        client.chat_with_image("What?", image=PNG, model="eyes")
        sent = upstream.requests[-1].json
    assert sent["messages"][0]["content"][1]["image_url"]["url"].startswith("data:image/png;base64,")
    assert not {"require_vision", "max_cost", "preferred_model"} & sent.keys()


def test_the_models_are_listed() -> None:
    listed = client.list_models()
    assert [model["name"] for model in listed] == ["llama3.1:8b", "seeing", "gpt-4o-mini"]
    assert listed[0]["id"] == "cheap/llama3.1:8b"
    assert listed[0]["status"] == "active"


def test_a_selection_holds_for_its_session() -> None:
    assert client.select_model("gpt-4o-mini", session_id="s1") == "gpt-4o-mini"
    assert client.chat("Hello", session_id="s1").model_id == "gpt-4o-mini"
    assert client.chat("Hello", session_id="s2").model_id == "llama3.1:8b"
    assert client.chat("Hello", "seeing", session_id="s1").model_id == "seeing"


def test_a_model_is_selected_by_what_it_declares() -> None:
    assert client.select_model(capability="vision") == "seeing"
    assert client.chat("Hello").model_id == "seeing"


def test_a_selected_chat_model_leaves_embeddings_alone() -> None:
    owner = workers.add_provider("vectors", "fake", priority=3)
    workers.add_model(owner, "e5", "embedding", dimension=4)
    workers.add_model(owner, "bge", "embedding", dimension=6)
    client.select_model("gpt-4o-mini")
    client.select_model("bge")
    assert client.complete({"input": "hi"}, operation="embeddings").model_id == "bge"
    assert client.chat("Hello").model_id == "gpt-4o-mini"


def test_what_cannot_be_selected_says_so() -> None:
    with pytest.raises(errors.ModelNotFound):
        client.select_model("gpt-9")
    with pytest.raises(errors.InvalidRequest):
        client.select_model()


def test_a_selection_over_http_holds_for_requests_of_the_same_key_and_session() -> None:
    key = workers.client_key("generate")[1]
    headers = {"Authorization": f"Bearer {key}", "x-session-id": "s1"}
    body = json.dumps({"model_name": "gpt-4o-mini"})
    assert Client().post("/api/models/select", body, "application/json", headers=headers).status_code == 200

    def chat(**more: str) -> Any:
        told = json.dumps({"messages": "hi", "conversation_id": more.pop("session", "s1")})
        sent = {"Authorization": f"Bearer {more.pop('key', key)}"}
        return Client().post("/api/chat/complete", told, "application/json", headers=sent).json()["model_used"]

    assert chat() == "gpt-4o-mini"
    assert chat(session="s2") == "llama3.1:8b"
    assert chat(key=workers.client_key("generate", name="another")[1]) == "llama3.1:8b"


def test_heavy_and_light_reach_different_models() -> None:
    point("heavy", "gpt-4o-mini")
    point("light", "seeing")
    assert client.generate("Hello", heavy=True).model_id == "gpt-4o-mini"
    assert client.generate("Hello", heavy=False).model_id == "seeing"
    key = workers.client_key("generate")[1]
    for heavy, model in ((True, "gpt-4o-mini"), (False, "seeing")):
        body = json.dumps({"prompt_content": "Hello", "heavy": heavy, "config": {}})
        headers = {"Authorization": f"Bearer {key}"}
        answer = Client().post("/api/v1/generate", body, "application/json", headers=headers)
        assert answer.json()["model_id"] == model


def test_another_default_counts_from_the_next_request_on() -> None:
    point("default", "seeing")
    point("gpt-5", "default")
    assert client.chat("Hello", "gpt-5").model_id == "seeing"
    point("default", "gpt-4o-mini")
    assert client.chat("Hello", "gpt-5").model_id == "gpt-4o-mini"
