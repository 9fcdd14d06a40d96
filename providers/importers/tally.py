"""The book of a run: what became of every source row, and everything that was said about single values.

Findings lie in a temporary file, so a source with a million odd rows costs no memory; from there they go into the report
and the database.
"""

from __future__ import annotations

import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import IO, Any

import orjson

from providers.importers.drafts import Draft, Ledger
from providers.importers.findings import CODES, Finding, Level, Outcome

EXAMPLES = 5
_COLUMNS = ("rows", *(str(outcome) for outcome in Outcome))
STEPS = ("created", "updated", "unchanged", "kept", "conflicts", "deleted")
"""What the engine did with the rows that made a draft."""


class Findings:
    """In the order they were made."""

    def __init__(self) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        self.counts: Counter[str] = Counter()
        self.examples: dict[str, list[Finding]] = defaultdict(list)
        self.for_a_person = 0

    def add(self, finding: Finding) -> None:
        self.counts[finding.code.name] += 1
        self.for_a_person += finding.code.level is Level.PERSON
        if len(self.examples[finding.code.name]) < EXAMPLES:
            self.examples[finding.code.name].append(finding)
        self._file.write(_line(finding))

    def __len__(self) -> int:
        return self.counts.total()

    def since(self, position: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
        """Each finding from there as a JSON object, with the position after it."""
        self._file.flush()
        self._file.seek(position)
        while line := self._file.readline():
            position += len(line)
            yield position, orjson.loads(line)
        self._file.seek(0, 2)

    def close(self) -> None:
        self._file.close()


class BundleBook:
    """What the engine decides within one bundle: it counts only once the bundle is written."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str, str]] = Counter()
        self._findings: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=1 << 18)  # noqa: SIM115 - closed by close()
        self.steps: Counter[str] = Counter()

    @property
    def tables(self) -> list[str]:
        """Whose rows were counted."""
        return [table for table, _, _ in self._counts]

    def count_row(self, table: str, outcome: str, step: str) -> None:
        self._counts[table, outcome, step] += 1

    def count(self, draft: Draft, outcome: Outcome, step: str = "") -> None:
        if not draft.origin.inside:
            self._counts[draft.origin.table, outcome, step] += 1
        for origin in draft.merged:
            self._counts[origin.table, Outcome.MERGED, ""] += not origin.inside
        if step:
            self.steps[f"{draft.kind} {step}"] += 1

    def find(self, finding: Finding) -> None:
        self._findings.write(_line(finding))

    def close(self) -> None:
        self._findings.close()


class Tally(Ledger):
    """`heard` is told the number of rows after each reading."""

    def __init__(self, heard: Callable[[int], None] = lambda rows: None) -> None:
        self.tables: dict[str, Counter[str]] = {}
        self.findings = Findings()
        self.rows = 0
        self.found: Callable[[Finding], None] = self.findings.add
        """Hears what the source says."""
        self._heard = heard

    def read(self, table: str, rows: int = 1) -> None:
        self._table(table)["rows"] += rows
        self.rows += rows
        self._heard(self.rows)

    def count(self, table: str, outcome: Outcome, rows: int = 1) -> None:
        self._table(table)[outcome] += rows

    def find(self, finding: Finding) -> None:
        self.found(finding)

    def enter(self, book: BundleBook) -> None:
        """The bundle was written, or would be."""
        for (table, outcome, step), rows in book._counts.items():
            self._table(table)[outcome] += rows
            if step:
                self._table(table)[step] += rows
        book._findings.seek(0)
        for line in book._findings:
            self.findings.add(_finding(orjson.loads(line)))
        book.close()

    def as_dict(self) -> dict[str, dict[str, int]]:
        return {
            table: {name: counts[name] for name in (*_COLUMNS, *STEPS)} for table, counts in sorted(self.tables.items())
        }

    def unaccounted(self) -> list[str]:
        """Tables whose rows are not all accounted for: a fault of the source's or ours, never the person's."""
        return [
            f"{table}: {counts['rows']} read, {told} accounted for"
            for table, counts in sorted(self.tables.items())
            if (told := sum(counts[outcome] for outcome in Outcome)) != counts["rows"]
        ]

    def _table(self, table: str) -> Counter[str]:
        return self.tables.setdefault(table, Counter())


def _line(finding: Finding) -> bytes:
    facts = {
        "table": finding.table,
        "key": finding.key,
        "field": finding.field,
        "code": finding.code.name,
        "level": finding.code.level,
        "did": finding.did,
        "detail": finding.detail,
    }
    if finding.changes:
        facts["changes"] = finding.changes
    return orjson.dumps(_printable(facts)) + b"\n"


def _printable(value: Any) -> Any:
    """Half characters of a source's texts cannot be written down; a question mark stands for each."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
    if isinstance(value, dict):
        return {name: _printable(member) for name, member in value.items()}
    return [_printable(member) for member in value] if isinstance(value, list) else value


def _finding(facts: dict[str, Any]) -> Finding:
    return Finding(
        facts["table"],
        facts["key"],
        facts["field"],
        CODES[facts["code"]],
        facts["did"],
        facts["detail"],
        facts.get("changes"),
    )
