"""What an import run comes to, for people: its verdict, its tables, and its findings by reason."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.core.cache import cache
from django.db.models import Count
from django.utils import timezone

from providers.import_runs import ImportFinding, ImportRun
from providers.importers.findings import CODES, Level
from providers.importers.runs import Progress

EXAMPLES = 3
FINDINGS_PER_PAGE = 50
KEPT_SECONDS = 3600
"""How long the counts of a run that is over are kept; they do not change any more."""
WAITING_IS_ODD_SECONDS = 15

OUTCOMES = {"imported": "Imported", "merged": "Merged", "rejected": "Rejected", "left_out": "Left out"}
"""What a source row becomes; their sum is the rows that were read."""
_OTHERWISE = {
    ImportRun.Kind.VERIFY: {"imported": "Equal", "rejected": "Rejected or different"},
    ImportRun.Kind.UNDO: {"imported": "Taken back", "rejected": "Kept"},
}
"""What runs that bring nothing call them."""
_SPOTLESS = {
    ImportRun.Kind.VERIFY: "Both sides say the same.",
    ImportRun.Kind.UNDO: "Everything that the run did was taken back.",
}
DETAILS = {
    "created": "Created",
    "updated": "Updated",
    "unchanged": "Unchanged",
    "kept": "Kept",
    "conflicts": "Conflicts",
    "deleted": "Deleted",
}
"""What the imported and rejected ones meant for the registry."""
_ALWAYS = {"created", "updated", "unchanged"}
_WRITING = {ImportRun.Kind.DRY_RUN, ImportRun.Kind.APPLY, ImportRun.Kind.DELTA}
TITLES = {
    ImportRun.Kind.DRY_RUN: "Plan",
    ImportRun.Kind.APPLY: "Import",
    ImportRun.Kind.DELTA: "Later changes",
    ImportRun.Kind.VERIFY: "Verification",
    ImportRun.Kind.UNDO: "Undo",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """`tone` is good, warn, bad or empty."""

    word: str
    tone: str
    why: str
    since: datetime


@dataclass(frozen=True, slots=True)
class TableRow:
    """`outcomes` and `details` are counts in the order of `OUTCOMES` and of the run's own details."""

    name: str
    rows: int
    outcomes: list[int]
    details: list[int]

    @property
    def adds_up(self) -> bool:
        return sum(self.outcomes) == self.rows


@dataclass(frozen=True, slots=True)
class Group:
    """The findings of one reason."""

    code: str
    level: str
    count: int
    meaning: str
    examples: list[dict[str, Any]]

    @property
    def needs_a_person(self) -> bool:
        return self.level == Level.PERSON


def title_of(run: ImportRun) -> str:
    return f"{TITLES.get(ImportRun.Kind(run.kind), run.kind)} {run.pk}"


def verdict(run: ImportRun, now: datetime | None = None) -> Verdict:
    """The state in two words, with the reason and since when."""
    now = now or timezone.now()
    if run.state == run.State.QUEUED:
        waited = (now - run.created_at).total_seconds()
        why = "Waiting for a worker."
        if waited > WAITING_IS_ODD_SECONDS:
            why += " None has taken it yet: is one running?"
        return Verdict("queued", "", why, run.created_at)
    began = run.started_at or run.created_at
    if run.state == run.State.RUNNING:
        return Verdict("running", "warn", "A worker is at it.", began)
    ended = run.finished_at or began
    if run.state == run.State.INTERRUPTED:
        return Verdict("interrupted", "bad", run.message or _INTERRUPTED, ended)
    if run.state == run.State.FAILED:
        return Verdict("failed", "bad", run.message or "It ended without saying why.", ended)
    if run.undone_at:
        return Verdict("undone", "", f"Taken back after it had ended: {_needing(run)}", run.undone_at)
    if run.exit_status == 0:
        return Verdict("all well", "good", run.message or "Nothing needs a person.", ended)
    if run.exit_status == 2:
        return Verdict("needs a person", "warn", run.message or _needing(run), ended)
    return Verdict("failed", "bad", run.message or "It ended without saying why.", ended)


_INTERRUPTED = "The worker ended in the middle. Started again, it finishes with the same result."


def _needing(run: ImportRun) -> str:
    if not run.for_a_person:
        return "nothing needed a person."
    return f"{run.for_a_person} finding{'' if run.for_a_person == 1 else 's'} to look at."


def seconds_of(run: ImportRun, now: datetime | None = None) -> float | None:
    if run.started_at is None:
        return None
    return max(0.0, ((run.finished_at or now or timezone.now()) - run.started_at).total_seconds())


def rows_of(run: ImportRun, outcome: str = "rows") -> int:
    """Over all tables: those that were read, or those that became something."""
    return sum(_number(counts, outcome) for counts in run.tables.values())


def outcomes_of(run: ImportRun) -> list[str]:
    """The labels of `OUTCOMES` in this kind of run."""
    return list((OUTCOMES | _OTHERWISE.get(ImportRun.Kind(run.kind), {})).values())


def without_findings(run: ImportRun) -> str:
    """What it means that a run has none."""
    if run.state != run.State.DONE:
        return "It ended before it found anything."
    return _SPOTLESS.get(ImportRun.Kind(run.kind), "Nothing had to be rejected, merged, repaired or guessed.")


def details_of(run: ImportRun) -> dict[str, str]:
    """Those that something came to, with their labels; of a run that may write also the usual ones that nothing came to."""
    usual = _ALWAYS if run.kind in _WRITING else set()
    return {name: label for name, label in DETAILS.items() if name in usual or rows_of(run, name)}


