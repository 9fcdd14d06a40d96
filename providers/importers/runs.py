"""Imports as runs: ask for one, do it, watch it, undo it. What command, admin and worker share.

A run is done by one process at a time in the whole installation (`lock`). Its expected failures, such as a source that does
not answer, end in its state and its result and are not raised.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from providers.importers.drafts import Source
from providers.importers.findings import Finding
from providers.importers.options import Options
from providers.models import ImportRun

Prefer = Literal["registry", "source"]
"""Whose value stays when both sides changed or the row was made by hand here."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Rows read so far, of `total` (0 when unknown), and what is being worked on."""

    rows: int
    total: int
    doing: str
    rows_per_second: float


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


def start(
    kind: str,
    label: str,
    *,
    actor: str,
    options: Options | None = None,
    undoes: ImportRun | None = None,
    for_worker: bool = False,
) -> ImportRun:
    """Write down that a run is wanted, queued. `for_worker` seals source URL and legacy keys into it."""
    raise NotImplementedError


def execute(
    run: ImportRun,
    open_source: Callable[[], Source],
    *,
    prefer: Prefer = "registry",
    report: Path | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Result:
    """Do a dry run, apply, delta or verify; `open_source` may raise `SourceError`. Closes the source, forgets the secrets."""
    raise NotImplementedError


def preview(
    open_source: Callable[[], Source],
    *,
    options: Options | None = None,
    prefer: Prefer = "registry",
    report: Path | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Result:
    """A dry run that leaves not even a run behind."""
    raise NotImplementedError


def undo(
    run: ImportRun,
    *,
    report: Path | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Result:
    """Do a run of kind UNDO: restore what `run.undoes` changed. Again after a kill it finishes."""
    raise NotImplementedError


def options_of(run: ImportRun) -> Options:
    """The options of a queued run, its sealed secrets opened. Raises `SecretError`, `ValueError` when they are gone."""
    raise NotImplementedError


def forget_secrets(run: ImportRun) -> None:
    """Source URL and legacy keys are no longer needed."""
    raise NotImplementedError


def progress_of(run: ImportRun) -> Progress | None:
    """How far a running run is, from whichever process does it; None when nothing is known."""
    raise NotImplementedError


def mark_interrupted() -> int:
    """Runs that say they are running while no process does one are marked so; returns how many."""
    raise NotImplementedError


def undoable() -> list[ImportRun]:
    """Runs that `undo` may take back, the newest first: only the first one now, the others after those before them."""
    raise NotImplementedError
