"""The mock upstream as a running program, and the names by which requests choose what it does."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

from benchmarks.native import program
from benchmarks.processes import Program

WHOLE = "mock-whole"
FLAT_OUT = "mock-c200-i0"
"""200 chunks, as fast as they are taken."""
TWENTY_A_SECOND = "mock-c40-i50000"
SHORT = "mock-c4-i1000"
ONE_A_SECOND = "mock-c3600-i1000000"
TWO_A_SECOND = "mock-c3600-i500000"

MODELS = (WHOLE, FLAT_OUT, TWENTY_A_SECOND, SHORT, ONE_A_SECOND, TWO_A_SECOND)


def body(model: str, *, stream: bool = False) -> bytes:
    """A small request, as a chat client sends it."""
    request: dict[str, object] = {
        "model": model,
        "messages": [
            {"role": "system", "content": "You answer briefly and to the point."},
            {"role": "user", "content": "What does a gateway in front of several language models do for me?"},
        ],
        "temperature": 0.2,
        "max_tokens": 256,
    }
    if stream:
        request["stream"] = True
    return json.dumps(request, separators=(",", ":")).encode()


class Upstream:
    def __init__(self, *, core: int | None, directory: Path) -> None:
        self._program = Program([str(program("mock"))], core=core, log=directory / "mock.log")
        self._program.await_ready(lambda: "listening" in self._program.log_tail(), 60)
        self.port = int(self._program.log_tail().split()[1])

    @property
    def pid(self) -> int:
        return self._program.pid

    def stats(self) -> dict[str, int]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/stats", timeout=60) as reply:
            return json.load(reply)

    def stop(self) -> None:
        self._program.stop()
