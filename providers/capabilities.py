"""What a model can do, under our words and those of other systems, and which operations it may serve for it."""

from __future__ import annotations

import re
from collections.abc import Iterable

TASKS = ("embedding", "chat_small", "chat_large", "chat_smart", "vision", "audio", "image_generation")

MOST_WORDS, LONGEST_WORD = 50, 100
"""Of capabilities, and of tags, that one request demands: what it says is remembered while the registry is as it is."""

_SYNONYMS = {
    "embeddings": "embedding",
    "text-generation": "completion",
    "completions": "completion",
    "function_calling": "tools",
    "tool_calls": "tools",
    "tool_use": "tools",
    "json": "json_mode",
    "json_output": "json_mode",
    "structured_output": "json_mode",
    "stream": "streaming",
    "image": "vision",
    "images": "vision",
    "text_to_image": "image_generation",
    "image_edit": "image_generation",
    "reranking": "rerank",
    "reranker": "rerank",
    "moderations": "moderation",
    "tts": "audio_speech",
    "speech": "audio_speech",
    "text_to_speech": "audio_speech",
    "stt": "audio_transcription",
    "asr": "audio_transcription",
    "transcription": "audio_transcription",
    "transcribe": "audio_transcription",
    "speech_to_text": "audio_transcription",
}

_MODERATION, _RERANK = "moderation", "rerank"
_DRAWS, _SPEAKS, _HEARS = "image_generation", "audio_speech", "audio_transcription"

OPERATION_NEEDS = {
    "chat": "chat",
    "completions": "completion",
    "embeddings": "embedding",
    "moderations": _MODERATION,
    "rerank": _RERANK,
    "images": _DRAWS,
    "image_edits": _DRAWS,
    "image_variations": _DRAWS,
    "speech": _SPEAKS,
    "transcriptions": _HEARS,
    "translations": _HEARS,
}
"""The capability that a model of declared type must have to serve an operation."""

TEXT_OPERATIONS = frozenset({"chat", "completions", "embeddings"})
EVERY_OPERATION = frozenset(OPERATION_NEEDS)
WRITE_NOTHING = frozenset({"embeddings", "moderations", "rerank", "speech"})
"""Operations whose answers are vectors, judgements or sound: no tokens of theirs are told or can be counted."""

_PICTURES = {"images", "image_edits", "image_variations"}
_TYPE_SERVES = {
    "chat": {"chat", "completions"},
    "completion": {"completions", "chat"},
    "embedding": {"embeddings"},
    "vision": {"chat"},
    "image": _PICTURES,
    "audio": {"chat", "speech", "transcriptions", "translations"},
    _MODERATION: {"moderations"},
    _RERANK: {"rerank"},
    _DRAWS: _PICTURES,
    _SPEAKS: {"speech"},
    _HEARS: {"transcriptions", "translations"},
}

MODEL_TYPES = (*("chat", "completion", "embedding", "vision", "image"), _SPEAKS, _HEARS, "audio", _RERANK, _MODERATION)
"""The types that say what a model serves; others are kept as they are."""

_TASK_OF_TYPE = {
    "embedding": "embedding",
    "vision": "vision",
    "audio": "audio",
    _SPEAKS: "audio",
    _HEARS: "audio",
    "image": "image_generation",
    _DRAWS: "image_generation",
}
"""The task that a model is meant for by what it is."""

TASK_OF_OPERATION = {
    "embeddings": "embedding",
    **dict.fromkeys(sorted(_PICTURES), "image_generation"),
    **dict.fromkeys(("speech", "transcriptions", "translations"), "audio"),
}
"""The task whose policy decides for an operation that names no model."""

OFFERED_BY = {
    _MODERATION: ("openai", "mistral"),
    _RERANK: ("vllm", "llama_server", "together", "fireworks", "openai_compatible"),
    _DRAWS: ("openai", "azure_openai", "gemini", "xai", "together"),
    _SPEAKS: ("openai", "azure_openai", "groq", "together"),
    _HEARS: ("openai", "azure_openai", "groq", "mistral", "together", "vllm"),
}
"""Provider types whose vendors or servers document an API for what a capability is, under OpenAI's path."""

_TYPE_BY_NAME = (
    ("rerank", _RERANK),
    ("moderation", _MODERATION),
    ("whisper", _HEARS),
    ("transcribe", _HEARS),
    ("tts", _SPEAKS),
    ("dall-e", "image"),
    ("gpt-image", "image"),
    ("imagen-", "image"),
    ("flux", "image"),
    ("stable-diffusion", "image"),
)
_PARTS_OF_NAMES = "-_./: "
_THINKS_BY_NAME = re.compile(r"(?:.*/)?(?:o[1-9](?:-.*)?|gpt-[5-9](?!.*-chat).*)", re.IGNORECASE | re.DOTALL)


def canonical(names: Iterable[str]) -> frozenset[str]:
    """The names in this gateway's vocabulary; words it does not know are kept as they are."""
    return frozenset(_SYNONYMS.get(name.strip().lower(), name.strip().lower()) for name in names if name.strip())


def serves(model_type: str, capabilities: frozenset[str], operation: str) -> bool:
    """Whether a model may be asked for an operation. A type that we do not know rules out nothing that is text; for pictures,
    sound and judgements a word of it is needed."""
    if OPERATION_NEEDS.get(operation) in capabilities:
        return True
    operations = _TYPE_SERVES.get(model_type) or _TYPE_SERVES.get(_SYNONYMS.get(model_type, model_type))
    return operation in (TEXT_OPERATIONS if operations is None else operations)


def type_by_name(model_id: str) -> str | None:
    """The type that a model's name gives away where its vendor says nothing; None for all that may be a chat model."""
    name = model_id.lower()
    for word, model_type in _TYPE_BY_NAME:
        begin = name.find(word)
        if begin == 0 or (begin > 0 and name[begin - 1] in _PARTS_OF_NAMES):
            return model_type
    return _HEARS if name.endswith("-transcribe") else None


def thinks_by_name(model_id: str) -> bool:
    """Whether it is one of OpenAI's models that think before they answer, of which its own list says nothing."""
    return _THINKS_BY_NAME.fullmatch(model_id) is not None


def thinks(model_id: str, capabilities: frozenset[str]) -> bool:
    """Whether a model takes a wish how hard to think: declared, or known by its name."""
    return "reasoning" in capabilities or thinks_by_name(model_id)


def meant_for(task: str, tasks: frozenset[str], model_type: str, capabilities: frozenset[str]) -> bool:
    """Whether a model is listed for a task, or needs no list: whatever sees is meant for vision, as embeddings are for theirs."""
    return task in tasks or task == _TASK_OF_TYPE.get(model_type) or (task == "vision" and "vision" in capabilities)
