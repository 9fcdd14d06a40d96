"""`manage.py spend_report [--by model] [--since 30d] [--csv | --json] [--savings]`: what was spent, and what routing saved."""

from __future__ import annotations

import argparse
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone
from rich.console import Console
from rich.table import Table

from inference import report_files, savings_reports, spend_reports, usage_times
from inference.savings_reports import Saving
from inference.spend_reports import GROUPS, BadReport, Question, Report
from routing.building import build

EXAMPLES = """
examples:
  manage.py spend_report                                   the last 30 days by model
  manage.py spend_report --by team,month --since 365d
  manage.py spend_report --by key --team 3 --since 2026-11-01 --until 2026-12-01
  manage.py spend_report --by day,model --tag checkout --csv > spend.csv
  manage.py spend_report --latency --by provider,day --since 7d
  manage.py spend_report --savings --since 7d              what each policy's requests would have cost elsewhere
  manage.py spend_report --savings --against openai/gpt-4o

Read from sums by hour that are kept for good, so it does not matter whether the traces are still there. Full hours count.
"""


class Command(BaseCommand):
    help = "Say what was spent, grouped as you like, or with --savings what routing saved."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.epilog, parser.formatter_class = EXAMPLES, argparse.RawDescriptionHelpFormatter
        parser.add_argument("--by", default="model", metavar="GROUPS", help=f"Some of {','.join(GROUPS)}.")
        parser.add_argument("--since", default="30d", metavar="TIME", help="A time, or how long ago: 12h, 30d, 4w.")
        parser.add_argument("--until", default="", metavar="TIME", help="Now, without.")
        parser.add_argument("--key", default="", help="Only of the client key with this prefix.")
        parser.add_argument("--team", type=int, help="Only of the team with this id.")
        for name in ("model", "provider", "policy", "tag", "operation"):
            parser.add_argument(f"--{name}", default="", help=f"Only of this {name}.")
        parser.add_argument("--time-zone", default="UTC", help="Of days and months, such as Europe/Berlin.")
        parser.add_argument("--limit", type=int, default=100, help="Lines at most; 100, and 10000 in files, without.")
        parser.add_argument("--savings", action="store_true", help="By policy: what the same tokens cost elsewhere.")
        parser.add_argument("--latency", action="store_true", help="How long requests took, as JSON.")
        parser.add_argument("--against", default="", metavar="MODEL", help="With --savings: compare with this one.")
        how = parser.add_mutually_exclusive_group()
        how.add_argument("--csv", action="store_true", help="A table for a spreadsheet.")
        how.add_argument("--json", action="store_true", help="For programs; amounts are texts.")

    def handle(self, *args: Any, **options: Any) -> None:
        console = Console(file=self.stdout._out, highlight=False)
        try:
            question = _question(options)
            if options["savings"]:
                self._savings(console, question, options)
                return
            if options["latency"]:
                self.stdout.write(json.dumps(usage_times.document(question), indent=2, ensure_ascii=False))
                return
            most = spend_reports.MOST_ROWS if options["csv"] or options["json"] else options["limit"]
            told = spend_reports.report(question, most=most)
        except BadReport as error:
            raise CommandError(f"--{error.field.replace('group_by', 'by').replace('_', '-')}: {error}") from error
        if options["csv"]:
            self.stdout.write("".join(report_files.csv_lines(told)), ending="")
        elif options["json"]:
            self.stdout.write(json.dumps(report_files.spend_document(told), indent=2, ensure_ascii=False))
        else:
            _show(console, told)

    def _savings(self, console: Console, question: Question, options: dict[str, Any]) -> None:
        if options["csv"]:
            raise CommandError("--csv: savings are told as a table or as --json.")
        found = savings_reports.report(question, build(), against=options["against"])
        if options["json"]:
            self.stdout.write(json.dumps(report_files.savings_document(question, found), indent=2, ensure_ascii=False))
        elif not found:
            console.print("No policy served a request in this span.", style="yellow")
        else:
            for saving in found:
                console.print(_table(saving))


