"""The JSON report of a run that is over, out of the database: the same as the file that a run writes, however late it is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from providers import import_summaries
from providers.import_runs import ImportRun
from providers.importers.report import FORMAT, VERSION

_AT_ONCE = 10_000
_FIELDS = ("table", "key", "field", "code", "level", "did", "detail", "changes")


def pieces(run: ImportRun) -> Iterator[bytes]:
    """The report in parts of a megabyte or two, so that a million findings need no memory."""
    head = orjson.dumps({"format": FORMAT, "version": VERSION, **_facts(run)}, option=orjson.OPT_INDENT_2)
    yield head.removesuffix(b"\n}") + b',\n  "findings": ['
    between, after = b"\n    ", 0
    while found := list(run.findings.filter(id__gt=after).order_by("id").values("id", *_FIELDS)[:_AT_ONCE]):
        after = found[-1]["id"]
        lines = [orjson.dumps(_without_nothing(row)) for row in found]
        yield between + b",\n    ".join(lines)
        between = b",\n    "
    yield b"\n  ]\n}\n"


def _facts(run: ImportRun) -> dict[str, Any]:
    seconds = import_summaries.seconds_of(run)
    return {
        "run": run.pk,
        "undoes": run.undoes_id,
        "kind": run.kind,
        "exit_status": run.exit_status,
        "message": run.message,
        "started_at": run.started_at.isoformat() if run.started_at else None,
        "seconds": None if seconds is None else round(seconds, 3),
        "source": {"label": run.source_label, "facts": run.source_facts},
        "options": run.options,
        "tables": run.tables,
        "codes": {group.code: group.count for group in import_summaries.groups_of(run)},
    }


def _without_nothing(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "id" and not (name == "changes" and value is None)}
