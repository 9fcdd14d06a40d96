"""Have client libraries ask several servers the same, and print what their users would see: JSON in on stdin, JSON out.

Runs in an environment of its own, `build/clients/…`, since these libraries cannot all live in one. Standard library only.
"""

from __future__ import annotations

import importlib
import json
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))


@dataclass(frozen=True)
class Target:
    """A server as its clients are told of it."""

    openai_url: str
    anthropic_url: str
    ollama_url: str
    openai_key: str
    anthropic_key: str
    ollama_key: str
    chat: str
    embedding: str
    claude: str
    llama: str


def main() -> None:
    asked = json.load(sys.stdin)
    told = {}
    for name in asked["clients"]:
        client = importlib.import_module(name)
        told[name] = {
            target: {scenario: outcome(run, Target(**facts)) for scenario, run in client.SCENARIOS.items()}
            for target, facts in asked["targets"].items()
        }
    print("\n" + json.dumps(told))  # some libraries print on their own


def outcome(run: Any, target: Target) -> Any:
    try:
        return plain(run(target))
    except Exception as error:
        traceback.print_exc()
        return {"raised": type(error).__name__, "status": getattr(error, "status_code", None)}


def plain(value: Any) -> Any:
    """As JSON can say it; what a library's objects hold, they mostly tell as pydantic models."""
    if hasattr(value, "model_dump"):
        return plain(value.model_dump(mode="json"))
    if isinstance(value, SimpleNamespace):
        return plain(vars(value))
    if isinstance(value, dict):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else repr(value)


if __name__ == "__main__":
    main()
