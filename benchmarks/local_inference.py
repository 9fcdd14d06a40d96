"""Tokens per second of the built-in model: through the whole gateway (web process, Redis, Celery worker, engine), and
from `Llama` called directly. Neither is pinned: the engine's place is not the web process's core.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable
from pathlib import Path

from benchmarks.contenders import ROOT
from benchmarks.load import Target, run
from benchmarks.measures import Plan, Results
from benchmarks.processes import Program, accepts, free_port

REQUEST = {
    "messages": [{"role": "user", "content": "What is this gateway?"}],
    "max_tokens": 128,
    "temperature": 0,
}


def measure(plan: Plan, directory: Path, say: Callable[[str], None]) -> Results:
    """Figures of "gateway" and of "direct"; what cannot be had is said and left out."""
    results: Results = {}
    model_file = next(iter(sorted((ROOT / "inference" / "demo_model").glob("*.gguf"))), None)
    if model_file is None:
        say("local inference: no built-in model in inference/demo_model")
        return results
    # Threads wait for one another by spinning: a small model on a busy machine is often fastest with one. The best counts.
    tried = [_direct(model_file, threads, plan.seconds, say) for threads in {1, os.cpu_count() or 1}]
    found = [numbers for numbers in tried if numbers]
    if found:
        results["direct"] = max(found, key=lambda numbers: numbers["tokens_per_second_1"])
    results["gateway"] = _through_gateway(plan, directory, say)
    return results


def _direct(model_file: Path, threads: int, seconds: float, say: Callable[[str], None]) -> dict[str, float] | None:
    python = os.environ.get("LLAMA_PYTHON", sys.executable)
    with tempfile.NamedTemporaryFile("w", suffix=".json") as request:
        json.dump(REQUEST, request)
        request.flush()
        argv = [python, "-m", "benchmarks.direct_llama", str(model_file), str(threads), str(seconds), request.name]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=ROOT, timeout=seconds + 120)
    if done.returncode:
        say(
            f"llama-cpp-python called directly: missing ({done.stderr.strip().splitlines()[-1:]}); LLAMA_PYTHON may name a Python that has it"
        )
        return None
    seen = json.loads(done.stdout.strip().splitlines()[-1])
    rate, first = seen["tokens_per_second"], seen["first_token_ms"]
    say(f"Llama called directly, llama-cpp-python {seen['version']}, {threads} thread(s): {rate:,.0f} tokens/s")
    return {"tokens_per_second_1": rate, "tokens_per_second_8": rate, "first_token_ms_1": first}


def _through_gateway(plan: Plan, directory: Path, say: Callable[[str], None]) -> dict[str, float]:
    port = free_port()
    argv = [sys.executable, str(ROOT / "manage.py"), "quickstart", "--port", str(port), "--data-dir", str(directory)]
    program = Program(argv, core=None, log=directory.with_suffix(".log"), cwd=ROOT)
    with program:
        program.await_ready(lambda: accepts(port) and (directory / "quickstart.json").exists(), 120)
        key = json.loads((directory / "quickstart.json").read_text())["client_key"]
        model = _first_model(port, key)
        say(f"local inference through the gateway: model {model}")
        body = json.dumps(
            {**REQUEST, "model": model, "stream": True, "stream_options": {"include_usage": True}}
        ).encode()
        target = Target(port, key=key)
        run(target, body, connections=1, requests=1, seconds=60, warmup=0, stream=True)
        numbers: dict[str, float] = {"failed": 0.0}
        for users in (1, 8):
            seen = run(target, body, connections=users, seconds=plan.seconds, stream=True, warmup=1.0)
            if seen.complaint:
                say(f"gateway, {users} users: {seen.complaint}")
            numbers[f"tokens_per_second_{users}"] = seen.chunks / seen.seconds
            numbers[f"first_token_ms_{users}"] = seen.first_token.p50 / 1000
            numbers["failed"] += seen.failed + seen.cut
        return numbers


def _first_model(port: int, key: str) -> str:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/models", headers={"Authorization": f"Bearer {key}"})
    with urllib.request.urlopen(request, timeout=30) as reply:
        return json.load(reply)["data"][0]["id"]
