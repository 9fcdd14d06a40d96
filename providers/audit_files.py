"""The audit log as files: CSV for tables, JSON for programs; and what an entry says has changed. Secrets are fingerprints in it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from django.db.models import QuerySet

from providers.audit import AuditEntry

MOST = 100_000
"""Entries of one file."""
COLUMNS = (
    *("id", "at", "actor", "action", "target_type", "target_id"),
    *("changed", "before", "after", "request_id", "reason", "hash"),
)
_AT_ONCE = 2000
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def narrowed(*, since: datetime | None = None, until: datetime | None = None, **exactly: str) -> QuerySet[AuditEntry]:
    """Newest first. `exactly` are actor, action, target_type, target_id or request_id; empty ones do not narrow."""
    rows = AuditEntry.objects.filter(**{name: value for name, value in exactly.items() if value})
    if since is not None:
        rows = rows.filter(at__gte=since)
    if until is not None:
        rows = rows.filter(at__lt=until)
    return rows.order_by("-id")


def lines(rows: QuerySet[AuditEntry], file_format: str) -> Iterator[str]:
    """`file_format` is csv or json."""
    return csv_lines(rows) if file_format == "csv" else json_lines(rows)


def csv_lines(rows: QuerySet[AuditEntry]) -> Iterator[str]:
    """With a first line of names. Texts that a table would take for a formula begin with an apostrophe."""
    yield _line(COLUMNS)
    for entry in _each(rows):
        told = document(entry)
        told["before"], told["after"] = _json(told["before"]), _json(told["after"])
        told["changed"] = " ".join(changed(entry))
        yield _line(_cell(told[name]) for name in COLUMNS)


def json_lines(rows: QuerySet[AuditEntry]) -> Iterator[str]:
    """One object a line."""
    for entry in _each(rows):
        yield json.dumps(document(entry), ensure_ascii=False) + "\n"


def document(entry: AuditEntry) -> dict[str, Any]:
    told = {name: getattr(entry, name) for name in COLUMNS if name != "changed"}
    return {**told, "at": entry.at.isoformat(), "changed": changed(entry)}


def changed(entry: AuditEntry) -> list[str]:
    """Names of the facts that differ."""
    return [name for name, *_ in difference(entry)]


def difference(entry: AuditEntry) -> list[tuple[str, str | None, str | None]]:
    """Name, before and after of every fact that the entry says has changed."""
    before = entry.before if isinstance(entry.before, dict) else {}
    after = entry.after if isinstance(entry.after, dict) else {}
    return [
        (name, _shown(before, name), _shown(after, name))
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name) or (name in before) != (name in after)
    ]


def _shown(facts: dict[str, Any], name: str) -> str | None:
    if name not in facts:
        return None
    value = facts[name]
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)


def _each(rows: QuerySet[AuditEntry]) -> Iterator[AuditEntry]:
    yield from rows[:MOST].iterator(chunk_size=_AT_ONCE)


def _json(facts: Any) -> str:
    return "" if facts is None else json.dumps(facts, ensure_ascii=False)


def _cell(value: Any) -> str:
    text = str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text


def _line(cells: Iterable[str]) -> str:
    out = io.StringIO()
    csv.writer(out).writerow(cells)
    return out.getvalue()
