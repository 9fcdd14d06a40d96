"""`manage.py shadow_report [--days 7] [--run LABEL] [--json]`: how alike both sides of the parallel run answer."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone
from rich.console import Console
from rich.table import Table

from inference import shadow_reports
from inference.shadow_reports import LONGEST_DAYS, Different, Report, Side


class Command(BaseCommand):
    help = (
        "Say how often both sides answered the same, how alike they are, how fast and how dear, and which pairs differ most. "
        "Texts are not shown: read a pair by its id at /api/v1/shadow-pairs/ID."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--days", type=int, default=7, help=f"How many to look back, 1 to {LONGEST_DAYS}.")
        parser.add_argument("--run", default="", help="The label of a `shadow_run`, instead of live traffic.")
        parser.add_argument("--json", action="store_true", help="Print the report as JSON.")

    def handle(self, *args: Any, **options: Any) -> None:
        if not 1 <= options["days"] <= LONGEST_DAYS:
            raise CommandError(f"--days must be from 1 to {LONGEST_DAYS}.")
        told = shadow_reports.report(options["days"], timezone.now(), run=options["run"])
        if options["json"]:
            self.stdout.write(json.dumps(told.as_dict(), indent=2))
        else:
            _show(Console(file=self.stdout._out), told)


def _show(console: Console, told: Report) -> None:
    pairs = "1 pair" if told.pairs == 1 else f"{told.pairs} pairs"
    days = "1 day" if told.days == 1 else f"{told.days} days"
    console.print(f"{pairs} in {days}, {told.both_answered} answered by both sides.")
    if told.equal_share is not None and told.mean_similarity is not None:
        console.print(f"Equal: {told.equal_share:.1%}. Mean similarity: {told.mean_similarity:.3f}.")
    sides = Table("Side", "Answered", "Failed", "Mean", "Median", "Cost (USD)", "Without a price")
    for name, side in (("gateway", told.gateway), ("legacy", told.legacy)):
        sides.add_row(name, *_cells(side))
    console.print(sides)
    for title, different in (("Least alike", told.worst), ("Only one side answered", told.one_failed)):
        if different:
            console.print(_pairs(title, different))


def _cells(side: Side) -> tuple[str, ...]:
    spans = ("-" if span is None else f"{span:,.0f} ms" for span in (side.mean_ms, side.median_ms))
    return (str(side.answered), str(side.failed), *spans, f"{side.cost:.6f}", str(side.unpriced))


def _pairs(title: str, pairs: tuple[Different, ...]) -> Table:
    table = Table("Pair", "Model", "Similarity", "Gateway", "Legacy", title=title)
    for pair in pairs:
        alike = "-" if pair.similarity is None else f"{pair.similarity:.3f}"
        table.add_row(str(pair.id), pair.model, alike, pair.gateway, pair.legacy)
    return table
