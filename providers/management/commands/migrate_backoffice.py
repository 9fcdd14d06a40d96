"""`manage.py migrate_backoffice`: bring the legacy backoffice's providers, models, keys and parameters over, provably."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from django.conf import settings
from django.core.management.base import CommandError, CommandParser
from django.utils import timezone
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from providers.importers import backoffice, runs, screen, smoke
from providers.importers.options import LARGEST_BATCH, Options
from providers.importers.report import ReportFile
from providers.importers.runs import ALL_WELL, FAILED, FOR_A_PERSON, Kind, Progress, Result
from providers.management.teaching import TeachingCommand
from providers.models import ImportRun
from providers.secrets import Secret

ACTOR = "command:migrate_backoffice"
SOURCE_VARIABLE = "LEGACY_DATABASE_URL"
_WIDTH_WITHOUT_A_TERMINAL = 160

STEPS = f"""
step by step:
  1. See what would happen. Nothing is written, neither here nor in the source:
       manage.py migrate_backoffice --source mysql+pymysql://reader@db.example/bo_admin --legacy-key-file old.key
     The URL may stand in {SOURCE_VARIABLE} instead, or in the file that {SOURCE_VARIABLE}_FILE names, so that its
     password is in no list of processes.
  2. Do it. Killed at any point and started again, it ends with the same result:
       manage.py migrate_backoffice --source ... --legacy-key-file old.key --apply --report import.json
  3. Prove it, value by value, secrets included:
       manage.py migrate_backoffice --source ... --legacy-key-file old.key --verify
  4. Ask every imported provider for an answer, which they bill:
       manage.py migrate_backoffice --smoke
  5. While both sides run, bring over what changed since, as often as needed:
       manage.py migrate_backoffice --source ... --legacy-key-file old.key --delta
  6. Take an import back; edits made since stay and are named:
       manage.py migrate_backoffice --runs
       manage.py migrate_backoffice --undo 3

exit status:
  0  all well
  2  done, and some rows need a person (findings of level `person`, or differences that --verify found)
  1  failed; the last line says why, and no provider is left half-done

