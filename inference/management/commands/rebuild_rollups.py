"""`manage.py rebuild_rollups [--since …] [--until …] [--check]`: sum the ledger again, or say where the sums do not agree with it."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from rich.console import Console
from rich.progress import track
from rich.table import Table

from inference import rollup_rebuilding

EXAMPLES = """
examples:
  manage.py rebuild_rollups --check                           do the sums agree with the ledger? changes nothing
  manage.py rebuild_rollups --since 2026-11-01                sum November again
  manage.py rebuild_rollups --since 2026-11-21T08 --until 2026-11-21T09

Reports, charts and budgets read sums by hour, which are written together with the ledger, so this is for a database that was
changed by other means, such as a ledger restored from a backup. Requests may go on meanwhile.
Exit status: 0 done, or all agrees; 2 --check found differences.
"""


class Command(BaseCommand):
    help = "Sum the ledger again by hours, or with --check only say where the sums do not agree with it."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.epilog, parser.formatter_class = EXAMPLES, argparse.RawDescriptionHelpFormatter
        parser.add_argument(
            "--since", type=_moment, metavar="TIME", help="From this hour on; all of the ledger without."
        )
        parser.add_argument("--until", type=_moment, metavar="TIME", help="Up to this time.")
        parser.add_argument("--check", action="store_true", help="Compare, print what differs, and change nothing.")

    def handle(self, *args: Any, **options: Any) -> None:
        console = Console(file=self.stdout._out)
        if options["check"]:
            self._check(console, options["since"], options["until"])
            return
        hours = rollup_rebuilding.hours(options["since"], options["until"])
        shown = track(hours, "Summing", console=console) if console.is_terminal else hours
        lines = sum(rollup_rebuilding.rebuild(hour) for hour in shown)
        console.print(f"{lines:,} lines of the ledger in {len(hours):,} hours are summed.")

    def _check(self, console: Console, since: datetime | None, until: datetime | None) -> None:
        table = Table("Hour (UTC)", "Requests", "in the sums", "Cost", "in the sums")
        for one in rollup_rebuilding.differences(since, until):
            table.add_row(
                f"{one.hour:%Y-%m-%d %H:00}",
                f"{one.ledger_requests:,}",
                f"{one.rollup_requests:,}",
                f"{one.ledger_cost:f}",
                f"{one.rollup_cost:f}",
            )
        if not table.row_count:
            console.print("The sums agree with the ledger.", style="green")
            return
        console.print(table)
        console.print("Sum these hours again: manage.py rebuild_rollups --since <the first of them>", style="yellow")
        sys.exit(2)


def _moment(text: str) -> datetime:
    try:
        told = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no time such as 2026-11-21 or 2026-11-21T08:00") from None
    return told if told.tzinfo else told.replace(tzinfo=UTC)
