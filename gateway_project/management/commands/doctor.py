"""`manage.py doctor`: is this installation well, and what mends it?"""

from __future__ import annotations

import json
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.serializers.json import DjangoJSONEncoder
from rich.console import Console
from rich.markup import escape

from gateway_project.doctor import documents, examining
from gateway_project.doctor.examining import Report
from gateway_project.doctor.findings import ERROR, WARNING
from providers import cells

STATUS = {examining.WELL: 0, WARNING: 1, ERROR: 2}
_STYLES = {ERROR: "bold red", WARNING: "yellow"}


class Command(BaseCommand):
    help = "Say what is wrong, why it matters and what mends it. Ends with 0 when all is well, 1 with warnings, 2 with errors."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--live", action="store_true", help="Also ask the database, the clocks and the workers now."
        )
        parser.add_argument("--only", action="append", default=[], metavar="CHECK", help="Run this check; repeatable.")
        parser.add_argument("--json", action="store_true", help="Print what was found as JSON.")

    def handle(self, *args: Any, **options: Any) -> None:
        if unknown := set(options["only"]) - set(examining.names()):
            raise CommandError(f"There is no check {sorted(unknown)[0]!r}: {', '.join(examining.names())}.")
        report = examining.examine(live=options["live"], only=options["only"])
        if options["json"]:
            self.stdout.write(json.dumps(documents.of(report), cls=DjangoJSONEncoder, indent=2))
        else:
            _show(Console(file=self.stdout._out, highlight=False, soft_wrap=True), report)
        if status := STATUS[report.state]:
            sys.exit(status)


def _show(console: Console, report: Report) -> None:
    for _, finding in report.findings:
        since = f" [dim](since {cells.relative(finding.since)})[/]" if finding.since else ""
        console.print(f"[{_STYLES[finding.level]}]{finding.level:>7}[/]  [bold]{escape(finding.what)}[/]{since}")
        console.print(f"         {escape(finding.why)}")
        ways = " · ".join(filter(None, (finding.fix.command, finding.fix.link)))
        console.print(f"         → {escape(finding.fix.text)}{f' [cyan]{escape(ways)}[/]' if ways else ''}\n")
    for verdict in report.passed_over:
        console.print(f"[dim]      –  {verdict.title}: {escape(verdict.passed_over)}[/]")
    for verdict in report.well:
        console.print(f"[green]   well[/]  {verdict.title}. [dim]{escape(verdict.seen)}[/]")
    console.print(f"\n{_sentence(report)}")


def _sentence(report: Report) -> str:
    if report.state == examining.WELL:
        asked = "" if report.live else " With --live, those are asked too who have to answer."
        return f"[green]All is well.[/]{asked}"
    return (
        f"{report.errors} error{'s' * (report.errors != 1)}, {report.warnings} warning{'s' * (report.warnings != 1)}."
    )
