from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from django.conf import settings
from django.db import DatabaseError, connection
from django.utils import timezone

from providers import tasks
from providers.importers import lock, progress, runs
from providers.importers.drafts import SourceError
from providers.importers.options import Options
from providers.models import ImportFinding, ImportRecord, ImportRun, Provider
from providers.secrets import Secret, SecretError
from tests.providers.importers.scripted import WHOLE, Scripted, apply, check, dry_run, provider

pytestmark = pytest.mark.django_db
ROOT = Path(__file__).resolve().parents[3]
OPTIONS = Options(
    Secret("mysql+pymysql://u:mellon@db/bo"),
    legacy_keys=(Secret("a passphrase"), Secret("another")),
    environments=("production",),
    only=("p",),
    batch_size=7,
)


def queued(**more) -> ImportRun:
    return runs.start(ImportRun.Kind.APPLY, "scripted://here", actor="user:ada", for_worker=True, **more)


@contextmanager
def another_import():
    """Another process that holds the lock, as an import on another host would."""
    if connection.vendor == "postgresql":
        params = connection.get_connection_params()
        params = {name: value for name, value in params.items() if name not in {"cursor_factory", "context"}}
        with psycopg.connect(**params) as own:
            own.execute("SELECT pg_advisory_lock(%s)", [lock._NUMBER])
            yield
        with connection.cursor() as cursor:  # the server may notice a moment later that its client has gone
            cursor.execute("SELECT pg_advisory_lock(%s)", [lock._NUMBER])
            cursor.execute("SELECT pg_advisory_unlock(%s)", [lock._NUMBER])
        return
    code = "import fcntl, sys; f = open(sys.argv[1], 'a'); fcntl.flock(f, fcntl.LOCK_EX); print('held', flush=True); input()"
    command = [sys.executable, "-c", code, str(settings.DATA_DIR / ".import.lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        yield
        other.kill()


def test_a_run_tells_what_became_of_it():
    result = apply(*WHOLE)
    run = ImportRun.objects.get()
    assert (run.state, run.exit_status, run.actor) == ("done", 0, "user:ada")
    assert (run.source_label, run.source_identity, run.source_facts) == (
        "scripted://here",
        "scripted",
        {"engine": "script"},
    )
    assert run.tables == result.tables
    assert (run.notes, run.for_a_person) == (1, 0)
    assert run.started_at <= run.finished_at


def test_a_preview_leaves_not_even_a_run():
    assert dry_run(*WHOLE).run_pk is None
    assert not ImportRun.objects.exists()
    assert not ImportFinding.objects.exists()


def test_a_dry_run_with_a_run_leaves_its_findings_and_nothing_else():
    run = runs.start(ImportRun.Kind.DRY_RUN, "", actor="user:ada")
    assert runs.execute(run, lambda: Scripted(list(WHOLE))).exit_status == 0
    assert ImportFinding.objects.get().code == "created"
    assert not Provider.objects.exists()
    assert not ImportRecord.objects.exists()


def test_a_second_import_at_once_is_refused():
    with another_import():
        result = apply(*WHOLE)
    assert result.exit_status == 1
    assert "another import is running" in result.message
    assert not Provider.objects.exists()
    assert not ImportRun.objects.exists()


def test_of_a_worker_the_refused_run_is_written_down():
    run = queued()
    with another_import():
        runs.execute(run, lambda: Scripted(list(WHOLE)))
    assert ImportRun.objects.get().state == "failed"


def test_the_lock_goes_with_its_process():
    with another_import():
        pass
    assert apply(*WHOLE).exit_status == 0


def test_a_run_without_a_living_owner_is_marked_interrupted():
    run = queued()
    ImportRun.objects.filter(pk=run.pk).update(state="running")
    with another_import():
        assert runs.mark_interrupted() == 0
    assert runs.mark_interrupted() == 1
    run.refresh_from_db()
    assert (run.state, run.exit_status) == ("interrupted", 1)


def test_an_import_that_starts_finds_the_dead_ones_too():
    run = queued()
    ImportRun.objects.filter(pk=run.pk).update(state="running")
    apply(*WHOLE)
    run.refresh_from_db()
    assert run.state == "interrupted"


def test_a_run_is_done_once():
    run = queued()
    assert runs.execute(run, lambda: Scripted(list(WHOLE))).exit_status == 0
    again = runs.execute(run, lambda: Scripted([provider("q")]))
    assert (again.exit_status, again.message) == (1, f"Run {run.pk} was done already.")
    assert not Provider.objects.filter(provider_id="q").exists()


def test_what_was_done_stays_as_it_ended_for_whoever_comes_too_late():
    run = queued()
    late = ImportRun.objects.get(pk=run.pk)
    done = runs.execute(run, lambda: Scripted(list(WHOLE)))
    assert runs.execute(late, lambda: Scripted([provider("q")])).exit_status == 1
    run.refresh_from_db()
    assert (run.state, run.exit_status, run.message, run.tables) == ("done", 0, "", done.tables)


def test_what_another_process_is_doing_is_not_ended_by_whoever_finds_it_busy():
    run = queued()
    ImportRun.objects.filter(pk=run.pk).update(state="running")
    with another_import():
        assert runs.execute(run, lambda: Scripted(list(WHOLE))).busy
    run.refresh_from_db()
    assert (run.state, run.finished_at) == ("running", None)


def test_a_source_that_cannot_be_opened_is_told():
    def closed():
        raise SourceError("The server says no.")

    result = runs.execute(queued(), closed)
    assert (result.exit_status, result.message) == (1, "The server says no.")
    assert ImportRun.objects.get().message == "The server says no."


def test_a_failing_database_is_told_without_its_words():
    def broken(provider_id: str) -> None:
        raise DatabaseError("mellon")

    source = Scripted(list(WHOLE), before_models=broken)
    result = runs.execute(queued(), lambda: source)
    assert "mellon" not in repr(result)
    assert result.codes == {"failed": 1}


def test_being_stopped_is_written_down():
    def stopped(provider_id: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runs.execute(queued(), lambda: Scripted(list(WHOLE), before_models=stopped))
    assert ImportRun.objects.get().state == "interrupted"
    assert not Provider.objects.exists()
    assert apply(*WHOLE).exit_status == 0


def test_what_a_worker_needs_is_sealed():
    run = queued(options=OPTIONS)
    stored = ImportRun.objects.get(pk=run.pk)
    assert runs.options_of(stored) == OPTIONS
    assert "mellon" not in repr(stored.__dict__)
    assert "mellon" not in json.dumps(stored.options)
    with connection.cursor() as cursor:
        cursor.execute("SELECT sealed FROM providers_importrun")
        assert "mellon" not in cursor.fetchone()[0]


def test_a_run_of_the_command_seals_nothing():
    run = runs.start(ImportRun.Kind.APPLY, "x", actor="user:ada", options=OPTIONS)
    runs.execute(run, lambda: Scripted(list(WHOLE)))
    assert ImportRun.objects.get().sealed is None


def test_secrets_that_were_forgotten_are_asked_for_again():
    run = queued(options=OPTIONS)
    runs.forget_secrets(run)
    with pytest.raises(ValueError, match="ask for a new run"):
        runs.options_of(ImportRun.objects.get())


def test_secrets_are_forgotten_after_a_day():
    run = queued(options=OPTIONS)
    assert tasks.forget_import_secrets() == 0
    ImportRun.objects.update(created_at=timezone.now() - runs.SECRETS_KEPT - timedelta(minutes=1))
    assert tasks.forget_import_secrets() == 1
    run.refresh_from_db()
    assert run.sealed is None


def test_secrets_under_a_lost_key_are_a_secret_error():
    run = queued(options=OPTIONS)
    ImportRun.objects.filter(pk=run.pk).update(sealed="gw1.0000.AAAA")
    with pytest.raises(SecretError):
        runs.options_of(ImportRun.objects.get())


def test_other_processes_see_how_far_a_run_is(monkeypatch):
    monkeypatch.setattr(progress, "_TIMEOUT_SECONDS", 60.0)  # what Redis says too late is not told
    run = queued()
    meter = progress.Meter()
    meter.tell_of(run.pk)
    meter.total = 10
    meter.rows(4)
    meter.close()
    seen = runs.progress_of(run)
    assert (seen.rows, seen.total) == (4, 10)


def test_nothing_is_known_of_a_run_that_nobody_does():
    assert runs.progress_of(queued()) is None


def test_the_last_word_of_a_run_is_how_many_rows_it_read():
    heard = []
    result = runs.preview(lambda: Scripted(list(WHOLE)), progress=heard.append)
    assert heard[-1].rows == heard[-1].total == sum(table["rows"] for table in result.tables.values())


def test_runs_that_can_be_undone_are_told_newest_first():
    first = apply(*WHOLE).run_pk
    second = apply(*WHOLE, provider("q")).run_pk
    apply(*WHOLE, provider("q"))
    check(*WHOLE)
    assert [run.pk for run in runs.undoable()] == [second, first]


def test_a_worker_does_a_run_by_its_number(tmp_path):
    options = Options(Secret(f"sqlite:///{tmp_path}/mellon.sqlite3"))
    run = runs.start(ImportRun.Kind.APPLY, "x", actor="user:ada", options=options, for_worker=True)
    assert tasks.run_import(run.pk) == 1
    run.refresh_from_db()
    assert run.state == "failed"
    assert run.message


def test_a_worker_undoes_a_run_as_the_person_with_the_reason_given():
    first = ImportRun.objects.get(pk=apply(*WHOLE).run_pk)
    run = runs.start(ImportRun.Kind.UNDO, "x", actor="user:bob", undoes=first, for_worker=True)
    run.options["reason"] = "wrong database"
    run.save()
    assert tasks.run_import(run.pk) == 0
    from providers.models import AuditEntry

    entry = AuditEntry.objects.first()
    assert (entry.actor, entry.reason) == ("user:bob", "wrong database")


def test_a_run_delivered_twice_is_done_once():
    run = queued()
    ImportRun.objects.update(state="running")
    assert tasks.run_import(run.pk) is None
    assert tasks.run_import(0) is None


def test_a_worker_whose_credentials_were_forgotten_says_so():
    assert tasks.run_import(queued().pk) == 1
    assert "ask for a new run" in ImportRun.objects.get().message


def test_the_next_import_may_begin_as_soon_as_one_has_ended():
    for _ in range(50):
        with lock.alone():
            pass


def test_a_process_that_was_forked_during_an_import_keeps_no_other_out(monkeypatch):
    opened, copies = os.open, []

    def and_copied(*how):
        copies.append(os.dup(made := opened(*how)))
        return made

    monkeypatch.setattr(os, "open", and_copied)
    with lock.alone():
        pass
    try:
        with lock.alone():
            pass
    finally:
        for copy in copies:
            os.close(copy)
