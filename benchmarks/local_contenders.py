"""Who answers rounds of `benchmarks.local_rounds`: programs that hold the model themselves, and the whole gateway."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.contenders import ROOT, set_up
from benchmarks.local_rounds import Round, Seen, plain
from benchmarks.processes import DidNotStart, Program, accepts, cpu_seconds, family, free_port

AskAll = Callable[[Round], list[Seen]]


@dataclass(frozen=True, slots=True)
class Running:
    """`how` is its version and set-up in a line, `pid` the process that with its children does the work."""

    how: str
    pid: int
    ask_all: AskAll

    def cpu_seconds(self) -> float:
        return sum(map(cpu_seconds, family(self.pid)))


MODEL = "bench"


@contextlib.contextmanager
def program(module: str, arguments: list[str], log: Path) -> Iterator[Running]:
    """One that answers rounds over its standard input."""
    python = os.environ.get("LLAMA_PYTHON", sys.executable)
    with log.open("wb") as errors:
        child = subprocess.Popen(
            [python, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=ROOT,
        )
    try:

        def hear() -> Any:
            line = child.stdout.readline() if child.stdout else ""
            if not line:
                raise DidNotStart(f"{module} ended: {log.read_text(errors='replace')[-400:]}")
            return json.loads(line)

        def ask_all(asked: Round) -> list[Seen]:
            assert child.stdin is not None
            child.stdin.write(f"{json.dumps(asdict(asked))}\n")
            child.stdin.flush()
            return [Seen(**one) for one in hear()]

        yield Running(hear(), child.pid, ask_all)
    finally:
        child.kill()
        child.wait()


@contextlib.contextmanager
def gateway(model_file: Path, threads: int, context: int, directory: Path) -> Iterator[Running]:
    """Web process, Redis, Celery worker and engine, as `quickstart` starts them, with the model registered."""
    env = {
        "GATEWAY_DATA_DIR": str(directory),
        "DATABASE_URL": "",
        "REDIS_URL": "",
        "GATEWAY_ENVIRONMENT": "development",
    }
    directory.mkdir(parents=True, exist_ok=True)
    set_up(["manage.py", "quickstart", "--setup-only"], env)
    set_up(["-m", "benchmarks.local_registry", str(model_file), str(threads), str(context)], env)
    key = json.loads((directory / "quickstart.json").read_text())["client_key"]
    port = free_port()
    argv = [sys.executable, str(ROOT / "manage.py"), "quickstart", "--port", str(port), "--no-engine-build"]
    with Program(argv, core=None, log=directory / "served.log", cwd=ROOT, env=env) as served:
        served.await_ready(lambda: accepts(port), 120)

        def ask_all(asked: Round) -> list[Seen]:
            return _ask_gateway(port, key, asked)

        _await_answer(ask_all, served)
        yield Running("web process, Redis, Celery worker and its batching engine", served.pid, ask_all)


def _await_answer(ask_all: AskAll, served: Program) -> None:
    """The first answers may find no worker yet, or a model that is being loaded."""
    until = time.monotonic() + 120
    while True:
        try:
            ask_all(plain(1, 4, seed=-1))
            return
        except (OSError, RuntimeError) as error:
            if time.monotonic() > until:
                raise DidNotStart(f"the gateway did not answer: {error}; {served.log_tail()[-300:]}") from error
            time.sleep(0.5)


def _ask_gateway(port: int, key: str, asked: Round) -> list[Seen]:
    found: list[Seen | Exception] = [RuntimeError("no answer")] * len(asked.messages)
    connections = [http.client.HTTPConnection("127.0.0.1", port, timeout=300) for _ in asked.messages]
    for connection in connections:
        connection.connect()
    begun = time.perf_counter()

    def one(place: int) -> None:
        try:
            found[place] = _ask(connections[place], key, asked.messages[place], asked.tokens, begun)
        except (OSError, RuntimeError, http.client.HTTPException) as error:
            found[place] = error

    users = [threading.Thread(target=one, args=(place,)) for place in range(len(found))]
    for user in users:
        user.start()
    for user in users:
        user.join()
    for connection in connections:
        connection.close()
    seen = [one for one in found if isinstance(one, Seen)]
    if len(seen) < len(found):
        raise RuntimeError(next(str(one) for one in found if isinstance(one, Exception)))
    return seen


def _ask(
    connection: http.client.HTTPConnection, key: str, messages: list[dict[str, str]], tokens: int, begun: float
) -> Seen:
    body = {
        "model": MODEL,
        "messages": messages,
        "max_tokens": tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
    reply = connection.getresponse()
    if reply.status != 200:
        raise RuntimeError(f"{reply.status}: {reply.read()[:300]!r}")
    first, made = 0.0, 0
    for line in reply:
        if not first and b'"content":"' in line and b'"content":""' not in line:
            first = time.perf_counter() - begun
        if b'"completion_tokens"' in line:
            made = json.loads(line.removeprefix(b"data: "))["usage"]["completion_tokens"]
    if not made:
        raise RuntimeError("a stream ended without its usage")
    return Seen(first, time.perf_counter() - begun, made)