docs/import-report.md describes the report and every reason code.
"""


class Command(TeachingCommand):
    help = (
        "Bring providers, models, keys and parameters over from the legacy backoffice (MySQL, MariaDB, PostgreSQL or SQLite, "
        "all generations of its tables). Without --apply it only says what it would do."
    )

    examples = STEPS

    def add_arguments(self, parser: CommandParser) -> None:
        what = parser.add_argument_group("what to do (without any of these: a dry run)")
        what.add_argument("--apply", action="store_true", help="Write what the dry run shows.")
        what.add_argument(
            "--delta", action="store_true", help="Write only what changed in the source since the last import."
        )
        what.add_argument(
            "--verify", action="store_true", help="Read both sides again and compare every value; may follow --apply."
        )
        what.add_argument("--undo", metavar="RUN", type=int, help="Restore what that run changed; needs no source.")
        what.add_argument("--runs", action="store_true", help="List the runs, and which of them can be undone.")
        what.add_argument(
            "--smoke",
            action="store_true",
            help=f"Send `{smoke.PROMPT}` through each imported provider, afterwards or alone. {smoke.COSTS_MONEY}",
        )
        what.add_argument("--all", action="store_true", help="With --smoke: every provider, imported or not.")
        source = parser.add_argument_group("the source")
        source.add_argument(
            "--source",
            metavar="URL",
            help="mysql+pymysql://, postgresql+psycopg:// or sqlite:///, opened for reading only. "
            f"Default: {SOURCE_VARIABLE}.",
        )
        source.add_argument(
            "--legacy-key-file",
            metavar="FILE",
            action="append",
            type=Path,
            default=[],
            help="A file of Fernet keys or passphrases of the legacy system, one to a line; may be given several times.",
        )
        source.add_argument(
            "--naive-timezone", metavar="ZONE", default="UTC", help="Zone of times that name none (UTC)."
        )
        source.add_argument(
            "--environment",
            action="append",
            default=[],
            help="Import keys and parameters of this environment only; may be given several times.",
        )
        source.add_argument(
            "--only", metavar="PROVIDER", action="append", default=[], help="Import this provider only; repeatable."
        )
        how = parser.add_argument_group("how")
        how.add_argument("--report", metavar="FILE", type=Path, help="Write everything that was found as JSON.")
        how.add_argument(
            "--batch-size", metavar="N", type=_batch_size, default=1000, help="Rows read and written at a time (1000)."
        )
        how.add_argument("--no-progress", action="store_true", help="No progress bar, not even on a terminal.")

    def handle(self, *args: Any, **asked: Any) -> None:
        try:
            self._do(asked)
        except KeyboardInterrupt:
            message = "Stopped. What was finished is kept; started again, it ends with the same result."
            raise CommandError(message, returncode=FAILED) from None

    def _do(self, asked: dict[str, Any]) -> None:
        self._asked = asked
        self._console = self._screen()
        self._refuse_contradictions()
        if asked["runs"]:
            runs.mark_interrupted()
            screen.show_runs(self._console, ImportRun.objects.all()[:50], runs.undoable())
            return
        if asked["undo"] is not None:
            self._leave(self._undo(asked["undo"]))
        options = self._options()
        if options is None:
            self._leave(self._smoke_alone())
        kinds = [kind for kind in (self._writing(), Kind.VERIFY if asked["verify"] else None) if kind]
        status = ALL_WELL
        for number, kind in enumerate(kinds or [Kind.DRY_RUN]):
            status = _worse(status, self._run(kind, options, is_last=number + 1 >= len(kinds), first=number == 0))
            if status == FAILED:
                break
        self._leave(status)

    # --- What was asked for -------------------------------------------------------------------------------------------

    def _refuse_contradictions(self) -> None:
        asked = self._asked
        alone = [name for name in ("undo", "runs") if asked[name] not in (None, False)]
        others = [name for name in ("apply", "delta", "verify", "smoke") if asked[name]]
        if (alone and others) or len(alone) > 1:
            raise CommandError(f"--{alone[0]} stands alone, without --{(alone[1:] + others)[0]}.")
        if asked["all"] and not asked["smoke"]:
            raise CommandError("--all says whom --smoke asks; it needs --smoke.")
        if asked["apply"] and asked["delta"]:
            raise CommandError("--delta writes what changed, --apply compares everything: choose one of them.")

    def _writing(self) -> str | None:
        if self._asked["delta"]:
            return Kind.DELTA
        return Kind.APPLY if self._asked["apply"] else None

    def _options(self) -> Options | None:
        """None when nothing but --smoke was asked for, which needs no source."""
        url = self._asked["source"] or _from_environment()
        if not url:
            if self._asked["smoke"] and not (self._asked["verify"] or self._writing()):
                return None
            raise CommandError(
                f"Say where the legacy database is: --source URL, or {SOURCE_VARIABLE} in the environment."
            )
        return Options(
            source_url=Secret(url),
            legacy_keys=tuple(key for path in self._asked["legacy_key_file"] for key in _keys_in(path)),
            naive_timezone=self._asked["naive_timezone"],
            environments=tuple(self._asked["environment"]),
            only=tuple(self._asked["only"]),
            batch_size=self._asked["batch_size"],
        )

    # --- Doing it -----------------------------------------------------------------------------------------------------

    def _run(self, kind: str, options: Options, *, is_last: bool, first: bool) -> int:
        def open_source() -> backoffice.Backoffice:
            return backoffice.open(options, default_environment=settings.GATEWAY_ENVIRONMENT, now=timezone.now())

        asked_smoke = self._asked["smoke"] and is_last and kind != Kind.DRY_RUN
        smoked: list[int] = []

        def afterwards(result: Result) -> Mapping[str, Any]:
            if not asked_smoke or result.exit_status == FAILED:
                return {}
            answers = self._smoke()
            smoked.append(smoke.exit_status(answers))
            return {"smoke": smoke.report(answers)}

        report = self._report(kind, first)
        with self._bar() as progress:
            if kind == Kind.DRY_RUN:
                result = runs.preview(open_source, options=options, report=report, progress=progress)
            else:
                run = runs.start(kind, "the legacy backoffice", actor=ACTOR, options=options)
                result = runs.execute(run, open_source, report=report, progress=progress, afterwards=afterwards)
        return _worse(self._show(result), *smoked)

    def _undo(self, number: int) -> int:
        undoes = ImportRun.objects.filter(pk=number).first()
        if undoes is None:
            raise CommandError(f"There is no run {number}; --runs lists them.")
        run = runs.start(Kind.UNDO, undoes.source_label, actor=ACTOR, undoes=undoes)
        with self._bar() as progress:
            result = runs.undo(run, report=self._asked["report"], progress=progress)
        return self._show(result)

    def _show(self, result: Result) -> int:
        if result.exit_status != FAILED or result.tables:
            screen.show(self._console, result)
        if result.exit_status == FAILED:
            raise CommandError(result.message, returncode=FAILED)
        return result.exit_status

    def _smoke_alone(self) -> int:
        report = self._asked["report"]
        try:
            file = ReportFile(report) if report else None
        except OSError as error:
            raise CommandError(f"The report cannot be written: {error.strerror}.") from error
        try:
            answers = self._smoke()
        except BaseException:
            if file:
                file.discard()
            raise
        status = smoke.exit_status(answers)
        if file:
            facts = {"run": None, "kind": "smoke", "exit_status": status, "smoke": smoke.report(answers)}
            file.write(facts, None)
        return status

    def _smoke(self) -> list[smoke.Result]:
        self._console.print(smoke.COSTS_MONEY)
        try:
            answers = smoke.run(only=self._asked["only"], every=self._asked["all"])
        except smoke.CannotRun as error:
            raise CommandError(str(error)) from error
        screen.show_smoke(self._console, answers)
        return answers

    # --- Screen and report --------------------------------------------------------------------------------------------

    def _screen(self) -> Console:
        out = self.stdout._out
        return Console(
            file=out,
            width=None if out.isatty() else _WIDTH_WITHOUT_A_TERMINAL,
            no_color=self._asked["no_color"],
            highlight=False,
        )

    def _report(self, kind: str, first: bool) -> Path | None:
        """Of two runs in one call the second gets a file of its own: `import.verify.json`."""
        path: Path | None = self._asked["report"]
        return path if path is None or first else path.with_suffix(f".{kind}{path.suffix}")

    @contextlib.contextmanager
    def _bar(self) -> Iterator[Callable[[Progress], None] | None]:
        err = self.stderr._out
        if self._asked["no_progress"] or not err.isatty():
            yield None
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:,.0f} rows/s"),
            TimeRemainingColumn(),
        )
        with Bar(*columns, console=Console(file=err), transient=True) as bar:
            task = bar.add_task("Reading", total=None, rate=0)

            def show(progress: Progress) -> None:
                bar.update(
                    task,
                    completed=progress.rows,
                    total=progress.total or None,
                    rate=progress.rows_per_second,
                    description="Reading",
                )

            yield show

    def _leave(self, status: int) -> NoReturn:
        raise SystemExit(status)


def _worse(*statuses: int) -> int:
    for status in (FAILED, FOR_A_PERSON):
        if status in statuses:
            return status
    return ALL_WELL


def _batch_size(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= LARGEST_BATCH:
        raise argparse.ArgumentTypeError(f"a whole number from 1 to {LARGEST_BATCH} is needed")
    return int(text)


def _keys_in(path: Path) -> list[Secret]:
    """One to a line; blanks may be part of a passphrase."""
    try:
        keys = [Secret(line) for line in path.read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise CommandError(f"The legacy key file {path} cannot be read: {reason}.") from error
    if not keys:
        raise CommandError(f"The legacy key file {path} is empty.")
    return keys


def _from_environment() -> str:
    url = os.environ.get(SOURCE_VARIABLE, "").strip()
    path = os.environ.get(f"{SOURCE_VARIABLE}_FILE", "")
    if url or not path:
        return url
    try:
        return Path(path).read_text().strip()
    except OSError as error:
        raise CommandError(f"{SOURCE_VARIABLE}_FILE names {path}, which cannot be read: {error.strerror}.") from error
