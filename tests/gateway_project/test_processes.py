"""Dummy programs, real processes."""

import asyncio
import contextlib
import errno
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from gateway_project import processes
from gateway_project.processes import Backoff, Program, ProgramFailed, Supervisor

PATIENT = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (print("bye", flush=True), sys.exit(0)))
print("up", flush=True)
time.sleep(600)
"""
STUBBORN = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
PARENT = "import subprocess, sys, time; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); print(p.pid, flush=True); print('up', flush=True); time.sleep(600)"


def python(name, source, **options):
    return Program(name, [sys.executable, "-c", source], ready=lambda running: running.says("up"), **options)


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def until(condition, seconds=60):
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  (what is waited for happens in other processes)
            await asyncio.sleep(0.01)


@pytest.fixture
def told():
    return []


@pytest.fixture
def heard():
    return []


@pytest.fixture
async def supervisor(tmp_path, told, heard):
    supervisor = Supervisor(
        tmp_path / "logs",
        cwd=tmp_path,
        heard=lambda name, line: heard.append((name, line)),
        told=lambda name, sentence: told.append((name, sentence)),
        backoff=Backoff(first=0.01),
    )
    yield supervisor
    await supervisor.stop()


async def test_a_started_program_is_ready_and_its_lines_are_kept(supervisor, heard, tmp_path):
    await supervisor.start(python("one", PATIENT))
    assert ("one", "up") in heard
    assert (tmp_path / "logs" / "one.log").read_text() == "up\n"


async def test_an_orderly_stop_lets_a_program_finish(supervisor, heard):
    await supervisor.start(python("one", PATIENT))
    await supervisor.stop()
    assert ("one", "bye") in heard


async def test_programs_stop_in_reverse_order(supervisor, heard):
    await supervisor.start(python("first", PATIENT))
    await supervisor.start(python("second", PATIENT))
    await supervisor.stop()
    assert [name for name, line in heard if line == "bye"] == ["second", "first"]


async def test_a_program_that_ignores_sigterm_is_killed(supervisor):
    await supervisor.start(python("one", STUBBORN, stop_seconds=0.2))
    pid = supervisor.pids["one"]
    await supervisor.stop()
    assert not alive(pid)


async def test_a_killed_program_comes_back(supervisor, told):
    await supervisor.start(python("one", PATIENT))
    first = supervisor.pids["one"]
    os.kill(first, signal.SIGKILL)
    await until(lambda: supervisor.pids["one"] != first)
    assert alive(supervisor.pids["one"])
    assert told[0][0] == "one"
    assert "SIGKILL" in told[0][1]


async def test_a_program_that_cannot_be_started_again_at_once_comes_back_later(supervisor, told, monkeypatch):
    await supervisor.start(python("one", PATIENT))
    start, refused = asyncio.create_subprocess_exec, iter([BlockingIOError(errno.EAGAIN, "no more processes")])

    async def refuse_once(*args, **kwargs):
        for error in refused:
            raise error
        return await start(*args, **kwargs)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", refuse_once)
    old = supervisor.pids["one"]
    os.kill(old, signal.SIGKILL)
    await until(lambda: supervisor.pids["one"] != old)
    assert alive(supervisor.pids["one"])
    assert "no more processes" in told[1][1]


async def test_a_full_disk_loses_lines_of_the_log_and_nothing_else(supervisor, heard, monkeypatch):
    class Full:
        def write(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

    @contextlib.contextmanager
    def full(path):
        yield Full()

    monkeypatch.setattr(processes, "_appending", full)
    async with asyncio.timeout(60):
        await supervisor.start(python("one", PATIENT))
    await supervisor.stop()
    assert heard == [("one", "up"), ("one", "bye")]


async def test_a_program_was_ready_though_its_end_is_seen_before_its_words(supervisor, told, monkeypatch):
    listen = supervisor._listen

    async def late(running, reading):
        await running.process.wait()
        await listen(running, reading)

    monkeypatch.setattr(supervisor, "_listen", late)
    await supervisor.start(python("one", "print('up', flush=True)"))
    await until(lambda: told)
    assert told[0][1].startswith("ended with status 0")


async def test_what_a_failing_program_said_last_is_told(supervisor, told):
    await supervisor.start(python("one", "print('up', flush=True); raise SystemExit('no more disk')"))
    await until(lambda: told)
    assert told[0][1].startswith("ended with status 1 (no more disk); starting it again")


async def test_the_children_of_a_killed_program_go_with_it(supervisor, heard):
    await supervisor.start(python("one", PARENT))
    grandchild = int(heard[0][1])
    first = supervisor.pids["one"]
    assert alive(grandchild)
    os.kill(first, signal.SIGKILL)
    await until(lambda: not alive(grandchild))


async def test_a_program_that_ends_before_it_is_ready_says_why(supervisor):
    with pytest.raises(ProgramFailed, match=r"status 3.*\n.*no such port") as raised:
        await supervisor.start(python("one", "print('no such port'); raise SystemExit(3)"))
    assert "one" in str(raised.value)
    assert supervisor.pids == {}


async def test_a_successor_serves_before_its_predecessor_leaves(supervisor, heard, told):
    await supervisor.start(python("one", PATIENT))
    old = supervisor.pids["one"]
    await supervisor.replace("one")
    new = supervisor.pids["one"]
    await until(lambda: not alive(old) and ("one", "bye") in heard)
    assert alive(new)
    assert [line for _, line in heard] == ["up", "up", "bye"]
    assert told == []


async def test_a_failing_successor_leaves_the_predecessor_in_place(supervisor, tmp_path):
    source = f"import pathlib, sys; p = pathlib.Path({str(tmp_path)!r}, 'started'); p.exists() and sys.exit(4); p.touch()\n{PATIENT}"
    await supervisor.start(python("one", source))
    old = supervisor.pids["one"]
    with pytest.raises(ProgramFailed):
        await supervisor.replace("one")
    assert supervisor.pids["one"] == old
    assert alive(old)


def waiting_from_the_second_on(gate):
    """Each says its number and its process; every one but the first is ready no sooner than the gate is open."""

    async def ready(running):
        await running.says("up")
        if not running.said[0].startswith("1 "):
            await gate.wait()

    source = PATIENT.replace('"up"', 'sys.argv[1], os.getpid(), "up"').replace("import signal", "import os, signal")
    return Program("one", [sys.executable, "-c", source, "{serial}"], ready)


def pid_of(serial, heard):
    return next((int(line.split()[1]) for _, line in heard if line.startswith(f"{serial} ")), None)


async def test_a_predecessor_that_is_started_again_meanwhile_leaves_too(supervisor, heard):
    gate = asyncio.Event()
    await supervisor.start(waiting_from_the_second_on(gate))
    replacing = asyncio.create_task(supervisor.replace("one"))
    await until(lambda: pid_of(2, heard))
    os.kill(supervisor.pids["one"], signal.SIGKILL)
    await until(lambda: pid_of(3, heard))
    gate.set()
    await replacing
    assert supervisor.pids["one"] == pid_of(2, heard)
    await until(lambda: not alive(pid_of(3, heard)))
    assert alive(pid_of(2, heard))


async def test_a_successor_that_nobody_waits_for_any_more_is_ended(supervisor, heard):
    await supervisor.start(waiting_from_the_second_on(asyncio.Event()))
    replacing = asyncio.create_task(supervisor.replace("one"))
    await until(lambda: pid_of(2, heard))
    replacing.cancel()
    await asyncio.wait({replacing})
    assert not alive(pid_of(2, heard))
    assert alive(supervisor.pids["one"])


async def test_a_program_that_runs_once_returns_its_status(supervisor, tmp_path):
    assert await supervisor.run_once(Program("build", [sys.executable, "-c", "print('hi'); raise SystemExit(7)"])) == 7
    assert (tmp_path / "logs" / "build.log").read_text() == "hi\n"


async def test_each_start_has_its_number(supervisor, heard):
    program = Program(
        "one", [sys.executable, "-c", PATIENT.replace('"up"', '"{serial} up"')], lambda run: run.says("up")
    )
    await supervisor.start(program)
    await supervisor.replace("one")
    assert [line for _, line in heard if "up" in line] == ["1 up", "2 up"]


@pytest.mark.parametrize(("failures", "seconds"), [(1, 0.1), (2, 0.2), (4, 0.8), (30, 15.0)])
def test_the_wait_before_a_start_grows_and_ends_growing(failures, seconds):
    assert Backoff().seconds(failures) == pytest.approx(seconds)


def test_a_killed_supervisor_leaves_no_process(tmp_path):
    script = textwrap.dedent(f"""
        import asyncio, sys
        from pathlib import Path
        from gateway_project.processes import Program, Supervisor
        async def main():
            supervisor = Supervisor(Path({str(tmp_path)!r}), cwd=Path({str(tmp_path)!r}))
            await supervisor.start(Program("one", [sys.executable, "-c", {PATIENT!r}], lambda run: run.says("up")))
            print(supervisor.pids["one"], flush=True)
            await asyncio.sleep(600)
        asyncio.run(main())
    """)
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert alive(pid)
        parent.kill()
    asyncio.run(until(lambda: not alive(pid)))
