from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from inference.engine.spec import DEMO_PATH
from providers import discovery
from providers.discovery import DiscoveryFailed, Offered
from providers.models import AuditEntry, Provider, ProviderModel
from tests.fakes.upstream import FakeUpstream, failure
from tests.inference.engine.model_directory import write_directory

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


def test_gemini_s_models_go_by_their_names_but_for_those_that_are_registered_otherwise(
    provider: Provider, upstream: FakeUpstream
) -> None:
    provider.provider_type = "gemini"
    provider.save()
    ProviderModel.objects.create(provider=provider, model_id="models/gemini-old")
    upstream.models = ["models/gemini-old", "models/gemini-new"]

    offers = discovery.offered(provider)

    assert [offer.model_id for offer in offers] == ["gemini-new", "models/gemini-old"]
    assert not discovery.compare(provider, offers).gone


@pytest.mark.parametrize(("status", "told"), [(200, "is not JSON"), (403, r"HTTP 403: \[\[")])
def test_a_list_that_is_nested_without_end_fails_as_one_that_is_not_json(
    provider: Provider, upstream: FakeUpstream, status: int, told: str
) -> None:
    upstream.reply_with(status=status, body="[" * 5000)
    with pytest.raises(DiscoveryFailed, match=told):
        discovery.offered(provider)


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


def test_transformers_offers_the_model_directories_of_the_allowed_folders(tmp_path: Path, settings: object) -> None:
    chat = write_directory(DEMO_PATH, tmp_path / "org" / "chat")
    embedder = write_directory(
        DEMO_PATH, tmp_path / "models--org--embedder" / "snapshots" / "abc", architectures=["BertModel"]
    )
    (embedder / "modules.json").write_text("[]")
    (embedder / "1_Pooling").mkdir()
    (embedder / "1_Pooling" / "config.json").write_text("{}")
    settings.GATEWAY_MODEL_FOLDERS = [str(tmp_path)]  # type: ignore[attr-defined]
    provider = Provider.objects.create(provider_id="gpu", provider_type="transformers")

    offers = {offer.model_id: offer for offer in discovery.offered(provider)}

    assert {name: offer.model_type for name, offer in offers.items()} == {
        "org/chat": "chat",
        "org/embedder": "embedding",
    }
    assert offers["org/chat"].parameters == {"model_path": str(chat)}
    assert offers["org/chat"].context_window == 2048


def test_transformers_without_folders_says_where_it_would_look(settings: object) -> None:
    settings.GATEWAY_MODEL_FOLDERS = []  # type: ignore[attr-defined]
    provider = Provider.objects.create(provider_id="gpu", provider_type="transformers")
    with pytest.raises(DiscoveryFailed, match="GATEWAY_MODEL_FOLDERS"):
        discovery.offered(provider)


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


# What is told otherwise of a registered model


def registered(provider: Provider, model_id: str = "m", **fields: object) -> ProviderModel:
    return ProviderModel.objects.create(provider=provider, model_id=model_id, **fields)


def told_of(provider: Provider, *offers: Offered) -> dict[str, object]:
    return {one.row.model_id: dict(one.fields) for one in discovery.compare(provider, offers).retold}


def test_what_the_upstream_says_otherwise_is_told_field_by_field(provider: Provider) -> None:
    registered(provider, capabilities=["chat", "finance"], context_window=4096, max_tokens=100)
    offer = Offered("m", context_window=131072, max_tokens=100, capabilities=("chat", "tools", "vision"))
    assert told_of(provider, offer) == {
        "m": {
            "capabilities": (["chat", "finance"], ["chat", "finance", "tools", "vision"]),
            "context_window": (4096, 131072),
        }
    }


def test_what_it_does_not_say_or_says_in_other_words_is_no_difference(provider: Provider) -> None:
    registered(provider, capabilities=["Function_Calling", "chat"], context_window=4096)
    assert told_of(provider, Offered("m"), Offered("other", capabilities=("tools",))) == {}
    assert told_of(provider, Offered("m", capabilities=("tools",), context_window=4096)) == {}


def test_a_model_is_met_by_the_name_that_the_upstream_knows_or_by_its_file(provider: Provider) -> None:
    registered(provider, "mine", parameters={"upstream_model_id": "m"})
    registered(provider, "filed", parameters={"model_path": "/models/a.gguf"})
    offers = Offered("m", max_tokens=5), Offered("a", parameters={"model_path": "/models/a.gguf"}, context_window=9)
    assert told_of(provider, *offers) == {"mine": {"max_tokens": (None, 5)}, "filed": {"context_window": (None, 9)}}


def test_only_what_somebody_asked_for_is_taken_with_an_audit_entry_and_once(provider: Provider) -> None:
    registered(provider, "a", capabilities=["chat"])
    registered(provider, "b", capabilities=["chat"])
    offers = [Offered(name, capabilities=("chat", "tools")) for name in ("a", "b")]
    wanted = [one for one in discovery.compare(provider, offers).retold if one.row.model_id == "a"]
    assert discovery.apply(provider, refresh=wanted).refreshed == ("a",)
    assert dict(provider.models.values_list("model_id", "capabilities")) == {"a": ["chat", "tools"], "b": ["chat"]}
    assert AuditEntry.objects.filter(action="update", target_type="providermodel").count() == 1
    assert discovery.apply(provider, refresh=wanted).refreshed == ()


def test_what_was_changed_in_between_is_kept_beside_what_is_taken(provider: Provider) -> None:
    row = registered(provider, capabilities=["chat"])
    wanted = discovery.compare(provider, [Offered("m", capabilities=("tools",))]).retold
    row.capabilities = ["chat", "finance"]
    row.save()
    discovery.apply(provider, refresh=wanted)
    row.refresh_from_db()
    assert row.capabilities == ["chat", "finance", "tools"]


def test_what_a_file_owns_is_not_offered_to_be_refreshed(provider: Provider) -> None:
    registered(provider, managed_by="/etc/gateway.yaml")
    assert told_of(provider, Offered("m", max_tokens=5)) == {}
