"""Imports as runs: ask for one, do it, watch it, undo it. What command, admin and worker share.

A run is done by one process at a time in the whole installation (`lock`). Its expected failures, such as a source that does
not answer, end in its state and its result and are not raised.
"""

from __future__ import annotations

import contextlib
import gc
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from django.db import DatabaseError, InterfaceError, transaction
from django.db.models import Exists, OuterRef, QuerySet
from django.utils import timezone

from providers import actor as acting
from providers import config_sections
from providers.importers import lock, progress, rows, verify
from providers.importers.apply import Import
from providers.importers.drafts import Source, SourceError
from providers.importers.findings import Finding
from providers.importers.options import Options
from providers.importers.progress import Progress
from providers.importers.report import ReportFile
from providers.importers.tally import Tally
from providers.importers.undo import Undo
from providers.models import ImportFinding, ImportRecord, ImportRun, SectionRecord
from providers.secrets import Secret, SecretError

__all__ = [
    "Prefer",
    "Progress",
    "Refused",
    "Result",
    "execute",
    "forget_old_secrets",
    "forget_secrets",
    "mark_interrupted",
    "options_of",
    "preview",
    "progress_of",
    "start",
    "undo",
    "undoable",
]

Prefer = Literal["registry", "source"]
"""Whose value stays when both sides changed or the row was made by hand here."""

Kind, State = ImportRun.Kind, ImportRun.State
ALL_WELL, FAILED, FOR_A_PERSON = 0, 1, 2
SECRETS_KEPT = timedelta(days=1)
"""How long a worker's run keeps source URL and legacy keys, so that an apply can follow a dry run and a verify the apply."""

RESTRICTED = "restricted"
"""In a run's options: whoever wants it may not handle secrets, so `providers.holding` watches over what it writes."""

_FINDINGS_AT_ONCE = 1000
_ALLOCATIONS = 100_000
"""Between two collections, instead of 700."""
_ENDING = ("state", "exit_status", "message", "finished_at", "tables", "source_facts", "for_a_person", "notes")
_FINDING = ("run_id", "table", "key", "field", "code", "level", "did", "detail", "changes")


class Refused(Exception):
    """The run must not be done; the text says why and what to do instead."""


@dataclass(frozen=True, slots=True)
class Result:
    """How a run ended. `exit_status`: 0 all well, 2 some rows need a person, 1 failed, with `message` saying why."""

    kind: str
    exit_status: int
    message: str
    source_label: str
    source_facts: Mapping[str, Any] = field(default_factory=dict)
    tables: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Per source table: rows, imported, merged, rejected, left_out; and of the imported and rejected ones created,
    updated, unchanged, kept, conflicts."""
    codes: Mapping[str, int] = field(default_factory=dict)
    """How many findings there are of each code."""
    examples: Mapping[str, tuple[Finding, ...]] = field(default_factory=dict)
    """The first findings of each code."""
    run_pk: int | None = None
    seconds: float = 0.0
    busy: bool = False
    """It failed because another import was running: a moment later it may not."""


def start(
    kind: str,
    label: str,
    *,
    actor: str,
    options: Options | None = None,
    undoes: ImportRun | None = None,
    for_worker: bool = False,
) -> ImportRun:
    """Say that a run is wanted. `for_worker` writes it down as queued, source URL and legacy keys sealed into it.

    Otherwise whoever does it writes it down, once it is sure that no other import is running.
    """
    run = ImportRun(kind=kind, source_label=label[:500], actor=actor[:255], undoes=undoes)
    if options is not None:
        run.options = options.shown()
    if not acting.current().may_handle_secrets():
        run.options = {**run.options, RESTRICTED: True}
    if undoes is not None:
        run.source_identity, run.source_facts = undoes.source_identity, undoes.source_facts
    if options is not None and for_worker:
        secrets = {
            "source_url": options.source_url.reveal(),
            "legacy_keys": [key.reveal() for key in options.legacy_keys],
        }
        run.sealed = Secret(json.dumps(secrets))
    if for_worker:
        run.save()
    return run


def execute(
    run: ImportRun,
    open_source: Callable[[], Source],
    *,
    prefer: Prefer = "registry",
    report: Path | None = None,
    progress: Callable[[Progress], None] | None = None,
    afterwards: Callable[[Result], Mapping[str, Any]] | None = None,
) -> Result:
    """Do a dry run, apply, delta or verify; `open_source` may raise `SourceError`, and its source is closed.

    `afterwards` is called once the run has ended; what it returns stands in the report beside the run.
    """
    work = _Work(run.kind, run, run.options, run.source_label, progress)
    return work.do(lambda: work.walk(open_source, prefer), report, afterwards)


def preview(
    open_source: Callable[[], Source],
    *,
    options: Options | None = None,
    prefer: Prefer = "registry",
    report: Path | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Result:
    """A dry run that leaves not even a run behind."""
    work = _Work(Kind.DRY_RUN, None, options.shown() if options else {}, "", progress)
    return work.do(lambda: work.walk(open_source, prefer), report)


def undo(
    run: ImportRun,
    *,
    report: Path | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Result:
    """Do a run of kind UNDO: restore what `run.undoes` changed. Again after a kill it finishes."""
    work = _Work(run.kind, run, run.options, run.source_label, progress)
    return work.do(work.take_back, report)


def options_of(run: ImportRun) -> Options:
    """The options of a queued run, its sealed secrets opened. Raises `SecretError`, or `ValueError` when they are gone."""
    if run.sealed is None:
        raise ValueError("The source's address and keys were forgotten: ask for a new run.")
    secrets = json.loads(run.sealed.reveal())
    shown = run.options
    return Options(
        source_url=Secret(secrets["source_url"]),
        legacy_keys=tuple(Secret(key) for key in secrets["legacy_keys"]),
        naive_timezone=shown.get("naive_timezone", "UTC"),
        environments=tuple(shown.get("environments", ())),
        only=tuple(shown.get("only", ())),
        batch_size=shown.get("batch_size", 1000),
    )


def forget_secrets(run: ImportRun) -> None:
    """Source URL and legacy keys are no longer needed."""
    run.sealed = None
    ImportRun.objects.filter(pk=run.pk).update(sealed=None)


def forget_old_secrets() -> int:
    """Those of runs that ended longer than `SECRETS_KEPT` ago, or were never begun; returns of how many."""
    old = ImportRun.objects.filter(created_at__lt=timezone.now() - SECRETS_KEPT).exclude(sealed=None)
    return old.exclude(state=State.RUNNING).update(sealed=None)


def progress_of(run: ImportRun) -> Progress | None:
    """How far a running run is, from whichever process does it; None when nothing is known."""
    return progress.of(run.pk)


def mark_interrupted() -> int:
    """Runs that say they are running while no process does one are marked so; returns how many."""
    try:
        with lock.alone():
            return _mark_interrupted()
    except lock.Busy:
        return 0


@contextlib.contextmanager
def _few_collections() -> Iterator[None]:
    """Millions of rows are made and dropped, in no cycles: looking for some took a third of an import's time."""
    usual = gc.get_threshold()
    gc.set_threshold(_ALLOCATIONS, *usual[1:])
    try:
        yield
    finally:
        gc.set_threshold(*usual)


