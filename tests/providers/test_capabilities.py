"""What a model serves by its type, by its capabilities and by its name."""

from __future__ import annotations

import pytest

from providers import capabilities
from providers.capabilities import EVERY_OPERATION, MODEL_TYPES, OFFERED_BY, OPERATION_NEEDS, TEXT_OPERATIONS, serves
from providers.provider_types import registered

NOTHING: frozenset[str] = frozenset()


@pytest.mark.parametrize(
    ("model_type", "operations"),
    [
        ("chat", {"chat", "completions"}),
        ("image", {"images", "image_edits", "image_variations"}),
        ("audio", {"chat", "speech", "transcriptions", "translations"}),
        ("audio_speech", {"speech"}),
        ("tts", {"speech"}),
        ("audio_transcription", {"transcriptions", "translations"}),
        ("rerank", {"rerank"}),
        ("moderation", {"moderations"}),
        ("a word of somebody's", set(TEXT_OPERATIONS)),
    ],
)
def test_a_type_serves_its_operations_and_an_unknown_one_all_that_is_text(model_type: str, operations: set[str]):
    assert {one for one in EVERY_OPERATION if serves(model_type, NOTHING, one)} == operations


def test_what_a_model_declares_it_serves_beside_its_type():
    declared = capabilities.canonical(["TTS", "reranking"])
    assert {one for one in EVERY_OPERATION if serves("chat", declared, one)} == {
        "chat",
        "completions",
        "speech",
        "rerank",
    }


@pytest.mark.parametrize(
    ("name", "model_type"),
    [
        ("whisper-1", "audio_transcription"),
        ("openai/whisper-large-v3", "audio_transcription"),
        ("gpt-4o-transcribe", "audio_transcription"),
        ("tts-1-hd", "audio_speech"),
        ("gpt-4o-mini-tts", "audio_speech"),
        ("dall-e-3", "image"),
        ("gpt-image-1", "image"),
        ("black-forest-labs/FLUX.1-schnell", "image"),
        ("bge-reranker-v2-m3", "rerank"),
        ("omni-moderation-latest", "moderation"),
        ("gpt-4o", None),
        ("gpt-4o-audio-preview", None),
        ("watts-7b", None),
    ],
)
def test_a_name_gives_a_type_away(name: str, model_type: str | None):
    assert capabilities.type_by_name(name) == model_type


@pytest.mark.parametrize("name", ["o3", "o4-mini", "gpt-5", "gpt-5.2-codex", "openai/gpt-5-mini", "GPT-5-nano"])
def test_openai_s_thinking_models_are_known_by_name(name: str):
    assert capabilities.thinks(name, NOTHING)


@pytest.mark.parametrize("name", ["gpt-4o", "gpt-5-chat-latest", "gpt-oss-20b", "olmo-2", "o-mini", "llama-o1"])
def test_other_models_think_if_they_are_said_to(name: str):
    assert not capabilities.thinks(name, NOTHING)
    assert capabilities.thinks(name, frozenset({"chat", "reasoning"}))


def test_what_is_named_is_there():
    assert {one for one in OPERATION_NEEDS.values() if one not in ("chat", "completion", "embedding")} == set(
        OFFERED_BY
    )
    types = registered()
    for operation, needed in OPERATION_NEEDS.items():
        assert len(operation) <= 16, "the ledger's column"
        assert any(serves(model_type, NOTHING, operation) for model_type in MODEL_TYPES)
        assert all(operation in types[name].operations for name in OFFERED_BY.get(needed, ()))
