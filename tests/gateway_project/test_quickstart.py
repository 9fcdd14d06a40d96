"""The whole thing as a person starts it: a process of its own, a data directory of its own, a free port."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests import services

ROOT = Path(__file__).resolve().parent.parent.parent
PATIENCE_SECONDS = 120


@dataclass
class Gateway:
    """A running `quickstart`, what it printed, and what it wrote for us."""

    data_dir: Path
    arguments: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)

    def __enter__(self) -> Gateway:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("GATEWAY_", "DJANGO_"))}
        for name in ("DATABASE_URL", "REDIS_URL"):
            clean.pop(name, None)
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", "quickstart", "--data-dir", str(self.data_dir), *self.arguments],
            cwd=ROOT,
            env=clean | self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.stop()
        self._reader.join(PATIENCE_SECONDS)  # what it said last may still be on its way to us

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as output:
            self.lines += (line.rstrip("\n") for line in output)

    def _serves(self) -> bool:
        if self.process.poll() is not None:
            self._reader.join()
            raise AssertionError("it ended:\n" + "\n".join(self.lines))
        return get(self.written()["base_url"] + "/readyz") == 200 if self.file.exists() else False

    @property
    def file(self) -> Path:
        return self.data_dir / "quickstart.json"

    def written(self) -> dict[str, str]:
        return json.loads(self.file.read_text())

    def until_it_serves(self) -> Gateway:
        until(self._serves)
        return self

    def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        status = self.process.wait(PATIENCE_SECONDS)
        self._reader.join()
        return status

    def tree(self) -> dict[int, str]:
        """Every living process below it, by number: its command line."""
        return dict(below(self.process.pid))


def below(pid: int) -> Iterator[tuple[int, str]]:
    # A process may end between the look at its parent and the look at it.
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for path in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in map(int, path.read_text().split()):
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    yield child, Path(f"/proc/{child}/cmdline").read_text().replace("\0", " ")
                    yield from below(child)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def files_below(folder: Path) -> Iterator[tuple[Path, int]]:
    """Each with its mode; those that a running gateway takes away meanwhile are left out."""
    for place, _, names in os.walk(folder):
        for path in (Path(place, name) for name in names):
            with contextlib.suppress(FileNotFoundError):
                mode = path.stat().st_mode
                if stat.S_ISREG(mode):
                    yield path, mode


def get(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=20) as reply:
            return reply.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except OSError:
        return 0


def until(condition, said: Sequence[str] = ()) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "\n".join(["it took too long", *said[-40:]])
        time.sleep(0.05)


def answer(gateway: Gateway) -> str:
    """The text of a streamed answer of the built-in model."""
    written = gateway.written()
    body = {"model": "demo", "stream": True, "messages": [{"role": "user", "content": "What is this gateway?"}]}
    request = urllib.request.Request(
        written["base_url"] + "/v1/chat/completions",
        json.dumps(body).encode(),
        {"Authorization": f"Bearer {written['client_key']}", "Content-Type": "application/json"},
    )
    text = ""
    with urllib.request.urlopen(request, timeout=60) as reply:
        events = reply.read().decode().split("\n\n")
    assert events[-2] == "data: [DONE]", events
    for event in events[:-2]:
        if event.startswith("data: "):
            chunk = json.loads(event.removeprefix("data: "))
            assert "error" not in chunk, chunk
            text += "".join(choice["delta"].get("content") or "" for choice in chunk["choices"])
    return text


@pytest.fixture(scope="module")
def data_dir() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="gwtest-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield Path(folder) / "data"


@pytest.fixture(scope="module")
def gateway(data_dir: Path) -> Iterator[Gateway]:
    with Gateway(data_dir, ["--port", str(services.free_port()), "--no-engine-build"]) as gateway:
        yield gateway.until_it_serves()


@pytest.mark.slow
@pytest.mark.xdist_group("quickstart")
class TestRunning:
    def test_the_built_in_model_answers_in_a_stream(self, gateway):
        assert len(answer(gateway)) > 10

    def test_the_link_opens_the_admin(self, gateway):
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        with opener.open(gateway.written()["admin_login_link"], timeout=30) as page:
            assert page.status == 200
            assert page.url == gateway.written()["admin_url"]

    def test_it_prints_what_to_do_next(self, gateway):
        until(lambda: any("ctrl-C stops" in line for line in gateway.lines))
        printed = "\n".join(gateway.lines)
        assert gateway.written()["admin_login_link"] in printed
        assert "curl -N" in printed
        assert "from openai import OpenAI" in printed

    def test_nothing_in_the_data_directory_is_for_others(self, gateway, data_dir):
        assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700
        assert [path for path, mode in files_below(data_dir) if mode & 0o077] == []

    def test_no_log_holds_a_key(self, gateway, data_dir):
        logs = "".join(path.read_text(errors="replace") for path in (data_dir / "logs").iterdir())
        for name in ("client_key", "registry_key"):
            assert gateway.written()[name] not in logs

    def test_a_second_one_on_the_same_directory_is_refused(self, gateway, data_dir):
        with Gateway(data_dir, ["--port", "0"]) as second:
            assert second.process.wait(PATIENCE_SECONDS) == 1
        assert f"already runs on {data_dir} (process {gateway.process.pid})" in "\n".join(second.lines)

    def test_a_taken_port_is_refused(self, gateway, tmp_path):
        port = gateway.written()["base_url"].rpartition(":")[2]
        with Gateway(tmp_path, ["--port", port]) as second:
            assert second.process.wait(PATIENCE_SECONDS) == 1
        assert "choose another with --port" in "\n".join(second.lines)

    @pytest.mark.parametrize(
        "program", ["gateway_project.server", "celery:app worker", "celery:app beat", "redis-server"]
    )
    def test_a_killed_program_comes_back(self, gateway, program):
        def running() -> set[int]:
            return {pid for pid, command in gateway.tree().items() if program in command.replace("-A ", "")}

        until(running)
        before = running()
        os.kill(min(before), signal.SIGKILL)
        until(lambda: running() - before, gateway.lines)
        gateway.until_it_serves()

    def test_it_answers_after_all_that(self, gateway):
        until(lambda: _answers(gateway))


def _answers(gateway: Gateway) -> bool:
    try:
        return bool(answer(gateway))
    except (OSError, AssertionError):
        return False


@pytest.mark.slow
@pytest.mark.xdist_group("quickstart")
def test_a_stop_leaves_no_process_and_a_second_start_keeps_the_keys(tmp_path_factory):
    with tempfile.TemporaryDirectory(prefix="gwtest-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        data_dir = Path(folder)
        with Gateway(data_dir, ["--port", "0", "--no-engine-build"]) as first:
            first.until_it_serves()
            keys = first.written()
            tree = first.tree()
            assert first.stop() == 0
        assert [command for pid, command in tree.items() if alive(pid)] == []
        with Gateway(data_dir, ["--port", "0", "--no-engine-build"]) as second:
            second.until_it_serves()
            for name in ("client_key", "registry_key"):
                assert second.written()[name] == keys[name]
            assert len(answer(second)) > 10


@pytest.mark.slow
@pytest.mark.xdist_group("quickstart")
def test_a_killed_supervisor_leaves_no_process():
    with tempfile.TemporaryDirectory(prefix="gwtest-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        with Gateway(Path(folder), ["--port", "0", "--no-engine-build"]) as gateway:
            tree = gateway.until_it_serves().tree()
            gateway.process.kill()
            gateway.process.wait()
        until(lambda: not any(alive(pid) for pid in tree))


@pytest.mark.slow
@pytest.mark.xdist_group("quickstart")
def test_postgresql_and_an_external_redis_take_over_by_their_urls(postgresql_url, tmp_path_factory):
    with tempfile.TemporaryDirectory(prefix="gwtest-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        store = services.external_redis(Path(folder))
        environment = {"DATABASE_URL": postgresql_url, "REDIS_URL": store.url}
        data_dir = Path(folder) / "data"
        try:
            with Gateway(data_dir, ["--port", "0", "--no-engine-build"], environment) as gateway:
                gateway.until_it_serves()
                assert len(answer(gateway)) > 10
                assert not [command for command in gateway.tree().values() if "redis-server" in command]
            assert not (data_dir / "db.sqlite3").exists()
        finally:
            store.stop()


def test_a_redis_that_does_not_answer_is_named(tmp_path):
    environment = {"REDIS_URL": f"redis://127.0.0.1:{services.free_port()}/0"}
    with Gateway(tmp_path, ["--port", "0"], environment) as gateway:
        assert gateway.process.wait(PATIENCE_SECONDS) == 1
    assert "REDIS_URL names a Redis that does not answer" in "\n".join(gateway.lines)
