"""Starts programs on a given core, and reads what they and their children have used."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self


class DidNotStart(RuntimeError):
    """The program ended or stayed silent; the message carries the end of its log."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def accepts(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=0.5):
            return True
    except OSError:
        return False


class Program:
    """A child in a session of its own, pinned to `core`, with its output in `log`."""

    def __init__(
        self,
        argv: list[str],
        *,
        core: int | None,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self.argv = argv
        self.log = log
        with log.open("wb") as output:
            self._child = subprocess.Popen(
                argv if core is None else ["taskset", "-c", str(core), *argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=None if env is None else {**os.environ, **env},
                cwd=cwd,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._child.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def await_ready(self, ready: Callable[[], bool], seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self._child.poll() is not None:
                raise DidNotStart(
                    f"{self.argv[0]} ended with status {self._child.returncode}: {last_lines(self.log_tail())}"
                )
            if ready():
                return
            time.sleep(0.1)
        raise DidNotStart(f"{self.argv[0]} was not ready after {seconds:.0f} s: {last_lines(self.log_tail())}")

    def log_tail(self) -> str:
        return self.log.read_text(errors="replace")[-1500:]

    def pids(self) -> list[int]:
        """The program and everything below it that still lives."""
        return family(self.pid)

    def stop(self) -> None:
        family = self.pids() if self._child.poll() is None else []
        with contextlib.suppress(ProcessLookupError):
            self._child.terminate()
        try:
            self._child.wait(10)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait(5)
        for pid in family[1:]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def last_lines(text: str, count: int = 3) -> str:
    """Where programs say why they ended."""
    return " / ".join([line.strip() for line in text.splitlines() if line.strip()][-count:])


def children(pid: int) -> list[int]:
    found = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                found += [int(child) for child in (task / "children").read_text().split()]
    return found


def family(pid: int) -> list[int]:
    """A process and everything below it that still lives."""
    found, queue = [], [pid]
    while queue:
        pid = queue.pop()
        found.append(pid)
        queue.extend(children(pid))
    return found


def cpu_seconds(pid: int) -> float:
    """Of a process, in user and system mode since it began; 0 when it is gone."""
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def resident_kb(pid: int) -> int:
    """Resident memory in KiB; 0 when the process is gone."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
    return 0