def table_rows(run: ImportRun) -> list[TableRow]:
    details = details_of(run)
    return [
        TableRow(
            name,
            _number(counts, "rows"),
            [_number(counts, outcome) for outcome in OUTCOMES],
            [_number(counts, detail) for detail in details],
        )
        for name, counts in run.tables.items()
    ]


def totals_of(rows: list[TableRow]) -> TableRow:
    return TableRow(
        "All tables",
        sum(row.rows for row in rows),
        [sum(column) for column in zip(*(row.outcomes for row in rows), strict=True)],
        [sum(column) for column in zip(*(row.details for row in rows), strict=True)],
    )


def _number(counts: Mapping[str, Any], name: str) -> int:
    value = counts.get(name, 0)
    return value if isinstance(value, int) else 0


def groups_of(run: ImportRun) -> list[Group]:
    """The findings by reason, those for a person first. Counted once for a run that is over, and then remembered."""
    kept = f"import-groups:{run.pk}:{run.finished_at.isoformat() if run.finished_at else ''}"
    found = cache.get(kept) if run.is_over else None
    if found is None:
        found = _counted(run)
        if run.is_over:
            cache.set(kept, found, KEPT_SECONDS)
    return found


def _counted(run: ImportRun) -> list[Group]:
    counted = run.findings.order_by().values("code", "level").annotate(count=Count("id"))
    groups = [
        Group(
            row["code"],
            row["level"],
            row["count"],
            CODES[row["code"]].meaning if row["code"] in CODES else "",
            list(
                run.findings.filter(code=row["code"], level=row["level"])
                .order_by("id")
                .values("table", "key", "field", "detail")[:EXAMPLES]
            ),
        )
        for row in counted
    ]
    return sorted(groups, key=lambda group: (not group.needs_a_person, -group.count, group.code))


@dataclass(frozen=True, slots=True)
class Meter:
    """A run's progress in words; `percent` is None while the total is unknown."""

    percent: float | None
    doing: str
    rows: str
    rate: str
    left: str


def meter_of(progress: Progress | None) -> Meter | None:
    if progress is None:
        return None
    rate = progress.rows_per_second
    known = progress.total > 0
    left = max(0, progress.total - progress.rows)
    return Meter(
        percent=min(100.0, 100 * progress.rows / progress.total) if known else None,
        doing=progress.doing,
        rows=f"{_grouped(progress.rows)} of {_grouped(progress.total)}" if known else _grouped(progress.rows),
        rate=_grouped(round(rate)) if rate > 0 else "–",
        left=span(left / rate) if known and rate > 0 else "–",
    )


def span(seconds: float) -> str:
    """`420 ms`, `12 s`, `3 min 05 s`, `2 h 10 min`."""
    if seconds < 1:
        return f"{round(seconds * 1000)}\u202fms"
    if seconds < 60:
        return f"{round(seconds)}\u202fs"
    minutes = round(seconds) // 60
    if minutes < 60:
        return f"{minutes}\u202fmin {round(seconds) % 60:02}\u202fs"
    return f"{minutes // 60}\u202fh {minutes % 60:02}\u202fmin"


def _grouped(number: int) -> str:
    return f"{number:,}".replace(",", "\u202f")


@dataclass(frozen=True, slots=True)
class FindingsPage:
    findings: list[ImportFinding]
    after: int
    """The last id of this page when another follows, else 0."""


def findings_page(run: ImportRun, *, table: str = "", code: str = "", level: str = "", after: int = 0) -> FindingsPage:
    """One page in the order in which they were found; the next begins after the last one's id, and nothing is counted."""
    rows = run.findings.filter(id__gt=after).order_by("id")
    for name, value in (("table", table), ("code", code), ("level", level)):
        if value:
            rows = rows.filter(**{name: value})
    found = list(rows[: FINDINGS_PER_PAGE + 1])
    shown = found[:FINDINGS_PER_PAGE]
    return FindingsPage(shown, shown[-1].pk if len(found) > FINDINGS_PER_PAGE else 0)


def tables_with_findings(run: ImportRun) -> list[str]:
    """What the filter offers: the source's tables, which the run names itself."""
    return sorted(run.tables)


def command_of(kind: str, options: Mapping[str, Any], *, undoes: int | None = None) -> str:
    """The same as a command, for a terminal; what is secret stands as a placeholder."""
    words = ["manage.py migrate_backoffice"]
    if kind == ImportRun.Kind.UNDO:
        return f"{words[0]} --undo {undoes}"
    words.append('--source "$LEGACY_DATABASE_URL"')
    words += ["--legacy-key-file legacy.keys"] if options.get("legacy_keys") else []
    if options.get("naive_timezone", "UTC") != "UTC":
        words.append(f"--naive-timezone {shlex.quote(str(options['naive_timezone']))}")
    words += [f"--environment {shlex.quote(str(name))}" for name in options.get("environments") or ()]
    words += [f"--only {shlex.quote(str(name))}" for name in options.get("only") or ()]
    if options.get("batch_size", 1000) != 1000:
        words.append(f"--batch-size {options['batch_size']}")
    words += {
        ImportRun.Kind.APPLY.value: ["--apply"],
        ImportRun.Kind.DELTA.value: ["--delta"],
        ImportRun.Kind.VERIFY.value: ["--verify"],
    }.get(kind, [])
    return " ".join(words)


def changes_of(finding: ImportFinding) -> list[tuple[str, str | None, str | None]]:
    """Field, before and after of an update or a conflict."""
    changes = finding.changes if isinstance(finding.changes, dict) else {}
    return [(name, *_sides(pair)) for name, pair in sorted(changes.items())]


def _sides(pair: Any) -> tuple[str | None, str | None]:
    before, after = [*pair, None, None][:2] if isinstance(pair, list) else (None, pair)
    return _shown(before), _shown(after)


def _shown(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, indent=2)
