"""What an Ollama server says of its models: its list, and what it shows of each. Pure.

Its list has names, sizes and formats; what a model can do and how much it reads at once stands in `/api/show`, or in the list
already where the server is recent. Source: https://github.com/ollama/ollama/blob/main/docs/api.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

STYLE = "ollama"
"""As a connection's `url_style`."""
MOST_SHOWN = 100
"""Models of one server that are asked for one by one; there are seldom more than some dozens."""

_WORDS = {"completion": ("chat", "completion", "streaming", "json_mode"), "thinking": ("reasoning",)}
"""A model that writes does so in all of Ollama's ways: chats, streams and `format`."""
_KEPT = ("format", "family", "parameter_size", "quantization_level")


def is_spoken(connection: Mapping[str, Any]) -> bool:
    return connection.get("url_style") == STYLE


def is_told(listed: Mapping[str, Any]) -> bool:
    """Whether the list says already what a model can do and how much it reads."""
    return isinstance(listed.get("capabilities"), list) and "context_length" in _object(listed.get("details"))


def described(listed: Mapping[str, Any], shown: Mapping[str, Any]) -> dict[str, Any]:
    """The entry of the list with `capabilities` and `context_length`, as other lists have them."""
    told = dict(listed)
    capabilities = shown.get("capabilities") or listed.get("capabilities")
    if isinstance(capabilities, list):
        told["capabilities"] = _in_common_words(capabilities)
    context = _object(listed.get("details")).get("context_length") or _of_the_architecture(shown, "context_length")
    if context:
        told["context_length"] = context
    return told


def parameters(listed: Mapping[str, Any]) -> dict[str, Any]:
    """What a model's row keeps of it, for clients that ask."""
    details = _object(listed.get("details"))
    kept = {name: details[name] for name in _KEPT if isinstance(details.get(name), str) and details[name]}
    size = listed.get("size")
    told: dict[str, Any] = {"details": kept} if kept else {}
    if isinstance(size, int) and not isinstance(size, bool) and size > 0:
        told["size"] = size
    return told


def _in_common_words(capabilities: list[Any]) -> list[Any]:
    """With those that policies and other vendors' lists have for the same."""
    return [word for told in capabilities for word in (_WORDS.get(told, (told,)) if isinstance(told, str) else (told,))]


def _of_the_architecture(shown: Mapping[str, Any], name: str) -> Any:
    info = _object(shown.get("model_info"))
    return info.get(f"{info.get('general.architecture')}.{name}")


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
