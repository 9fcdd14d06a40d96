"""Well-known vendors and servers that speak the OpenAI protocol: one row of data each, no code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Preset:
    name: str
    label: str
    base_url: str = ""
    needs_key: bool = True
    free: bool = False
    local: bool = False
    """Runs on one's own machines; what is free does too."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    help: str = ""


_HAS_RESPONSES = {"responses_api": True}
"""Documented by the vendor. Where a server is older than its documentation, it is asked for chat completions after all."""

PRESETS = (
    Preset("openai", "OpenAI", "https://api.openai.com/v1", defaults=_HAS_RESPONSES),
    Preset(
        "azure_openai",
        "Azure OpenAI",
        defaults={"url_style": "azure", "auth_header": "api-key", "api_version": "2024-10-21", **_HAS_RESPONSES},
        help="The base URL is that of the resource, such as https://NAME.openai.azure.com, or of its newer API, which ends in "
        "/openai/v1; model ids are deployment names.",
    ),
    Preset("anthropic", "Anthropic", "https://api.anthropic.com/v1"),  # in its own protocol: see `provider_types`
    Preset("gemini", "Google Gemini (OpenAI-compatible)", "https://generativelanguage.googleapis.com/v1beta/openai"),
    Preset(
        "openrouter",
        "OpenRouter",
        "https://openrouter.ai/api/v1",
        defaults={"headers": {"HTTP-Referer": "https://localhost", "X-Title": "LLM Gateway"}, **_HAS_RESPONSES},
        help="The headers name your application in OpenRouter's rankings.",
    ),
    Preset("groq", "Groq", "https://api.groq.com/openai/v1"),
    Preset("mistral", "Mistral", "https://api.mistral.ai/v1"),
    Preset("deepseek", "DeepSeek", "https://api.deepseek.com/v1"),
    Preset("together", "Together AI", "https://api.together.xyz/v1"),
    Preset("fireworks", "Fireworks AI", "https://api.fireworks.ai/inference/v1"),
    Preset("xai", "xAI", "https://api.x.ai/v1", defaults=_HAS_RESPONSES),
    Preset("perplexity", "Perplexity", "https://api.perplexity.ai"),
    Preset("cerebras", "Cerebras", "https://api.cerebras.ai/v1"),
    Preset("nvidia_nim", "NVIDIA NIM", "https://integrate.api.nvidia.com/v1"),
    Preset("vllm", "vLLM", "http://127.0.0.1:8001/v1", needs_key=False, free=True, defaults=_HAS_RESPONSES),
    Preset("llama_server", "llama-server (llama.cpp)", "http://127.0.0.1:8080/v1", needs_key=False, free=True),
    Preset("lm_studio", "LM Studio", "http://127.0.0.1:1234/v1", needs_key=False, free=True, defaults=_HAS_RESPONSES),
    Preset("sglang", "SGLang", "http://127.0.0.1:30000/v1", needs_key=False, free=True),
)
