"""What a model can do, under our words and those of other systems, and which operations it may serve for it."""

from __future__ import annotations

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
}

OPERATION_NEEDS = {"chat": "chat", "completions": "completion", "embeddings": "embedding"}
"""The capability that a model of declared type must have to serve an operation."""

_TYPE_SERVES = {
    "chat": {"chat", "completions"},
    "completion": {"completions", "chat"},
    "embedding": {"embeddings"},
    "vision": {"chat"},
}


_TASK_OF_TYPE = {"embedding": "embedding", "vision": "vision", "audio": "audio", "image": "image_generation"}
"""The task that a model is meant for by what it is."""


def canonical(names: Iterable[str]) -> frozenset[str]:
    """The names in this gateway's vocabulary; words it does not know are kept as they are."""
    return frozenset(_SYNONYMS.get(name.strip().lower(), name.strip().lower()) for name in names if name.strip())


def serves(model_type: str, capabilities: frozenset[str], operation: str) -> bool:
    """Whether a model may be asked for an operation. A type that we do not know rules nothing out."""
    if OPERATION_NEEDS.get(operation) in capabilities:
        return True
    operations = _TYPE_SERVES.get(model_type)
    return operations is None or operation in operations


def meant_for(task: str, tasks: frozenset[str], model_type: str, capabilities: frozenset[str]) -> bool:
    """Whether a model is listed for a task, or needs no list: whatever sees is meant for vision, as embeddings are for theirs."""
    return task in tasks or task == _TASK_OF_TYPE.get(model_type) or (task == "vision" and "vision" in capabilities)
