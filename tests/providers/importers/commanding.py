"""`manage.py migrate_backoffice` as an operator runs it, with everything that it said."""

from __future__ import annotations

import io
import json
import logging
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.core.management import CommandError, call_command

from tests.providers.importers.legacy_databases import LegacyDatabase


@dataclass(frozen=True, slots=True)
class Said:
    status: int
    screen: str
    """Standard output and standard error."""
    log: str
    """Every record of every logger, DEBUG included, with tracebacks."""
    report: dict[str, Any] | None
    report_text: str

    @property
    def tables(self) -> dict[str, dict[str, int]]:
        return (self.report or {})["tables"]

    @property
    def findings(self) -> list[dict[str, Any]]:
        return (self.report or {})["findings"]

    @property
    def codes(self) -> set[str]:
        return {finding["code"] for finding in self.findings}

    def findings_of(self, table: str, *keys: str) -> list[dict[str, Any]]:
        return [finding for finding in self.findings if finding["table"] == table and finding["key"] in keys]

    @property
    def text(self) -> str:
        return "\n".join([self.screen, self.log, self.report_text])


def migrate(legacy: LegacyDatabase, folder: Path, *options: str, keys: bool = True) -> Said:
    """Run it on a legacy database, with all of its legacy keys unless told otherwise."""
    arguments = ["--source", legacy.url, "--no-progress", *options]
    if keys:
        for file in legacy.key_files(folder):
            arguments += ["--legacy-key-file", str(file)]
    return run(folder, *arguments)


def run(folder: Path, *arguments: str) -> Said:
    report = folder / "report.json"
    report.unlink(missing_ok=True)
    screen, log = io.StringIO(), io.StringIO()
    listening = logging.StreamHandler(log)
    root = logging.getLogger()
    level = root.level
    root.addHandler(listening)
    root.setLevel(logging.DEBUG)
    try:
        status = _status(screen, *arguments, "--report", str(report))
    finally:
        root.setLevel(level)
        root.removeHandler(listening)
    written = report.read_text() if report.exists() else ""
    return Said(status, screen.getvalue(), log.getvalue(), json.loads(written) if written else None, written)


def _status(screen: io.StringIO, *arguments: str) -> int:
    try:
        call_command("migrate_backoffice", *arguments, stdout=screen, stderr=screen)
    except CommandError as error:
        # What `manage.py` prints and returns for it; the chain of causes is what a crash reporter would send on.
        screen.write("".join(traceback.format_exception(error)))
        return error.returncode
    except SystemExit as error:
        return int(error.code or 0)
    return 0
