"""Promises 3-35 and 3-36: a source system's embedding paths still work."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from django.test import Client

from inference.recording import Recorder
from routing import snapshot
from tests.fakes.upstream import FakeUpstream
from tests.inference import workers

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def registry(client_recorder: Recorder) -> Iterator[None]:
    workers.fresh_registry()
    fake = workers.add_provider("fake", "fake")
    workers.add_model(fake, "words", capabilities=["chat"])
    workers.add_model(fake, "nomic-embed-text", "embedding", dimension=12)
    yield
    snapshot.replace(None)


def post(path: str, body: dict[str, object]) -> object:
    headers = {"Authorization": f"Bearer {workers.client_key('generate')[1]}"}
    return Client().post(path, json.dumps(body), "application/json", headers=headers)


@pytest.mark.parametrize("path", ["/embed", "/embeddings", "/api/v1/embed", "/api/v1/embed/"])
@pytest.mark.parametrize("model", ["nomic-embed-text", None])
def test_a_text_becomes_a_vector_of_the_registry_s_dimension(path: str, model: str | None) -> None:
    answer = post(path, {"text": "hello there", "model": model})
    told = answer.json()
    assert answer.status_code == 200, told
    assert (told["model"], told["dimension"], len(told["embedding"])) == ("nomic-embed-text", 12, 12)
    assert told["tokens_used"] == 2


def test_a_text_that_is_missing_is_a_400_that_names_it() -> None:
    answer = post("/embed", {"model": "nomic-embed-text"})
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == "text"


def test_an_answer_without_a_vector_is_the_provider_s_fault() -> None:
    with FakeUpstream() as upstream:
        upstream.reply_with(json={"data": []})
        workers.add_model(workers.add_provider("up", "openai_compatible", base_url=upstream.base_url), "e", "embedding")
        assert post("/embed", {"text": "hi", "model": "e"}).status_code == 502
