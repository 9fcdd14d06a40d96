"""`manage.py rerate_usage --since … [--apply --reason …]`: what usage costs by corrected prices, beside what it was booked with."""

from __future__ import annotations

import argparse
import getpass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone
from rich.console import Console
from rich.table import Table

from inference import rating
from inference.rating import Figures, Span
from providers.prices import Prices

EXAMPLES = """
examples:
  manage.py rerate_usage --since 2026-11-01                   what November would cost by the prices as they are known now
  manage.py rerate_usage --since 2026-11-01 --provider openai --model gpt-5 --input 1.10 --output 8.80
  manage.py rerate_usage --since 2026-11-01 --apply --reason "contract of 3 November, entered late"

Without --apply nothing is written. The ledger itself is never changed: each record whose cost differs gets a correction beside it
with both figures, and reports show booked cost and corrections. Prices are per million tokens. Without --input and --output they
are those that the registry now has for the time of each record; enter a late price as an override with the day from which it
holds. Records of which no price is known, or one in another currency, keep what they have.
"""


class Command(BaseCommand):
    help = "Reckon what usage costs by corrected prices, and with --apply write the corrections beside the ledger."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.epilog, parser.formatter_class = EXAMPLES, argparse.RawDescriptionHelpFormatter
        parser.add_argument("--since", required=True, type=_moment, metavar="TIME", help="Records from here on (UTC).")
        parser.add_argument("--until", type=_moment, metavar="TIME", help="Records before this; now without.")
        parser.add_argument("--provider", default="", metavar="ID", help="Of this provider only.")
        parser.add_argument("--model", default="", metavar="ID", help="Of this model only.")
        parser.add_argument("--input", type=_price, metavar="PRICE", help="Of a million input tokens.")
        parser.add_argument("--output", type=_price, metavar="PRICE", help="Of a million output tokens.")
        parser.add_argument(
            "--cached-input", type=_price, metavar="PRICE", help="Of a million input tokens out of a cache."
        )
        parser.add_argument("--currency", default="USD", metavar="CODE", help="Of the named prices.")
        parser.add_argument("--apply", action="store_true", help="Write the corrections.")
        parser.add_argument(
            "--reason", default="", metavar="TEXT", help="Why; kept with the corrections. Needed to apply."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        console = Console(file=self.stdout._out, highlight=False)
        span = Span(options["since"], options["until"] or timezone.now(), options["provider"], options["model"])
        if span.since >= span.until:
            raise CommandError("--since has to be before --until.")
        prices = _named(options)
        if options["apply"] and not options["reason"].strip():
            raise CommandError("--apply needs a --reason.")
        if not options["apply"]:
            figures = rating.preview(span, prices)
            _show(console, figures)
            if figures.changed:
                console.print("Nothing was written. Write it with --apply --reason TEXT.", style="yellow")
            return
        made, figures = rating.run(span, options["reason"], f"command:rerate_usage ({getpass.getuser()})", prices)
        _show(console, figures)
        console.print(f"Run {made.pk} wrote {made.records:,} corrections.", style="green")


def _show(console: Console, figures: Figures) -> None:
    table = Table("Provider", "Model", "Records", "Change", "No price", "Cost now", "Corrected", "Difference", "")
    for column in table.columns[2:8]:
        column.justify = "right"
    for line in figures.lines:
        table.add_row(
            line.provider_id,
            line.model_id,
            f"{line.records:,}",
            f"{line.changed:,}",
            f"{line.unpriced:,}" if line.unpriced else "",
            f"{line.before:,.6f}",
            f"{line.after:,.6f}",
            f"{line.after - line.before:+,.6f}",
            line.currency,
        )
    if not figures.lines:
        console.print("The ledger has no records of that span.")
        return
    console.print(table)
    if not figures.changed:
        console.print("All costs agree with these prices.", style="green")


def _named(options: dict[str, Any]) -> Prices | None:
    told = options["input"], options["output"], options["cached_input"]
    if told == (None, None, None):
        return None
    if None in told[:2]:
        raise CommandError("Name both --input and --output: a price is not put together from two.")
    return Prices(*told, options["currency"].upper(), "correction", "named for a correction")


def _moment(text: str) -> datetime:
    try:
        told = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is no time such as 2026-11-21 or 2026-11-21T08:00") from None
    return told if told.tzinfo is not None else told.replace(tzinfo=UTC)


def _price(text: str) -> Decimal:
    try:
        price = Decimal(text)
    except InvalidOperation:
        price = Decimal("NaN")
    if not price.is_finite() or price < 0:
        raise argparse.ArgumentTypeError(f"'{text}' is no price such as 1.25")
    return price