def _question(options: dict[str, Any]) -> Question:
    now = timezone.now()
    if options["limit"] < 1:
        raise CommandError("--limit needs a number above 0.")
    filters = {name: options[name] for name in ("key", "team", "model", "provider", "policy", "tag", "operation")}
    return Question(
        since=_time(options["since"], now, "--since"),
        until=_time(options["until"], now, "--until") if options["until"] else now,
        group_by=tuple(name.strip() for name in options["by"].split(",") if name.strip()),
        time_zone=options["time_zone"],
        **filters,
    )


def _time(text: str, now: datetime, option: str) -> datetime:
    if ago := re.fullmatch(r"(\d{1,5})([hdw])", text):
        return now - timedelta(hours=int(ago[1]) * {"h": 1, "d": 24, "w": 168}[ago[2]])
    try:
        told = datetime.fromisoformat(text)
    except ValueError:
        raise CommandError(f"{option} needs a time such as 2026-11-01, or how long ago: 12h, 30d, 4w.") from None
    return told if told.tzinfo else told.replace(tzinfo=UTC)


def _show(console: Console, told: Report) -> None:
    asked = told.question
    if not told.totals:
        console.print("Nothing was asked of the gateway in this span.", style="yellow")
        return
    table = Table(title=f"{asked.start:%Y-%m-%d %H:%M} to {asked.end:%Y-%m-%d %H:%M} UTC", title_justify="left")
    for name in asked.group_by:
        table.add_column(name.capitalize(), overflow="fold", no_wrap=name in _LENGTHS)
    for name in ("Requests", "Failed", "Tokens in", "out", "Cost", "Corrected"):
        table.add_column(name, justify="right")
    for line in told.lines if asked.group_by else ():
        table.add_row(*(_named(line, name) for name in asked.group_by), *_figures(line))
    table.add_section()
    for line in told.totals:
        table.add_row(*("total" if not number else "" for number, _ in enumerate(asked.group_by)), *_figures(line))
    console.print(table)
    if told.cut:
        console.print("There are more lines: raise --limit, or use --csv.", style="yellow")
    if "tag" in asked.group_by:
        console.print("A request with several tags is in each of their lines, and once in the total.")
    if any(line.unpriced for line in told.totals):
        console.print("Some requests cost nobody knows what: their models have no price.", style="yellow")


def _named(line: spend_reports.Line, by: str) -> str:
    name = line.names[by] or "–"
    return name[: _LENGTHS[by]].replace("T", " ") if by in _LENGTHS else name


_LENGTHS = {
    spend_reports.MONTH: len("2026-11"),
    spend_reports.DAY: len("2026-11-21"),
    spend_reports.WEEK: len("2026-11-21"),
    spend_reports.HOUR: len("2026-11-21T08:00"),
}
"""A time is shown as far as it tells one line from another."""


def _figures(line: spend_reports.Line) -> list[str]:
    corrected = f"{line.corrected_cost:,.4f}" if line.correction else ""
    return [
        f"{line.requests:,}",
        f"{line.failed:,}",
        f"{line.input_tokens:,}",
        f"{line.output_tokens:,}",
        f"{line.cost:,.4f} {line.currency}",
        corrected,
    ]


def _table(saving: Saving) -> Table:
    title = f"{saving.policy} ({saving.operation}): {saving.requests:,} requests, charged {saving.charged:,.4f} USD"
    table = Table("All of it at", title=title, title_justify="left")
    for name in ("would cost", "saved", ""):
        table.add_column(name, justify="right")
    table.add_row("as it was routed, today's prices", f"{saving.cost:,.4f}", "", "", style="bold")
    for one in saving.elsewhere:
        style = "green" if one.saved > 0 else "yellow" if one.saved < 0 else ""
        table.add_row(one.route, f"{one.cost:,.4f}", f"{one.saved:+,.4f}", f"{one.percent:+.1f} %", style=style)
    return table
