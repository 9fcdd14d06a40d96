"""Promise 2-19: the info command's lines, and that a key is never among them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from providers import actions
from routing import snapshot
from routing.models import Policy

pytestmark = pytest.mark.django_db
KEY = "sk-proj-canary-1234567890abcdef"


@pytest.fixture(autouse=True)
def _no_snapshot(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("MODEL_BACKEND", raising=False)
    snapshot.replace(None)
    yield
    snapshot.replace(None)


def openai(key: str = KEY) -> None:
    actions.create_provider(
        {"provider_id": "openai", "provider_type": "openai"},
        models=[{"model_id": "gpt-4"}, {"model_id": "gpt-3.5-turbo"}],
        keys=[{"secret": key}],
    )
    roles(heavy="gpt-4", light="gpt-3.5-turbo")


def roles(**models: str) -> None:
    for name, model in models.items():
        Policy.objects.create(name=name, kind="alias", document={"targets": [{"model": model}]})


def shown(*arguments: str) -> str:
    out = StringIO()
    call_command("show_backends", *arguments, stdout=out, no_color=True)
    return out.getvalue()


def test_the_four_lines_of_an_openai_backend() -> None:
    openai()
    said = shown()
    assert said.splitlines()[:4] == [
        "Model Backend: openai",
        "API Key: SET",
        "Heavy Model: gpt-4",
        "Light Model: gpt-3.5-turbo",
    ]
    assert "canary" not in said + shown("--json")


@pytest.mark.parametrize("key", ["sk-your-api-key-here", "your-api-key"])
def test_a_text_that_stands_for_a_key_is_none(key: str) -> None:
    openai(key)
    assert "API Key: NOT SET" in shown()
    assert key not in shown()


def test_local_models_are_shown_with_their_files_and_whether_they_are_there(tmp_path: Path) -> None:
    there = tmp_path / "big.gguf"
    there.write_bytes(b"GGUF")
    actions.create_provider(
        {"provider_id": "local", "provider_type": "llama_cpp", "connection_params": {"gpu_layers": 30}},
        models=[
            {"model_id": "big", "parameters": {"model_path": str(there)}},
            {"model_id": "small", "parameters": {"model_path": "/nowhere/small.gguf"}},
        ],
    )
    roles(heavy="big", light="small")
    said = shown()
    assert "Model Backend: llama_cpp" in said
    assert f"File of big: {there}\n" in said
    assert "File of small: /nowhere/small.gguf (MISSING)" in said
    assert "GPU Layers: 30" in said


def test_models_of_transformers_are_the_third_backend(tmp_path: Path) -> None:
    actions.create_provider(
        {
            "provider_id": "gpu",
            "provider_type": "transformers",
            "connection_params": {"max_memory_gb": 8, "dtype": "float16"},
        },
        models=[
            {"model_id": "microsoft/DialoGPT-medium"},
            {"model_id": "small", "parameters": {"model_path": str(tmp_path)}},
        ],
    )
    roles(heavy="microsoft/DialoGPT-medium", light="small")
    said = shown()
    assert "Model Backend: transformers_gpu" in said
    assert "Torch Type: float16" in said
    assert "GPU Memory (GB): 8" in said
    assert "File of microsoft/DialoGPT-medium: microsoft/DialoGPT-medium, from the hub cache of the worker" in said
    assert f"File of small: {tmp_path}\n" in said


def test_an_empty_gateway_says_that_nothing_is_configured() -> None:
    assert shown().splitlines() == [
        "Model Backend: not configured",
        "API Key: NOT SET",
        "Heavy Model: not configured",
        "Light Model: not configured",
    ]


def test_a_backend_that_there_is_not_is_refused_with_the_three_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_BACKEND", "lama_cpp")
    with pytest.raises(CommandError, match="llama_cpp, openai, transformers_gpu"):
        shown()


def test_an_environment_that_says_something_else_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    openai()
    monkeypatch.setenv("MODEL_BACKEND", "LLAMA_CPP")
    told: dict[str, Any] = json.loads(shown("--json"))
    assert told["Model Backend"] == "openai"
    assert "MODEL_BACKEND says llama_cpp" in told["warnings"][0]


def test_an_upstream_whose_certificate_is_not_verified_is_named() -> None:
    actions.create_provider(
        {
            "provider_id": "kz",
            "provider_type": "kamiwaza",
            "connection_params": {"endpoint": "https://kz.example.com/api/", "verify_tls": False},
        }
    )
    said = shown()
    assert "TLS: NOT VERIFIED" in said
    assert "Endpoint: https://kz.example.com/api/" in said
