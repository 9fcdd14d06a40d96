"""Killed, held, doubled: the command as processes of an installation of its own, on the database that the suite runs on."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from gateway_project import first_keys
from tests import services
from tests.conftest import DATABASE
from tests.providers.importers.databases import empty_database
from tests.providers.importers.legacy_databases import LegacyDatabase, build
from tests.providers.importers.registry_view import in_the_clear

pytestmark = pytest.mark.xdist_group("acceptance_processes")

ROOT = Path(__file__).resolve().parents[3]
LIMIT = 300 * 1024 * 1024


class Installation:
    """A gateway of its own: a data directory and a database that can be put back to how it was."""

    def __init__(self, folder: Path, redis_url: str) -> None:
        self.folder = folder
        first_keys.create_missing(folder)
        self._database = services.postgresql(folder) if DATABASE == "postgresql" else None
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
        self.environment |= {"GATEWAY_DATA_DIR": str(folder), "REDIS_URL": redis_url, "PYTHONPATH": str(ROOT)}
        self.environment |= {"DJANGO_SETTINGS_MODULE": "gateway_project.settings"}
        self.environment.pop("DATABASE_URL", None)
        if self._database:
            self.environment["DATABASE_URL"] = self._database.url
        done = self.manage("migrate", "--verbosity", "0")
        assert done.returncode == 0, done.stderr
        self._keep()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.providers.importers.forked", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=self.environment,
        )

    def manage(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "manage.py", *arguments]
        return subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False)

    def step(self, **step: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(step) + "\n")
        self._process.stdin.flush()
        said = json.loads(self._process.stdout.readline())
        assert "crash" not in said, said["crash"]
        return said

    def run(self, *arguments: str, kill: tuple[str, int] | None = None) -> dict[str, Any]:
        self._wait_for_the_dead()
        return self.step(do="run", arguments=[*arguments, "--no-progress"], at=kill)

    def look(self) -> dict[str, Any]:
        return self.step(do="look")

    def put_back(self) -> None:
        """The database as it was after `migrate`."""
        if self._database is None:
            for leftover in self.folder.glob("db.sqlite3*"):
                leftover.unlink()
            shutil.copy(self.folder / "kept.sqlite3", self.folder / "db.sqlite3")
            return
        name = urlsplit(self._database.url).path[1:]
        with psycopg.connect(self._server, autocommit=True) as connection:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{name}_kept"')

    def _keep(self) -> None:
        if self._database is None:
            with closing(sqlite3.connect(self.folder / "db.sqlite3")) as connection:
                connection.execute("VACUUM INTO ?", [str(self.folder / "kept.sqlite3")])
            return
        name = urlsplit(self._database.url).path[1:]
        with psycopg.connect(self._server, autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}_kept" TEMPLATE "{name}"')

    @property
    def _server(self) -> str:
        assert self._database is not None
        return urlunsplit(urlsplit(self._database.url)._replace(path="/postgres"))

    def _wait_for_the_dead(self) -> None:
        """PostgreSQL notices within moments that a client was killed; until then it keeps what the client held."""
        if self._database is None:
            return
        name = urlsplit(self._database.url).path[1:]
        with psycopg.connect(self._server, autocommit=True) as connection:
            while connection.execute("SELECT 1 FROM pg_stat_activity WHERE datname = %s", [name]).fetchone():
                time.sleep(0.01)

    def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
        if self._process.stdout is not None:
            self._process.stdout.close()
        if self._database is not None:
            name = urlsplit(self._database.url).path[1:]
            with psycopg.connect(self._server, autocommit=True) as connection:
                connection.execute(f'DROP DATABASE "{name}_kept"')
            self._database.stop()


@pytest.fixture(scope="module")
def made(redis_url: str) -> Iterator[Installation]:
    with tempfile.TemporaryDirectory(prefix="gwtest-", dir="/tmp") as folder:
        installation = Installation(Path(folder), redis_url)
        yield installation
        installation.stop()


@pytest.fixture
def installation(made: Installation) -> Installation:
    made.put_back()
    return made


@pytest.fixture(scope="module")
def legacy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LegacyDatabase]:
    """The real thing: both families in one MariaDB, with all their mess."""
    with empty_database("mysql") as url:
        yield build(url, "both")


@pytest.fixture(scope="module")
def arguments(legacy: LegacyDatabase, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    files = legacy.key_files(tmp_path_factory.mktemp("keys"))
    keys = [argument for file in files for argument in ("--legacy-key-file", str(file))]
    return ["--source", legacy.url, *keys, "--batch-size", "5"]


@pytest.fixture(scope="module")
def undisturbed(made: Installation, arguments: list[str]) -> dict[str, Any]:
    """An import that nobody killed: what it left, and how many writes and commits it took."""
    made.put_back()
    said = made.run(*arguments, "--apply")
    return said | made.look()


@pytest.mark.parametrize("share", [0.02, 0.5, 1.0])
@pytest.mark.parametrize("what", ["write", "commit"])
def test_an_import_that_was_killed_ends_the_same_when_it_is_started_again(
    what, share, undisturbed, installation, arguments
):
    point = max(1, round(undisturbed[what] * share))
    assert installation.run(*arguments, "--apply", kill=(what, point)) == {"killed": 9}
    again = installation.run(*arguments, "--apply")
    found = installation.look()
    assert again["status"] == undisturbed["status"]
    assert found["registry"] == undisturbed["registry"]
    assert found["tampering"] == []
    killed, finished = [state for _, _, state in found["runs"]]
    assert killed == ("done" if (what, share) == ("commit", 1.0) else "interrupted")
    assert finished == "done"


@pytest.mark.slow
def test_an_import_that_was_killed_can_be_undone(undisturbed, installation, arguments):
    assert installation.run(*arguments, "--apply", kill=("commit", undisturbed["commit"] // 2)) == {"killed": 9}
    installation.run(*arguments, "--apply")
    for pk, _, _ in reversed(installation.look()["runs"]):
        assert installation.run("--undo", str(pk))["status"] == 0
    assert installation.look()["rows"] == 0


@pytest.mark.slow
def test_an_undoing_that_was_killed_ends_when_it_is_started_again(installation, arguments):
    installation.run(*arguments, "--apply")
    imported = str(installation.look()["runs"][0][0])
    undone = installation.run("--undo", imported)
    installation.put_back()
    installation.run(*arguments, "--apply")
    assert installation.run("--undo", imported, kill=("write", undone["write"] // 2)) == {"killed": 9}
    assert installation.look()["rows"] > 0
    assert installation.run("--undo", imported)["status"] == 0
    assert installation.look()["rows"] == 0


def test_two_imports_at_once_are_refused(undisturbed, installation, arguments, tmp_path):
    mark, middle = tmp_path / "held", undisturbed["write"] // 2
    asked = [*arguments, "--apply", "--no-progress"]
    installation.step(do="run", arguments=asked, hold=str(mark), at=["write", middle])
    while not mark.exists():
        time.sleep(0.01)
    second = installation.step(do="run", arguments=asked)
    mark.unlink()
    first = installation.step(do="join")
    assert second["status"] == 1
    assert "another import is running" in second["screen"]
    assert second["write"] == 0
    assert first["status"] == 2


@pytest.mark.slow
def test_the_exit_status_of_the_process_says_how_it_went(installation, arguments, legacy, tmp_path):
    report = tmp_path / "report.json"
    done = installation.manage("migrate_backoffice", *arguments, "--report", str(report))
    assert done.returncode == 2
    assert in_the_clear(legacy, done.stdout + done.stderr + report.read_text()) == []
    assert json.loads(report.read_text())
    assert installation.look()["rows"] == 0


@pytest.mark.slow
def test_a_source_that_refuses_the_login_is_told_in_a_sentence(installation):
    url = "mysql+pymysql://somebody:pass-word-of-it@127.0.0.1:3306/bo_admin"
    done = installation.manage("migrate_backoffice", "--source", url, "--apply")
    assert done.returncode == 1
    assert "pass-word-of-it" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_twenty_thousand_models_need_little_memory(installation, tmp_path):
    """The bound holds for any number: what grows with the source would have grown by here."""
    peaks = []
    for models in (2_000, 20_000):
        legacy = build(f"sqlite:///{tmp_path}/{models}.sqlite3", "gateway", messy=False)
        with closing(sqlite3.connect(tmp_path / f"{models}.sqlite3")) as connection, connection:
            connection.executemany(
                "INSERT INTO llm_models (model_id, provider_id, display_name, model_type, max_tokens, enabled,"
                " capabilities, parameters, created_at, updated_at)"
                " VALUES (?, 'openai-main', 'One of many', 'chat', 4096, 1, '[\"chat\"]', '{}', ?, ?)",
                ((f"m-{number}", "2024-01-01 00:00:00", "2024-01-01 00:00:00") for number in range(models)),
            )
        installation.put_back()
        said = installation.run("--source", legacy.url, *_keys(legacy, tmp_path), "--apply")
        assert said["status"] == 0
        assert installation.look()["rows"] == models + 11
        peaks.append(said["peak"])
    assert peaks[1] < LIMIT
    assert peaks[1] - peaks[0] < 60 * 1024 * 1024


def _keys(legacy: LegacyDatabase, folder: Path) -> list[str]:
    return [argument for file in legacy.key_files(folder) for argument in ("--legacy-key-file", str(file))]
