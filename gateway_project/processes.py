"""One process tree: start programs in order, keep them running, stop them in reverse, leave nothing behind.

Each program is the leader of a session of its own, so a ctrl-C in the terminal reaches the supervisor only, and whatever a
program started itself can be ended with it. On Linux a program is also told when its supervisor dies, even of SIGKILL. What a
program writes goes to a file of its own; the supervisor hears of each line through a callable.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
_LOG_BYTES = 10 * 1024 * 1024
"""A log file that grew past this is kept once more as `.1` and begun anew."""
_LAST_WORDS_SECONDS = 10.0
"""For what a program wrote before it ended; only one that left its output to others keeps us waiting so long."""


class ProgramFailed(Exception):
    """A program ended before it was ready; the text holds its last lines."""


@dataclass(frozen=True, slots=True)
class Program:
    """What to run. `{serial}` in the command becomes the number of the start, for names that must differ.

    `ready` returns once the program does its work; `stop_seconds` is how
    long a program may take over a SIGTERM before it is killed, `retire_seconds` the same when a successor already serves.
    """

    name: str
    command: Sequence[str]
    ready: Callable[[Running], Awaitable[None]] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    stop_seconds: float = 10.0
    retire_seconds: float = 600.0


@dataclass(slots=True)
class Running:
    """A started program. `said` holds its last lines, `spoke` is set with each new one."""

    program: Program
    process: asyncio.subprocess.Process
    started_at: float
    said: deque[str] = field(default_factory=lambda: deque(maxlen=40))
    spoke: asyncio.Event = field(default_factory=asyncio.Event)
    output: asyncio.Task[None] | None = None

    async def says(self, end_of_line: str) -> None:
        """Wait for a line that ends so."""
        while not any(line.endswith(end_of_line) for line in self.said):
            self.spoke.clear()
            await self.spoke.wait()


@dataclass(frozen=True, slots=True)
class Backoff:
    """Seconds to wait before a start, by how often the program ended in a row; a long life wipes the slate clean."""

    first: float = 0.1
    factor: float = 2.0
    longest: float = 15.0
    long_life_seconds: float = 30.0

    def seconds(self, failures: int) -> float:
        return min(self.longest, self.first * self.factor ** max(0, failures - 1))


class Supervisor:
    """`heard` is called with (program, line) for each line, `told` with (program, sentence) for each thing that happens."""

    def __init__(
        self,
        log_dir: Path,
        *,
        cwd: Path,
        heard: Callable[[str, str], None] = lambda name, line: None,
        told: Callable[[str, str], None] = lambda name, sentence: None,
        backoff: Backoff = Backoff(),
    ) -> None:
        self._log_dir, self._cwd, self._heard, self._told, self._backoff = log_dir, cwd, heard, told, backoff
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._running: dict[str, Running] = {}
        self._retiring: set[asyncio.Task[None]] = set()
        self._serials: dict[str, int] = {}
        self._order: list[str] = []
        self._stopping = False
        log_dir.mkdir(mode=0o700, parents=True, exist_ok=True)

    @property
    def pids(self) -> dict[str, int]:
        return {name: running.process.pid for name, running in self._running.items()}

    async def start(self, program: Program) -> None:
        """Start a program and wait until it is ready; from then on it is kept running. Raises `ProgramFailed`."""
        self._order.append(program.name)
        running = await self._spawn(program)
        self._running[program.name] = running
        try:
            await self._until_ready(running)
        except ProgramFailed:
            await self._end(running, 0)
            del self._running[program.name]
            raise
        self._keepers[program.name] = asyncio.create_task(self._keep(running))

    async def run_once(self, program: Program) -> int:
        """Run a program to its end; return its exit status (negative: the signal that ended it)."""
        self._order.append(program.name)
        running = await self._spawn(program)
        self._running[program.name] = running
        try:
            return await running.process.wait()
        finally:
            await self._end(running, program.stop_seconds)
            self._running.pop(program.name, None)

    async def replace(self, name: str) -> None:
        """Start a successor; once it is ready the predecessor finishes what it is doing and leaves."""
        keeper = self._keepers[name]
        new = await self._spawn(self._running[name].program)
        try:
            await self._until_ready(new)
            # It may have ended meanwhile, and be started again this moment: whichever runs once nobody keeps it is the predecessor.
            keeper.cancel()
            await asyncio.wait({keeper})
        except BaseException:
            await self._end(new, 0)
            raise
        old, self._running[name] = self._running[name], new
        self._keepers[name] = asyncio.create_task(self._keep(new))
        retirement = asyncio.create_task(self._end(old, old.program.retire_seconds))
        self._retiring.add(retirement)
        retirement.add_done_callback(self._retiring.discard)

    async def stop(self) -> None:
        """End every program, the last started first, each within its own time."""
        self._stopping = True
        for keeper in self._keepers.values():
            keeper.cancel()
        for retirement in self._retiring:
            retirement.cancel()
        for name in reversed(self._order):
            if running := self._running.pop(name, None):
                await self._end(running, running.program.stop_seconds)
        await asyncio.gather(*self._keepers.values(), *self._retiring, return_exceptions=True)

    def kill(self) -> None:
        """End everything at once, by SIGKILL."""
        for running in self._running.values():
            _signal_group(running.process.pid, signal.SIGKILL)

    async def _keep(self, running: Running) -> None:
        program, failures = running.program, 0
        while True:
            status = await running.process.wait()
            if self._stopping:
                return
            await self._end(running, 0)  # what it left behind
            if time.monotonic() - running.started_at > self._backoff.long_life_seconds:
                failures = 0
            failures += 1
            seconds = self._backoff.seconds(failures)
            last = next((f" ({line})" for line in reversed(running.said) if line and status > 0), "")
            self._told(program.name, f"{_ended(status)}{last}; starting it again in {seconds:.1f} s")
            await asyncio.sleep(seconds)
            running = self._running[program.name] = await self._spawn_in_time(program)

    async def _spawn_in_time(self, program: Program) -> Running:
        """A machine that is short of processes or memory may have some a moment later."""
        failures = 0
        while True:
            try:
                return await self._spawn(program)
            except OSError as error:
                failures += 1
                seconds = self._backoff.seconds(failures)
                self._told(program.name, f"cannot be started ({error.strerror}); trying again in {seconds:.1f} s")
            await asyncio.sleep(seconds)

    async def _spawn(self, program: Program) -> Running:
        serial = self._serials[program.name] = self._serials.get(program.name, 0) + 1
        # A pipe of our own: with asyncio's, a program only counts as ended once its own children have let go of it too.
        reading, writing = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *(word.replace("{serial}", str(serial)) for word in program.command),
                cwd=self._cwd,
                env={**os.environ, **program.environment, "PYTHONUNBUFFERED": "1"},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=writing,
                stderr=writing,
                start_new_session=True,
                preexec_fn=_ending_with(os.getpid()),
            )
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        running = Running(program, process, time.monotonic())
        running.output = asyncio.create_task(self._listen(running, reading))
        return running

    async def _until_ready(self, running: Running) -> None:
        if running.program.ready is None:
            return None
        ready = asyncio.ensure_future(running.program.ready(running))
        ended = asyncio.ensure_future(running.process.wait())
        try:
            await asyncio.wait({ready, ended}, return_when=asyncio.FIRST_COMPLETED)
            if not ready.done() and running.output is not None:
                # Its end may be seen before its last words, which may say that it was ready.
                await asyncio.wait({running.output}, timeout=_LAST_WORDS_SECONDS)
            if ready.done():
                return ready.result()
            last = "\n".join(running.said)
            raise ProgramFailed(f"{running.program.name} {_ended(ended.result())} before it was ready:\n{last}")
        finally:
            ready.cancel()
            ended.cancel()

    async def _listen(self, running: Running, reading: int) -> None:
        path = self._log_dir / f"{running.program.name}.log"
        lines_in = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(lines_in), os.fdopen(reading, "rb", 0)
        )
        rest = b""
        with contextlib.ExitStack() as at_the_end:
            at_the_end.callback(transport.close)
            file = at_the_end.enter_context(_appending(path))
            while data := await lines_in.read(65536):
                # A full disk loses lines; who stopped reading would end the program, which finds nobody at the pipe.
                with contextlib.suppress(OSError):
                    file.write(data)
                    if file.tell() > _LOG_BYTES:
                        path.replace(path.with_suffix(".log.1"))
                        file = at_the_end.enter_context(_appending(path))
                *lines, rest = (rest + data).split(b"\n")
                rest = rest[-65536:]
                for line in lines:
                    text = line.decode(errors="replace").rstrip()
                    running.said.append(text)
                    self._heard(running.program.name, text)
                running.spoke.set()

    async def _end(self, running: Running, seconds: float) -> None:
        process = running.process
        try:
            if process.returncode is None and seconds > 0:
                with contextlib.suppress(ProcessLookupError):
                    process.terminate()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(seconds):
                        await process.wait()
        finally:
            # Also after an orderly end: a child of its own may have outlived it.
            _signal_group(process.pid, signal.SIGKILL)
            await process.wait()
        if running.output is not None:
            await asyncio.wait({running.output}, timeout=_LAST_WORDS_SECONDS)
            running.output.cancel()


def _appending(path: Path) -> FileIO:
    return open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab", buffering=0)


def _ending_with(parent: int) -> Callable[[], None]:
    """Runs in the new process before the program: be told to end when the supervisor is gone."""

    def prepare() -> None:
        if _LIBC is not None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:  # it died before we asked
                os._exit(1)

    return prepare


def _signal_group(leader: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, number)


def _ended(status: int) -> str:
    if status < 0:
        with contextlib.suppress(ValueError):
            return f"was ended by {signal.Signals(-status).name}"
    return f"ended with status {status}"
