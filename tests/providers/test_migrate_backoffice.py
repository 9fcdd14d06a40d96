from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from benchmarks import imports
from providers import audit
from providers.models import ImportRun, Provider, ProviderModel

pytestmark = pytest.mark.django_db
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def source(tmp_path, monkeypatch) -> str:
    """The address of a small legacy database without oddities."""
    monkeypatch.delenv("LEGACY_DATABASE_URL", raising=False)
    url = f"sqlite:///{tmp_path}/legacy.sqlite3"
    imports.fill(url, 100)
    return url


def run(*arguments: str) -> tuple[int, str]:
    screen = io.StringIO()
    try:
        call_command("migrate_backoffice", *arguments, stdout=screen, stderr=screen)
    except CommandError as error:
        return error.returncode, screen.getvalue() + str(error)
    except SystemExit as error:
        return int(error.code or 0), screen.getvalue()
    return 0, screen.getvalue()


def test_without_being_told_it_writes_nothing_and_says_what_to_do_next(source):
    status, screen = run("--source", source)
    assert status == 0
    assert "--apply" in screen
    assert not Provider.objects.exists()
    assert not ImportRun.objects.exists()


def test_it_imports_and_verifies_in_one_call(source):
    status, screen = run("--source", source, "--apply", "--verify")
    assert status == 0
    assert ProviderModel.objects.count() == 100
    assert "Both sides say the same." in screen


def test_each_of_two_runs_has_a_report_of_its_own(source, tmp_path):
    run("--source", source, "--apply", "--verify", "--report", str(tmp_path / "r.json"))
    assert {path.name for path in tmp_path.glob("r*.json")} == {"r.json", "r.verify.json"}


def test_the_source_may_stand_in_the_environment(source, monkeypatch):
    monkeypatch.setenv("LEGACY_DATABASE_URL", source)
    assert run("--apply")[0] == 0
    assert Provider.objects.exists()


def test_the_source_may_stand_in_a_file(source, monkeypatch, tmp_path):
    (tmp_path / "url").write_text(source + "\n")
    monkeypatch.setenv("LEGACY_DATABASE_URL_FILE", str(tmp_path / "url"))
    assert run("--apply")[0] == 0
    assert Provider.objects.exists()


def test_a_file_of_the_source_that_is_not_there_is_told(monkeypatch, tmp_path):
    monkeypatch.delenv("LEGACY_DATABASE_URL", raising=False)
    monkeypatch.setenv("LEGACY_DATABASE_URL_FILE", str(tmp_path / "absent"))
    status, screen = run("--apply")
    assert status == 1
    assert "absent" in screen


def test_runs_are_listed_with_how_to_undo_them(source):
    assert "No import" in run("--runs")[1]
    run("--source", source, "--apply")
    number = str(ImportRun.objects.get().pk)
    assert f"--undo {number}" in run("--runs")[1]
    assert run("--undo", number)[0] == 0
    assert not Provider.objects.exists()
    assert "undone" in run("--runs")[1]


@pytest.mark.parametrize(
    "arguments", [("--undo", "1", "--apply"), ("--runs", "--verify"), ("--apply", "--delta"), ("--undo", "1", "--runs")]
)
def test_what_contradicts_itself_is_refused(source, arguments):
    assert run("--source", source, *arguments)[0] == 1
    assert not Provider.objects.exists()


@pytest.mark.parametrize("size", ["0", "-1", "10001", "many", "²"])
def test_a_batch_has_a_sensible_size(source, size):
    assert run("--source", source, "--batch-size", size)[0] == 1


def test_an_option_that_is_none_fails_with_1_and_not_with_2(capsys):
    from django.core.management import ManagementUtility

    with pytest.raises(SystemExit) as left:
        ManagementUtility(["manage.py", "migrate_backoffice", "--bogus"]).execute()
    assert left.value.code == 1
    assert "--bogus" in capsys.readouterr().err


def test_the_help_teaches_each_step_and_the_exit_status(capsys):
    from providers.management.commands.migrate_backoffice import Command

    said = Command().create_parser("manage.py", "migrate_backoffice").format_help()
    for word in ("--apply", "--verify", "--delta", "--undo 3", "--smoke", "LEGACY_DATABASE_URL_FILE"):
        assert word in said
    assert re.search(r"exit status:\s+0 .*\n\s+2 .*\n\s+1 ", said)


def test_a_legacy_key_file_must_hold_a_key(source, tmp_path):
    (tmp_path / "empty").write_text("\n")
    status, screen = run("--source", source, "--legacy-key-file", str(tmp_path / "empty"))
    assert status == 1
    assert "empty" in screen


def test_stopped_from_the_keyboard_it_says_so_and_leaves_no_run_running(source, monkeypatch):
    def pressed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(audit, "record", pressed)
    status, screen = run("--source", source, "--apply")
    assert (status, "Stopped." in screen) == (1, True)
    assert ImportRun.objects.get().state == ImportRun.State.INTERRUPTED
    monkeypatch.undo()
    assert run("--source", source, "--apply")[0] == 0


@pytest.mark.slow
def test_a_database_that_does_not_answer_is_a_sentence(source, tmp_path):
    asked = [sys.executable, "manage.py", "migrate_backoffice", "--source", source]
    environment = os.environ | {"DATABASE_URL": "postgresql://gateway:pass-word-of-it@127.0.0.1:1/gateway"}
    done = subprocess.run(asked, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "The gateway's database failed (OperationalError)" in done.stderr
    assert "Traceback" not in done.stderr
    assert "pass-word-of-it" not in done.stderr
