"""What people's programs see: each client library asks an upstream itself, and then through the gateway, and must be told the same.

The libraries live in environments of their own under `build/clients` (`make clients` installs them and runs this). What has to differ
is masked: ids, times, and how long something took.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from inference.backends.anthropic import Anthropic
from inference.backends.ollama import Ollama
from inference.endpoints import messages
from routing import snapshot
from tests.conftest import missing
from tests.contract.gateway import Gateway
from tests.fakes.anthropic import FakeAnthropic
from tests.fakes.upstream import FakeUpstream
from tests.inference import registry

pytestmark = [pytest.mark.slow, pytest.mark.clients, pytest.mark.xdist_group("clients")]

HERE = Path(__file__).resolve().parent
BUILD = HERE.parent.parent / "build" / "clients"
PYTHON = {
    "openai3": (
        "openai_client",
        "anthropic_client",
        "ollama_client",
        "langchain_client",
        "pydantic_ai_client",
        "llm_client",
    ),
    "openai2": ("litellm_client", "llama_index_client", "instructor_client"),
}
"""By the environment: the libraries do not agree on a version of OpenAI's."""
NODE = ("openai_node", "anthropic_node", "ollama_node", "vercel_ai")
MASKED = {
    *(
        "id",
        "created",
        "created_at",
        "createdAt",
        "timestamp",
        "request_id",
        "_request_id",
        "response_id",
        "item_id",
        "call_id",
    ),
    *(
        "run_id",
        "tool_call_id",
        "_hidden_params",
        "_response_headers",
        "response_headers",
        "responseHeaders",
        "headers",
    ),
}
DURATION = "_duration"
OPENAI_KEY, ANTHROPIC_KEY = "sk-upstream-of-clients", "sk-ant-upstream-of-clients"
CHAT, EMBEDDING, CLAUDE, LLAMA = "gpt-test", "embed-test", "claude-test", "llama-test"


@dataclass
class Seen:
    """What each client saw of both: `of[client]["upstream" | "gateway"][scenario]`."""

    of: dict[str, Any] = field(default_factory=dict)
    complaints: dict[str, str] = field(default_factory=dict)


@pytest.fixture(scope="module")
def targets() -> Iterator[dict[str, dict[str, str]]]:
    with (
        FakeUpstream(api_key=OPENAI_KEY) as openai,
        FakeAnthropic(api_key=ANTHROPIC_KEY, models=[CLAUDE]) as anthropic,
        FakeUpstream(models=[LLAMA]) as ollama,
    ):
        of_openai = registry.remote(openai.base_url, "openai", keys=[OPENAI_KEY], connection={"responses_api": True})
        of_anthropic = registry.provider(
            "anthropic",
            backend=f"{Anthropic.__module__}.{Anthropic.__name__}",
            connection={"base_url": anthropic.base_url, "allow_private": True, "auth_header": "x-api-key"},
            keys=[ANTHROPIC_KEY],
        )
        of_ollama = registry.provider(
            "ollama",
            backend=f"{Ollama.__module__}.{Ollama.__name__}",
            connection={"base_url": ollama.origin, "allow_private": True, "url_style": "ollama"},
        )
        snapshot.replace(
            registry.snapshot(
                registry.model(of_openai, CHAT),
                registry.model(of_openai, EMBEDDING),
                registry.model(of_anthropic, CLAUDE),
                registry.model(of_ollama, LLAMA, capabilities=frozenset({"chat", "completion", "embedding", "tools"})),
            )
        )
        names = {"chat": CHAT, "embedding": EMBEDDING, "claude": CLAUDE, "llama": LLAMA}
        with Gateway().serving() as gateway, pytest.MonkeyPatch.context() as patch:
            patch.setattr(messages, "COUNT_WITHIN_SECONDS", 60.0)
            keys = ("openai_key", "anthropic_key", "ollama_key")
            yield {
                "upstream": {
                    **names,
                    "openai_url": openai.base_url,
                    "anthropic_url": anthropic.origin,
                    "ollama_url": ollama.origin,
                    **dict(zip(keys, (OPENAI_KEY, ANTHROPIC_KEY, "none"), strict=True)),
                },
                "gateway": {
                    **names,
                    "openai_url": f"{gateway.url}/v1",
                    "anthropic_url": gateway.url,
                    "ollama_url": gateway.url,
                    **dict.fromkeys(keys, registry.CLIENT_KEY),
                },
            }
        snapshot.replace(None)


