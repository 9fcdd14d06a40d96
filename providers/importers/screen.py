"""A run as a person reads it in a terminal: the tables, what was changed, what was said, and what to do next."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from providers.importers import smoke
from providers.importers.findings import CODES, Finding, Level
from providers.importers.runs import Kind, Result
from providers.importers.tally import EXAMPLES
from providers.models import ImportRun

_DONE = {
    Kind.DRY_RUN: "Dry run",
    Kind.APPLY: "Import",
    Kind.DELTA: "Import of what changed",
    Kind.VERIFY: "Verification",
    Kind.UNDO: "Undoing",
}
_STYLES = {"created": "green", "updated": "yellow", "rejected": "red", "conflicts": "red", "deleted": "yellow"}
_COLUMNS = ("rows", "created", "updated", "unchanged", "kept", "conflicts", "merged", "rejected", "left_out", "deleted")
_LONGEST_KEY = 80


def show(console: Console, result: Result) -> None:
    number = f" {result.run_pk}" if result.run_pk else ""
    console.print(f"[bold]{_DONE[Kind(result.kind)]}{number}[/] of {escape(result.source_label or 'the source')}")
    if result.tables:
        console.print(_tables(result))
    _findings(console, result)
    if result.message and result.exit_status != 1:
        console.print(escape(result.message))
    rows = sum(table["rows"] for table in result.tables.values())
    if rows and result.seconds:
        console.print(f"[dim]{rows:,} rows in {result.seconds:.1f} s, {rows / result.seconds:,.0f} rows a second.[/]")
    console.print(f"[bold]Next:[/] {escape(next_step(result))}")


def _tables(result: Result) -> Table:
    """Columns without a number are left out: the table has to fit a terminal of 80 columns."""
    columns = [name for name in _COLUMNS if any(row.get(name) for row in result.tables.values())]
    table = Table(header_style="bold", box=box.SIMPLE_HEAD)
    table.add_column("table", overflow="fold")
    for name in columns:
        table.add_column(name.replace("_", " "), justify="right", no_wrap=True)
    for name, counts in result.tables.items():
        table.add_row(escape(name), *(_count(column, counts.get(column, 0)) for column in columns))
    return table


def _count(column: str, count: int) -> Text:
    style = _STYLES.get(column, "") if count else "dim"
    return Text(f"{count:,}" if count else "·", style=style)


def _findings(console: Console, result: Result) -> None:
    by_weight = sorted(result.codes, key=lambda code: (CODES[code].level is not Level.PERSON, code))
    for code in by_weight:
        meaning = CODES[code]
        colour = "red" if meaning.level is Level.PERSON else "cyan"
        console.print(f"[{colour}]{result.codes[code]:,} × {code}[/]  {escape(meaning.meaning)}")
        examples = result.examples.get(code, ())
        for finding in examples:
            console.print(_example(finding))
        more = result.codes[code] - len(examples)
        if more and len(examples) == EXAMPLES:
            console.print(f"    [dim]… and {more:,} more in the report[/]")


def _example(finding: Finding) -> Text:
    key = finding.key if len(finding.key) <= _LONGEST_KEY else f"{finding.key[:_LONGEST_KEY]}…"
    place = " ".join(part for part in (finding.table, key, finding.field) if part)
    line = Text.assemble("    ", (_one_line(place), "bold"), f": {_one_line(finding.detail)}")
    for field, (before, after) in (finding.changes or {}).items():
        line.append(f"\n      {_one_line(field)}: ")
        line.append(_one_line(str(before)), style="red")
        line.append(" → ")
        line.append(_one_line(str(after)), style="green")
    return line


def _one_line(text: str) -> str:
    """A source's text must not steer the terminal."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def next_step(result: Result) -> str:
    """What to do now, in one sentence."""
    look = "see the findings above" if result.exit_status == 2 else "nothing needs a person"
    if result.exit_status == 1:
        return "no provider was left half-done: put right what is said below and run the same command again."
    if result.kind == Kind.DRY_RUN:
        return f"nothing was written ({look}); run the same command with --apply to import."
    if result.kind in {Kind.APPLY, Kind.DELTA}:
        undo = f"--undo {result.run_pk} takes it back"
        return f"run it with --verify to compare both sides value by value ({look}; {undo})."
    if result.kind == Kind.VERIFY:
        if result.exit_status == 2:
            return "import again, or settle each difference in the admin, and verify once more."
        return "send a test request through every imported provider with --smoke."
    return "the registry is as it was before the run." if result.exit_status == 0 else f"{look}: what was edited stays."


def show_runs(console: Console, runs: Iterable[ImportRun], undoable: Sequence[ImportRun]) -> None:
    can = {run.pk for run in undoable}
    table = Table(header_style="bold")
    for name in ("run", "kind", "state", "source", "by", "ended", "status", "undo"):
        table.add_column(name)
    for run in runs:
        ended = f"{run.finished_at:%Y-%m-%d %H:%M:%S}" if run.finished_at else ""
        undo = "undone" if run.undone_at else f"--undo {run.pk}" if run.pk in can else ""
        status = "" if run.exit_status is None else str(run.exit_status)
        cells = (str(run.pk), run.kind, run.state, run.source_label, run.actor, ended, status, undo)
        table.add_row(*(escape(_one_line(cell)) for cell in cells))
    console.print(table if table.row_count else "No import was ever run here.")
    if len(can) > 1:
        console.print("[dim]Runs are undone from the newest to the oldest.[/]")


def show_smoke(console: Console, results: Sequence[smoke.Result]) -> None:
    table = Table(header_style="bold")
    for name in ("provider", "model", "result", "first token", "took", "tokens", "answer"):
        table.add_column(name)
    styles = {"answered": "green", "failed": "red", "left_out": "dim"}
    for result in results:
        tokens = "" if result.output_tokens is None else f"{result.input_tokens} + {result.output_tokens}"
        said = _one_line(result.first_words or result.message)
        table.add_row(
            escape(_one_line(result.provider_id)),
            escape(_one_line(result.model_id)),
            Text(result.status.replace("_", " "), style=styles.get(result.status, "")),
            _span(result.first_token_ms),
            _span(result.duration_ms),
            tokens,
            escape(said),
        )
    console.print(table)


def _span(milliseconds: float | None) -> str:
    return "" if milliseconds is None else f"{milliseconds:,.0f} ms"
