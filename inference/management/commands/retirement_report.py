"""`manage.py retirement_report [--days 30] [--json]`: who still uses the replaced systems' paths, and whether they may go."""

from __future__ import annotations

import json
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone
from rich.console import Console
from rich.table import Table

from inference import retirement
from inference.retirement import LONGEST_DAYS, Report


class Command(BaseCommand):
    help = (
        "Say who came through the old paths in the last days, here or forwarded to the legacy side. Exit status: 0 nobody did "
        "for all of these days, the old code is safe to remove; 2 somebody did, or it is not known for long enough; 1 failed."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--days", type=int, default=30, help=f"How many to look back, 1 to {LONGEST_DAYS}.")
        parser.add_argument("--json", action="store_true", help="Print the report as JSON.")

    def handle(self, *args: Any, **options: Any) -> None:
        if not 1 <= options["days"] <= LONGEST_DAYS:
            raise CommandError(f"--days must be from 1 to {LONGEST_DAYS}.")
        told = retirement.report(options["days"], timezone.now())
        if options["json"]:
            self.stdout.write(json.dumps(told.as_dict(), indent=2))
        else:
            _show(Console(file=self.stdout._out), told)
        if told.exit_status:
            sys.exit(told.exit_status)


def _show(console: Console, told: Report) -> None:
    if told.uses:
        table = Table("Path", "Client", "Name", "Requests", "Last use (UTC)")
        for use in told.uses:
            table.add_row(
                use.family, use.client, use.client_name, f"{use.requests:,}", f"{use.last_at:%Y-%m-%d %H:%M:%S}"
            )
        console.print(table)
    since = "not yet" if told.since is None else f"since {told.since:%Y-%m-%d %H:%M} UTC"
    console.print(f"The old paths are counted {since}.")
    console.print(told.verdict, style="green" if told.safe else "yellow")
