"""`manage.py adopt_spool`: write into the ledger what processes left that are gone."""

from __future__ import annotations

import argparse
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError
from rich.console import Console

from inference import adoption

EXAMPLES = """
examples:
  manage.py adopt_spool              after the last process of an installation was killed, and before it is taken down
  manage.py adopt_spool --data-dir /mnt/old-node

Every web process and worker does this by itself every few seconds for all that use the same data directory, so the command is for
a directory that no process will be started on again. Processes that live are left alone, and nothing is written twice. Records
without an end are booked by what was seen of their answers, with the error code gateway_lost.
"""


class Command(BaseCommand):
    help = "Write into the ledger what killed processes left in the spool of the data directory."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.epilog, parser.formatter_class = EXAMPLES, argparse.RawDescriptionHelpFormatter

    def handle(self, *args: Any, **options: Any) -> None:
        console = Console(file=self.stdout._out, highlight=False)
        try:
            found = adoption.adopt(adoption.folder())
        except DatabaseError as error:
            raise CommandError(f"The database did not take it; everything is still in the spool: {error}") from error
        if found:
            console.print(f"{found:,} records of processes that are gone are in the ledger.", style="green")
        else:
            console.print(f"No dead process left anything in {adoption.folder()}.")