@pytest.fixture(scope="module")
def seen(targets: dict[str, dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """All environments at once: loading the libraries is most of the time."""
    folder = tmp_path_factory.mktemp("clients")
    for environment in PYTHON:
        if not (BUILD / environment / "bin" / "python").exists():
            missing(f"the client libraries of build/clients/{environment} (make clients)")
    if not (BUILD / "node" / "node_modules").exists():
        missing("the client libraries of build/clients/node (make clients)")
    commands = {name: [str(BUILD / name / "bin" / "python"), str(HERE / "python" / "run.py")] for name in PYTHON}
    commands["node"] = ["node", str(BUILD / "node" / "run.mjs")]
    running = {name: asking(folder, name, command, targets) for name, command in commands.items()}
    try:
        codes = {name: process.wait(timeout=900) for name, process in running.items()}
    finally:
        for process in running.values():
            process.kill()
            process.wait()
    found = Seen()
    for name, code in codes.items():
        complaint = (folder / f"{name}.err").read_text()
        assert code == 0, f"{name}: {complaint[-3000:]}"
        found.of |= json.loads((folder / f"{name}.out").read_text().splitlines()[-1])
        found.complaints |= dict.fromkeys(PYTHON.get(name, NODE), complaint)
    return found


def asking(folder: Path, name: str, command: list[str], targets: dict[str, Any]) -> subprocess.Popen[bytes]:
    clean = {"PATH": os.environ["PATH"], "HOME": str(folder), "LLM_USER_PATH": str(folder)}
    clean |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "TIKTOKEN_CACHE_DIR": str(folder)}
    asked = folder / f"{name}.in"
    asked.write_text(json.dumps({"clients": PYTHON.get(name, NODE), "targets": targets}))
    with (
        asked.open("rb") as read,
        (folder / f"{name}.out").open("wb") as out,
        (folder / f"{name}.err").open("wb") as err,
    ):
        return subprocess.Popen(command, env=clean, stdin=read, stdout=out, stderr=err)


def masked(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: "…" if name in MASKED or name.endswith(DURATION) else masked(item) for name, item in value.items()
        }
    return [masked(item) for item in value] if isinstance(value, list) else value


def differences(straight: Any, through: Any, where: str = "") -> Iterator[str]:
    """Each as `place: what the upstream says -> what the gateway says`."""
    if isinstance(straight, dict) and isinstance(through, dict):
        for name in sorted(straight.keys() | through.keys()):
            yield from differences(straight.get(name, "nothing"), through.get(name, "nothing"), f"{where}.{name}")
    elif isinstance(straight, list) and isinstance(through, list) and len(straight) == len(through):
        for place, (one, other) in enumerate(zip(straight, through, strict=True)):
            yield from differences(one, other, f"{where}[{place}]")
    elif straight != through:
        yield f"{where}: {json.dumps(straight)[:300]} -> {json.dumps(through)[:300]}"


@pytest.mark.parametrize("client", [*PYTHON["openai3"], *PYTHON["openai2"], *NODE])
def test_a_client_is_told_the_same_as_straight_at_the_upstream(client: str, seen: Seen) -> None:
    straight, through = (masked(seen.of[client][target]) for target in ("upstream", "gateway"))
    failed = [name for name, told in straight.items() if isinstance(told, dict) and "raised" in told]
    assert not failed, f"not even straight: {failed}\n{seen.complaints[client][-3000:]}"
    wrong = list(differences(straight, through))
    assert not wrong, "\n".join(wrong[:40]) + "\n" + seen.complaints[client][-2000:]
