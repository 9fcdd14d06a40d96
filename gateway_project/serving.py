"""The whole gateway as one process tree: Redis when none is given, a worker, the clock, the web, and a compiler in the background.

What each child is and in which order it comes and goes. How children are kept alive is `processes`, what is printed is the
command's.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import importlib.metadata
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gateway_project import embedded_redis
from gateway_project.processes import Program, ProgramFailed, Supervisor
from inference.engine import build

LOCK = "quickstart.lock"
ROOT = Path(__file__).resolve().parent.parent
READY_SECONDS = 120.0
_WORKER_THREADS = 32
"""More than the requests that a local model decodes together: waiting ones hold a thread each."""


class NotServed(Exception):
    """The gateway cannot be started; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Plan:
    """`redis_url` is None when a Redis of our own is to be started; `build_engine` compiles the default local engine."""

    data_dir: Path
    host: str
    port: int
    workers: int = 1
    redis_url: str | None = None
    build_engine: bool = True

    @property
    def base_url(self) -> str:
        host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(self.host, self.host)
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"


@contextlib.contextmanager
def alone(data_dir: Path) -> Iterator[None]:
    """Hold the data directory: two gateways in one would run two Redis on one file."""
    with open(os.open(data_dir / LOCK, os.O_RDWR | os.O_CREAT, 0o600), "r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise NotServed(
                f"a gateway already runs on {data_dir} (process {file.read().strip() or 'unknown'}): stop it first, or give "
                "this one a --data-dir and a --port of its own"
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def free_port(host: str) -> int:
    """One that for a minute is given to nobody else who wants any: a connection that was closed here first lingers on it, which
    keeps no server from listening there."""
    with _bound(host, 0) as probe:
        probe.listen(1)
        with socket.create_connection(probe.getsockname()[:2]):
            probe.accept()[0].close()
        return int(probe.getsockname()[1])


def refuse_taken_port(host: str, port: int) -> None:
    try:
        _bound(host, port).close()
    except OSError as error:
        raise NotServed(f"{host}:{port} cannot be used ({error.strerror}): choose another with --port") from error


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    probe = socket.socket(family)
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        probe.bind((host, port))
    except OSError:
        probe.close()
        raise
    return probe


# --- The children ---------------------------------------------------------------------------------------------------------


def redis_program(plan: Plan) -> Program:
    async def ready(_: object) -> None:
        await asyncio.to_thread(embedded_redis.wait_until_it_answers, embedded_redis.socket_path(plan.data_dir))

    return Program("redis", embedded_redis.command(plan.data_dir), ready)


def worker_program() -> Program:
    command = [*_celery("worker"), "--pool", "threads", "--concurrency", str(_WORKER_THREADS)]
    # One worker has nobody to gossip with or to learn from.
    command += ["--without-gossip", "--without-mingle", "--hostname", "worker{serial}@%h", "--loglevel", "INFO"]
    return Program("worker", command, lambda running: running.says(" ready."))


def beat_program(plan: Plan) -> Program:
    return Program("beat", [*_celery("beat"), "--schedule", str(plan.data_dir / "beat.schedule"), "--pidfile="])


def web_program(plan: Plan) -> Program:
    command = [sys.executable, "-m", "gateway_project.server", "--host", plan.host, "--port", str(plan.port)]
    command += ["--workers", str(plan.workers)]
    environment = {}
    if "GATEWAY_ALLOWED_HOSTS" not in os.environ and plan.host not in {"127.0.0.1", "localhost", "::1"}:
        names = ["127.0.0.1", "localhost", "[::1]", socket.gethostname(), socket.getfqdn(), plan.host]
        environment["GATEWAY_ALLOWED_HOSTS"] = ",".join(dict.fromkeys(names))
    return Program("web", command, lambda _: answers(plan.base_url + "/readyz"), environment)


def engine_program(plan: Plan) -> Program:
    command = [sys.executable, "-m", "inference.engine.build", "--data-dir", str(plan.data_dir)]
    return Program("engine", [*command, "--requirements", str(ROOT / "requirements" / "engine.txt")])


def engine_is_built() -> bool:
    try:
        return importlib.metadata.version(build.PACKAGE) == build.VERSION
    except importlib.metadata.PackageNotFoundError:
        return False


def _celery(command: str) -> list[str]:
    return [sys.executable, "-m", "celery", "-A", "gateway_project.celery:app", command]


async def answers(url: str) -> None:
    """Return once a GET of `url` is answered with 200."""
    address = url.removeprefix("http://")
    authority, _, path = address.partition("/")
    host, _, port = authority.rpartition(":")
    while True:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
            try:
                writer.write(f"GET /{path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n".encode())
                if (await reader.readline()).split()[1:2] == [b"200"]:
                    return
            finally:
                writer.close()
        await asyncio.sleep(0.05)


# --- Their lives ----------------------------------------------------------------------------------------------------------


async def serve(
    plan: Plan,
    *,
    heard: Callable[[str, str], None],
    told: Callable[[str, str], None],
    on_ready: Callable[[], None],
) -> None:
    """Run until a signal; a second ctrl-C does not wait. Raises `NotServed` or `ProgramFailed` when it does not come up."""
    supervisor = Supervisor(plan.data_dir / "logs", cwd=ROOT, heard=heard, told=told)
    asked = asyncio.Event()

    def ask(number: signal.Signals) -> None:
        if asked.is_set() and number == signal.SIGINT:
            supervisor.kill()
        elif not asked.is_set():
            told("gateway", "stopping; streams in flight may finish (ctrl-C again stops at once)")
        asked.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, ask, number)
    try:
        await _unless(asked, _run(supervisor, plan, told, on_ready))
    finally:
        await supervisor.stop()
        told("gateway", "stopped")


async def _run(
    supervisor: Supervisor, plan: Plan, told: Callable[[str, str], None], on_ready: Callable[[], None]
) -> None:
    if plan.redis_url is None:
        await supervisor.start(redis_program(plan))
    async with asyncio.timeout(READY_SECONDS), asyncio.TaskGroup() as starting:
        for program in (worker_program(), beat_program(plan), web_program(plan)):
            starting.create_task(supervisor.start(program))
    on_ready()
    if plan.build_engine and not engine_is_built():
        await _build_engine(supervisor, plan, told)
    await asyncio.Event().wait()


async def _build_engine(supervisor: Supervisor, plan: Plan, told: Callable[[str, str], None]) -> None:
    """Compile the default engine while the prebuilt one serves; then a new worker takes over without a gap."""
    status = await supervisor.run_once(engine_program(plan))
    if status:
        told("engine", "the prebuilt engine goes on serving; logs/engine.log says why")
        return
    try:
        await supervisor.replace("worker")
        told("engine", "new local generations run on it; those in flight finish on the prebuilt one")
    except ProgramFailed as error:
        told("engine", f"the worker on the compiled engine did not start, the one before it stays: {error}")


async def _unless(asked: asyncio.Event, work: Awaitable[None]) -> None:
    """Do the work until it ends, fails, or a signal asks for the end."""
    task, asking = asyncio.ensure_future(work), asyncio.ensure_future(asked.wait())
    try:
        await asyncio.wait({task, asking}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
    except* ProgramFailed as failures:
        raise NotServed(str(failures.exceptions[0])) from None
    except* TimeoutError:
        raise NotServed(f"the gateway was not ready after {READY_SECONDS:.0f} seconds; see the logs") from None
    finally:
        for pending in (task, asking):
            pending.cancel()
        await asyncio.gather(task, asking, return_exceptions=True)
