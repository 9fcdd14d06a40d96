"""What Anthropic says of a model on its list, in the words that other vendors have for it. Pure.

Source: https://platform.claude.com/docs/en/api/models/list.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_CAPABILITIES = {
    "image_input": "vision",
    "structured_outputs": "json_mode",
    "thinking": "reasoning",
    "pdf_input": "pdf",
    "citations": "citations",
}
_OF_EVERY_MODEL = ("chat", "streaming", "tools")


def in_common_words(model: Mapping[str, Any]) -> dict[str, Any]:
    """The model's id with its limits and capabilities; in `owned_by`, what stands against a new use of it."""
    told = model.get("capabilities")
    capabilities = [*_OF_EVERY_MODEL, *(_CAPABILITIES[name] for name in _supported(told) if name in _CAPABILITIES)]
    return {
        "id": model.get("id") or model.get("name"),
        "type": "chat",
        "context_window": model.get("max_input_tokens"),
        "max_output_tokens": model.get("max_tokens"),
        "capabilities": capabilities,
        "owned_by": _standing(model),
    }


def _supported(told: Any) -> list[str]:
    if not isinstance(told, Mapping):
        return []
    return [name for name, support in told.items() if isinstance(support, Mapping) and support.get("supported") is True]


def _standing(model: Mapping[str, Any]) -> str:
    lifecycle = model.get("lifecycle")
    if lifecycle not in ("deprecated", "retired"):
        return "anthropic"
    end = str(model.get("retires_at") or "")[:10]
    return f"{lifecycle}, retires {end}" if end and lifecycle == "deprecated" else str(lifecycle)
