"""`manage.py reconcile_invoice FILE --provider ID`: the ledger against a provider's own account, by day and model."""

from __future__ import annotations

import argparse
import sys
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.console import Console
from rich.table import Table

from inference import invoices, reconciling
from inference.invoices import LAYOUTS, Unreadable
from inference.reconciling import Compared
from providers.models import Provider

EXAMPLES = """
examples:
  manage.py reconcile_invoice completions_usage_2026-11-01_2026-11-30.csv --provider openai-main
  manage.py reconcile_invoice claude_api_tokens_2026_11.csv --provider anthropic --tolerance 0.5
  manage.py reconcile_invoice bill.csv --provider acme --day date --model sku --input prompt,cache --output completion --cost total
  manage.py reconcile_invoice claude_cost.csv --provider anthropic --alias "Claude Sonnet 4.5=claude-sonnet-4-5"

Known files are OpenAI's usage and cost exports and Anthropic's token and cost exports: they are told by their columns. For others,
name the columns; with commas, several columns are added up. Input tokens mean all of them, those out of a cache included.
Days are those of UTC, as on the providers' exports. A dated model name such as gpt-5-2026-08-07 counts as the model that the ledger
has without the date, where there is one alone; --alias helps where names differ otherwise.
Exit status: 0 all agrees; 2 something differs; 1 the file or an option is wrong. Nothing is changed: correct prices with
rerate_usage.
"""

_COLUMNS = {
    "day": "the day, or the time at which a row begins",
    "model": "the model",
    "input": "input tokens",
    "cached": "input tokens out of a cache",
    "output": "output tokens",
    "requests": "requests",
    "cost": "money",
}


class Command(BaseCommand):
    help = "Compare the ledger with a provider's usage or cost export by day and model, in tokens and money."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.epilog, parser.formatter_class = EXAMPLES, argparse.RawDescriptionHelpFormatter
        parser.add_argument("file", help="The CSV file; - reads standard input.")
        parser.add_argument("--provider", required=True, metavar="ID", help="Whose account it is.")
        parser.add_argument(
            "--layout", choices=[*LAYOUTS, "own"], help="The kind of file; told by its columns without."
        )
        for name, text in _COLUMNS.items():
            parser.add_argument(f"--{name}", metavar="COLUMN", help=f"Which column holds {text}.")
        parser.add_argument(
            "--alias",
            action="append",
            default=[],
            metavar="THEIRS=OURS",
            help="A model of the file under our name; may be given several times.",
        )
        parser.add_argument(
            "--tolerance", default="0.1", metavar="PERCENT", help="Differences up to this agree; 0.1 without."
        )
        parser.add_argument("--all", action="store_true", help="Show what agrees, too.")

    def handle(self, *args: Any, **options: Any) -> None:
        if not Provider.objects.filter(provider_id=options["provider"]).exists():
            known = ", ".join(Provider.objects.order_by("provider_id").values_list("provider_id", flat=True)[:20])
            raise CommandError(f"There is no provider '{options['provider']}'; there are: {known or 'none'}.")
        tolerance = _percent(options["tolerance"])
        aliases = reconciling.upstream_names(options["provider"]) | dict(map(_alias, options["alias"]))
        columns = {name: options[name] for name in _COLUMNS if options[name]}
        layout = invoices.Layout() if options["layout"] == "own" else LAYOUTS.get(options["layout"])
        try:
            invoice = invoices.read(_text(options["file"]).splitlines(), layout, columns)
        except Unreadable as error:
            raise CommandError(str(error)) from error
        console = Console(file=self.stdout._out, highlight=False)
        if not invoice.billed:
            raise CommandError(f"None of the {invoice.rows:,} rows tells of any usage.")
        found = reconciling.compare(invoice, options["provider"], tolerance=tolerance, aliases=aliases)
        if not _show(console, found, everything=options["all"]):
            sys.exit(2)


def _show(console: Console, found: list[Compared], *, everything: bool) -> bool:
    """Whether all agrees."""
    different = [one for one in found if not one.agrees]
    if shown := found if everything else different:
        console.print(_table(shown))
    billed = sum((one.billed.cost or Decimal(0) for one in found), Decimal(0))
    booked = sum((one.booked.cost for one in found), Decimal(0))
    money = any(one.billed.cost is not None for one in found)
    total = f"; {billed:,.2f} on the invoice, {booked:,.2f} in the ledger" if money else ""
    if different:
        console.print(f"{len(different)} of {len(found)} days and models differ{total}.", style="yellow")
        return False
    console.print(f"All {len(found)} days and models agree{total}.", style="green")
    return True


def _table(shown: list[Compared]) -> Table:
    table = Table("Day (UTC)", "Model", "Input tokens", "Output tokens", "Money", "Why", show_lines=True)
    for column in table.columns[2:5]:
        column.justify = "right"
    for one in shown:
        table.add_row(
            f"{one.day}",
            one.model,
            _pair(one.billed.input_tokens, one.booked.input_tokens),
            _pair(one.billed.output_tokens, one.booked.output_tokens),
            _pair(one.billed.cost, one.booked.cost, ",.4f"),
            "; ".join(one.why) or "agrees",
        )
    table.caption = "Above what the invoice says, below what the ledger has."
    return table


def _pair(there: int | Decimal | None, here: int | Decimal, form: str = ",") -> str:
    return f"{'-' if there is None else format(there, form)}\n{here:{form}}"


def _text(name: str) -> str:
    try:
        raw = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        return raw.decode("utf-8-sig")
    except OSError as error:
        raise CommandError(f"{name} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise CommandError(f"{name} is not text in UTF-8.") from error


def _alias(told: str) -> tuple[str, str]:
    theirs, sign, ours = told.partition("=")
    if not sign or not theirs.strip() or not ours.strip():
        raise CommandError(f"--alias needs THEIRS=OURS, not '{told}'.")
    return theirs.strip(), ours.strip()


def _percent(text: str) -> Decimal:
    try:
        percent = Decimal(text)
    except InvalidOperation:
        percent = Decimal(-1)
    if not percent.is_finite() or not 0 <= percent <= 100:
        raise CommandError("--tolerance needs a number from 0 to 100.")
    return percent / 100