def undoable() -> list[ImportRun]:
    """Runs that `undo` may take back, the newest first: only the first one now, the others after those before them."""
    return list(_with_effect().order_by("-id"))


def _with_effect() -> QuerySet[ImportRun]:
    """Runs that left something and were not undone, nor are under way."""
    records = ImportRecord.objects.filter(run=OuterRef("pk"))
    of_sections = SectionRecord.objects.filter(run=OuterRef("pk"))
    runs = ImportRun.objects.filter(kind__in=[Kind.APPLY, Kind.DELTA], undone_at=None)
    return runs.exclude(state__in=[State.QUEUED, State.RUNNING]).filter(Exists(records) | Exists(of_sections))


def _mark_interrupted() -> int:
    """Whoever holds the lock knows that no other run has a living owner."""
    return ImportRun.objects.filter(state=State.RUNNING).update(
        state=State.INTERRUPTED,
        finished_at=timezone.now(),
        exit_status=FAILED,
        message="Its process ended before it did. Start it again: it finishes with the same result.",
    )


class _Work:
    """One run being done."""

    def __init__(
        self,
        kind: str,
        run: ImportRun | None,
        options: Mapping[str, Any],
        label: str,
        heard: Callable[[Progress], None] | None,
    ) -> None:
        self._kind, self._run, self._options, self._label = kind, run, options, label
        self._meter = progress.Meter(heard)
        if run is not None and run.pk is not None:
            self._meter.tell_of(run.pk)
        self._tally = Tally(self._meter.rows)
        self._facts: Mapping[str, Any] = run.source_facts if run else {}
        self._flushed = 0
        self._still_held: Callable[[], None] = lambda: None
        self._note = ""
        self._is_ours = False

    def do(
        self,
        work: Callable[[], None],
        report: Path | None,
        afterwards: Callable[[Result], Mapping[str, Any]] | None = None,
    ) -> Result:
        began, started_at = time.monotonic(), timezone.now()
        file: ReportFile | None = None
        status, message, busy = FAILED, "", False
        try:
            file = ReportFile(report) if report else None
            with self._acting(), _few_collections():
                work()
            status, message = self._judge()
        except (lock.Busy, lock.LockLost, Refused, SourceError, SecretError) as error:
            message, busy = str(error), isinstance(error, lock.Busy)
        except (DatabaseError, InterfaceError) as error:
            message = (
                f"The gateway's database failed ({type(error).__name__}); what was finished before is kept. "
                "Is it running, and did `manage.py migrate` prepare it?"
            )
        except OSError as error:
            message = f"{'The report cannot be written: ' if report and file is None else ''}{error.strerror}."
        except BaseException:
            self._end(FAILED, "It was stopped. Start it again: it finishes with the same result.", State.INTERRUPTED)
            self._tally.findings.close()
            if file:
                file.discard()
            raise
        self._end(status, message, State.FAILED if status == FAILED else State.DONE)
        result = replace(self._result(status, message, time.monotonic() - began), busy=busy)
        more: Mapping[str, Any] = {}
        try:
            more = afterwards(result) if afterwards else {}
        finally:  # what was done is reported, whatever becomes of what follows it
            if file:
                result = self._written(file, result, self._report(result, started_at.isoformat()) | dict(more))
            self._tally.findings.close()
        return result

    def _written(self, file: ReportFile, result: Result, facts: Mapping[str, Any]) -> Result:
        """The import is over by now, so a full disk must not look as if it were not."""
        try:
            file.write(facts, self._tally.findings)
        except OSError as error:
            file.discard()
            message = f"{result.message} What the run did is kept, but its report cannot be written: {error.strerror}."
            return replace(result, exit_status=FAILED, message=message.strip())
        return result

    def _acting(self) -> contextlib.AbstractContextManager:
        if self._run is None or not self._run.actor:
            return contextlib.nullcontext()
        trusted = not self._options.get(RESTRICTED)
        return acting.acting_as(
            self._run.actor, reason=str(self._options.get("reason", "")), may_handle_secrets=lambda: trusted
        )

    def walk(self, open_source: Callable[[], Source], prefer: Prefer) -> None:
        with self._alone():
            self._refuse_after_half_an_undo()
            self._claim()
            with contextlib.closing(open_source()) as source:
                self._know(source)
                self._walk(source, prefer)
                self._facts = dict(source.facts)

    def _walk(self, source: Source, prefer: Prefer) -> None:
        whole = not (self._options.get("only") or self._options.get("environments"))
        hooks = {"before_each": self._still_held, "after_each": self._after_each}
        if self._kind == Kind.VERIFY:
            verify.Comparison(source, self._tally, whole=whole, **hooks).walk()  # type: ignore[arg-type]
            return
        Import(
            source,
            self._tally,
            run=None if self._kind == Kind.DRY_RUN else self._run,
            source_wins=prefer == "source",
            delta=self._kind == Kind.DELTA,
            whole=whole,
            now=timezone.now(),
            **hooks,  # type: ignore[arg-type]
        ).walk()

    def take_back(self) -> None:
        assert self._run is not None
        with self._alone():
            undone = self._undoable()
            if undone is None:
                self._claim()
                return
            self._claim()
            self._meter.total = undone.records.count()
            self._take_back_sections(undone)
            Undo(undone, self._tally, before_each=self._still_held, after_each=self._after_each).walk()
            undone.undone_at = timezone.now()
            undone.save(update_fields=["undone_at"])

    def _take_back_sections(self, undone: ImportRun) -> None:
        """Before the providers: what belongs to them may hang on them."""
        done, said = config_sections.undo(undone)
        for finding in said:
            self._tally.findings.add(finding)
        if done:
            self._note = f"{done} policies, prices or settings are as they were."

    def _undoable(self) -> ImportRun | None:
        """Raises `Refused`; None when there is nothing left to do."""
        assert self._run is not None
        run = self._run.undoes
        if run is None or run.kind not in {Kind.APPLY, Kind.DELTA}:
            raise Refused("Only an apply or a delta can be undone; see `migrate_backoffice --runs`.")
        if run.undone_at is not None:
            self._note = f"Run {run.pk} is undone already."
            return None
        if run.state == State.QUEUED:
            raise Refused(f"Run {run.pk} has not begun yet.")
        later = list(_with_effect().filter(pk__gt=run.pk).order_by("-pk").values_list("pk", flat=True))
        if later:
            raise Refused(
                f"Later imports stand on run {run.pk}. Undo them first, in this order: {', '.join(map(str, later))}."
            )
        return run

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        with lock.alone() as self._still_held:
            _mark_interrupted()
            yield

    def _refuse_after_half_an_undo(self) -> None:
        if self._kind not in {Kind.APPLY, Kind.DELTA}:
            return
        half = ImportRun.objects.filter(
            kind=Kind.UNDO,
            state__in=[State.INTERRUPTED, State.FAILED],
            started_at__isnull=False,
            undoes__isnull=False,
            undoes__undone_at=None,
        ).first()
        if half is not None:
            raise Refused(
                f"The undoing of run {half.undoes_id} was interrupted. Finish it first: --undo {half.undoes_id}."
            )

    def _claim(self) -> None:
        if self._run is None:
            return
        now = timezone.now()
        if self._run.pk is None:
            self._run.state, self._run.started_at = State.RUNNING, now
            self._run.save(force_insert=True)
            self._is_ours = True
            self._meter.tell_of(self._run.pk)
            return
        queued = ImportRun.objects.filter(pk=self._run.pk, state=State.QUEUED)
        if not queued.update(state=State.RUNNING, started_at=now):
            raise Refused(f"Run {self._run.pk} was done already.")
        self._run.state, self._run.started_at = State.RUNNING, now
        self._is_ours = True

    def _know(self, source: Source) -> None:
        self._meter.total = sum(source.rows.values())
        self._label, self._facts = source.label, dict(source.facts)
        if self._run is not None:
            self._run.source_label, self._run.source_identity = source.label[:500], source.identity
            self._run.source_facts = self._facts
            self._run.save(update_fields=["source_label", "source_identity", "source_facts"])

    def _after_each(self, provider_id: str) -> None:
        self._meter.done_with(provider_id)
        self._flush()

    def _flush(self) -> None:
        """Copy the findings that are new into the database."""
        if self._run is None:
            return
        some: list[tuple] = []
        for position, finding in self._tally.findings.since(self._flushed):
            some.append(_row(self._run.pk, finding))
            self._flushed = position
            if len(some) >= _FINDINGS_AT_ONCE:
                rows.insert_values(ImportFinding, _FINDING, some)
                some = []
        if some:
            rows.insert_values(ImportFinding, _FINDING, some)

    def _judge(self) -> tuple[int, str]:
        if unaccounted := self._tally.unaccounted():
            return (
                FAILED,
                f"Not every source row is accounted for ({'; '.join(unaccounted)}). This is a fault: report it.",
            )
        findings = self._tally.findings
        if self._kind == Kind.VERIFY:
            differences = sum(findings.counts[code] for code in verify.DIFFERENCES)
            if differences:
                return FOR_A_PERSON, f"{differences:,} differences."
            return ALL_WELL, "Both sides say the same."
        if findings.for_a_person:
            return FOR_A_PERSON, f"{findings.for_a_person:,} findings need a person."
        return ALL_WELL, self._note

    def _end(self, status: int, message: str, state: str) -> None:
        self._meter.close()
        if self._run is None or self._run.pk is None:
            return
        if not self._is_ours:
            self._end_what_waits(status, message, state)
            return
        with contextlib.suppress(DatabaseError, InterfaceError, OSError), transaction.atomic():
            self._flush()
        with contextlib.suppress(DatabaseError, InterfaceError), transaction.atomic():
            findings = self._tally.findings
            run = self._run
            run.state, run.exit_status, run.message = state, status, message
            run.finished_at, run.tables = timezone.now(), self._tally.as_dict()
            run.source_facts = dict(self._facts)
            run.for_a_person, run.notes = findings.for_a_person, len(findings) - findings.for_a_person
            # Without what others may change meanwhile: the secrets are forgotten, the run is undone.
            run.save(update_fields=_ENDING)

    def _end_what_waits(self, status: int, message: str, state: str) -> None:
        """A run that was never begun here: another process may be doing it, or have done it, and its word stands."""
        ending = {"state": state, "exit_status": status, "message": message, "finished_at": timezone.now()}
        with contextlib.suppress(DatabaseError, InterfaceError), transaction.atomic():
            ImportRun.objects.filter(pk=self._run.pk, state=State.QUEUED).update(**ending)

    def _result(self, status: int, message: str, seconds: float) -> Result:
        findings = self._tally.findings
        return Result(
            kind=self._kind,
            exit_status=status,
            message=message,
            source_label=self._label,
            source_facts=self._facts,
            tables=self._tally.as_dict(),
            codes=dict(findings.counts),
            examples={code: tuple(some) for code, some in findings.examples.items()},
            run_pk=self._run.pk if self._run else None,
            seconds=seconds,
        )

    def _report(self, result: Result, started_at: str) -> dict[str, Any]:
        return {
            "run": result.run_pk,
            "undoes": self._run.undoes_id if self._run else None,
            "kind": str(result.kind),
            "exit_status": result.exit_status,
            "message": result.message,
            "started_at": started_at,
            "seconds": round(result.seconds, 3),
            "source": {"label": result.source_label, "facts": dict(result.source_facts)},
            "options": dict(self._options),
            "tables": result.tables,
            "codes": result.codes,
        }


def _row(run_pk: int, finding: dict[str, Any]) -> tuple:
    return (
        run_pk,
        finding["table"][:64],
        finding["key"][:600],
        finding["field"][:255],
        finding["code"],
        finding["level"],
        finding["did"][:32],
        finding["detail"],
        rows.json_text(finding.get("changes")),
    )
