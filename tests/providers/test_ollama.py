"""A provider of Ollama's type as the control plane sees it: what it offers, and whether it is well."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from providers import discovery, ollama, probes
from providers.models import Provider
from tests.fakes.ollama import CONTEXT_LENGTH
from tests.fakes.upstream import Answer, FakeUpstream, failure


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    with FakeUpstream(models=["llama3.2:latest", "nomic-embed-text"]) as fake:
        yield fake


@pytest.fixture(params=["", "/v1"], ids=["its address", "an address from before"])
def provider(db: None, upstream: FakeUpstream, request: pytest.FixtureRequest) -> Provider:
    return Provider.objects.create(
        provider_id="up", provider_type="ollama", connection_params={"base_url": upstream.origin + request.param}
    )


def test_its_models_are_offered_with_what_it_shows_of_each(provider: Provider, upstream: FakeUpstream) -> None:
    chat, embedding = discovery.offered(provider)
    assert (chat.model_id, chat.model_type, chat.context_window) == ("llama3.2:latest", "chat", CONTEXT_LENGTH)
    assert {"chat", "streaming", "json_mode", "tools"} <= set(chat.capabilities)
    assert "chat" not in embedding.capabilities
    assert chat.parameters["details"]["quantization_level"] == "Q4_K_M"
    assert embedding.model_type == "embedding"
    assert [request.path for request in upstream.requests] == ["/api/tags", "/api/show", "/api/show"]


def test_a_model_that_it_does_not_show_is_offered_as_it_is_listed(provider: Provider, upstream: FakeUpstream) -> None:
    upstream.script(Answer(json={"models": [{"name": "m"}]}), failure(500))
    assert [(offer.model_id, offer.context_window) for offer in discovery.offered(provider)] == [("m", None)]


def test_a_probe_finds_it_well_in_its_own_protocol(provider: Provider, upstream: FakeUpstream) -> None:
    found = {stage["name"]: stage["status"] for stage in probes.probe(provider).stages}
    assert (found["auth"], found["list_models"]) == ("ok", "ok")
    assert {request.path for request in upstream.requests} == {"/api/tags"}


def test_a_recent_list_says_all_so_nothing_more_is_asked() -> None:
    listed = {"name": "m", "capabilities": ["completion"], "details": {"context_length": 4096, "family": "llama"}}
    assert ollama.is_told(listed)
    assert ollama.described(listed, {})["context_length"] == 4096
    assert not ollama.is_told({"name": "m"})
