from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from providers import discovery
from providers.discovery import DiscoveryFailed, Offered
from providers.models import AuditEntry, Provider, ProviderModel
from tests.fakes.upstream import FakeUpstream, failure

pytestmark = pytest.mark.django_db


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    with FakeUpstream(models=["gpt-b", "gpt-a", "text-embed-1"]) as fake:
        yield fake


@pytest.fixture
def provider(upstream: FakeUpstream) -> Provider:
    return Provider.objects.create(
        provider_id="up", provider_type="openai_compatible", connection_params={"base_url": upstream.base_url}
    )


def names(rows: object) -> list[str]:
    return [row.model_id for row in rows]  # type: ignore[attr-defined]


def test_the_offer_is_sorted_and_embedding_models_are_known_by_their_name(provider: Provider) -> None:
    offers = discovery.offered(provider)

    assert [(offer.model_id, offer.model_type) for offer in offers] == [
        ("gpt-a", "chat"),
        ("gpt-b", "chat"),
        ("text-embed-1", "embedding"),
    ]


def test_what_vendors_say_of_a_model_is_taken_over(provider: Provider, upstream: FakeUpstream) -> None:
    upstream.reply_with(
        json={
            "data": [
                {
                    "id": "m",
                    "context_length": 32768,
                    "max_completion_tokens": 4096,
                    "capabilities": {"function_calling": True, "vision": False},
                }
            ]
        }
    )

    [offer] = discovery.offered(provider)

    assert (offer.context_window, offer.max_tokens, offer.capabilities) == (32768, 4096, ("tools",))


def test_a_refusal_is_told_in_the_words_of_the_upstream(provider: Provider, upstream: FakeUpstream) -> None:
    upstream.reply_with(failure(403, "this key may not list models"))

    with pytest.raises(DiscoveryFailed, match="HTTP 403: this key may not list models"):
        discovery.offered(provider)


def test_ids_that_cannot_be_stored_are_left_out(provider: Provider, upstream: FakeUpstream) -> None:
    upstream.reply_with(json={"data": [{"id": " blank "}, {"id": "x" * 300}, {"id": "fine/模型"}, {"nothing": 1}]})

    assert names(discovery.offered(provider)) == ["fine/模型"]


def test_a_comparison_is_new_gone_and_unchanged(provider: Provider) -> None:
    for model_id in ("gpt-a", "old-model"):
        ProviderModel.objects.create(provider=provider, model_id=model_id)

    difference = discovery.compare(provider, discovery.offered(provider))

    assert names(difference.new) == ["gpt-b", "text-embed-1"]
    assert names(difference.gone) == ["old-model"]
    assert names(difference.unchanged) == ["gpt-a"]


def test_a_model_under_another_name_counts_by_the_name_the_upstream_knows(provider: Provider) -> None:
    ProviderModel.objects.create(provider=provider, model_id="mine", parameters={"upstream_model_id": "gpt-a"})

    difference = discovery.compare(provider, discovery.offered(provider))

    assert names(difference.unchanged) == ["mine"]
    assert "gpt-a" not in names(difference.new)


def test_a_disabled_model_that_is_gone_needs_no_decision(provider: Provider) -> None:
    ProviderModel.objects.create(provider=provider, model_id="old-model", enabled=False)

    assert discovery.compare(provider, discovery.offered(provider)).gone == ()


def test_applying_adds_and_disables_but_never_deletes(provider: Provider) -> None:
    ProviderModel.objects.create(provider=provider, model_id="old-model")

    applied = discovery.apply(
        provider, add=[Offered("new-model", context_window=8192)], disable=["old-model", "no-such-model"]
    )

    assert applied == discovery.Applied(added=("new-model",), disabled=("old-model",))
    assert dict(provider.models.values_list("model_id", "enabled")) == {"old-model": False, "new-model": True}
    assert provider.models.get(model_id="new-model").context_window == 8192


def test_applying_twice_changes_nothing_more(provider: Provider) -> None:
    discovery.apply(provider, add=[Offered("m")])
    entries = AuditEntry.objects.count()

    assert discovery.apply(provider, add=[Offered("m")]) == discovery.Applied((), ())
    assert AuditEntry.objects.count() == entries


def test_llama_cpp_offers_the_files_of_the_allowed_folders_and_what_ships(
    tmp_path: Path, settings: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery, "_builtin_files", {"builtin:demo": "demo"})
    for name in ("small.gguf", "big-00001-of-00002.gguf", "big-00002-of-00002.gguf", "note.txt", "bge-m3.gguf"):
        (tmp_path / name).write_bytes(b"GGUF")
    settings.GATEWAY_MODEL_FOLDERS = [str(tmp_path)]  # type: ignore[attr-defined]
    provider = Provider.objects.create(provider_id="local", provider_type="llama_cpp")

    offers = {offer.model_id: offer for offer in discovery.offered(provider)}

    assert sorted(offers) == ["bge-m3", "big", "demo", "small"]
    assert offers["big"].parameters == {"model_path": str(tmp_path / "big-00001-of-00002.gguf")}
    assert offers["demo"].parameters == {"model_path": "builtin:demo"}
    assert offers["bge-m3"].model_type == "embedding"


def test_a_model_folder_that_is_not_there_is_named(tmp_path: Path, settings: object) -> None:
    settings.GATEWAY_MODEL_FOLDERS = [str(tmp_path / "none")]  # type: ignore[attr-defined]
    provider = Provider.objects.create(provider_id="local", provider_type="llama_cpp")

    with pytest.raises(DiscoveryFailed, match="GATEWAY_MODEL_FOLDERS"):
        discovery.offered(provider)


def test_the_fake_offers_what_is_registered_so_nothing_is_ever_gone() -> None:
    provider = Provider.objects.create(provider_id="fake", provider_type="fake")
    ProviderModel.objects.create(provider=provider, model_id="anything")

    difference = discovery.compare(provider, discovery.offered(provider))

    assert names(difference.new) == ["fake-chat", "fake-embedding"]
    assert difference.gone == ()
