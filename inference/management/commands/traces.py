"""`manage.py traces [--outcome failed] [--model writer] … [--json]`: requests, the newest first, as the admin's list searches them."""

from __future__ import annotations

import argparse
import json
from decimal import Decimal
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.serializers.json import DjangoJSONEncoder
from django.utils import timezone
from rich.console import Console
from rich.table import Table

from inference import trace_details, trace_search
from inference.trace_forms import SearchForm
from inference.trace_search import BadCursor

EXAMPLES = """
examples:
  manage.py traces --outcome failed --hours 6
  manage.py traces --model writer --slower-than-ms 2000
  manage.py traces --id req_0123… --json
"""


class Command(BaseCommand):
    help = "List requests, the newest first."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.epilog, parser.formatter_class = EXAMPLES, argparse.RawDescriptionHelpFormatter
        for name in SearchForm.base_fields:
            parser.add_argument(f"--{name.replace('_', '-')}", default="", metavar="VALUE")
        parser.add_argument("--limit", type=int, default=20, help=f"Rows, {trace_search.MOST_ROWS} at most.")
        parser.add_argument("--cursor", default="", help="Out of a page before: go on where it ended.")
        parser.add_argument("--json", action="store_true", help="For programs; amounts are texts.")

    def handle(self, *args: Any, **options: Any) -> None:
        form, now = SearchForm({name: options[name] for name in SearchForm.base_fields}), timezone.now()
        if not form.is_valid():
            name, told = next(iter(form.errors.items()))
            raise CommandError(f"--{name.replace('_', '-')}: {told[0]}")
        limit = min(max(1, options["limit"]), trace_search.MOST_ROWS)
        try:
            sight, cursor = trace_search.EVERYTHING, options["cursor"]
            page = trace_search.find(form.search(now), sight, now=now, limit=limit, cursor=cursor)
        except BadCursor as error:
            raise CommandError(f"--cursor: {error}") from error
        rows = [trace_details.summary(row) for row in page.rows]
        if options["json"]:
            document = {"results": rows, "next_cursor": page.cursor or None, "looked_back_to": page.looked_back_to}
            self.stdout.write(json.dumps(document, indent=2, ensure_ascii=False, cls=DjangoJSONEncoder))
            return
        _show(Console(file=self.stdout._out, highlight=False), rows, page.cursor)


def _show(console: Console, rows: list[dict[str, Any]], cursor: str) -> None:
    if not rows:
        console.print("No request of the hours that are kept is like that.", style="yellow")
        return
    table = Table()
    table.add_column("Request", no_wrap=True)
    table.add_column("Asked for, served by", overflow="fold")
    table.add_column("Ended", overflow="fold")
    for name in ("ms", "Cost"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        at = timezone.localtime(row["at"]).strftime("%Y-%m-%d %H:%M:%S")
        ended = f"{row['status']} {row['error']}\n{row['attempts']} tries".replace("1 tries", "1 try")
        cost = "–" if row["cost"] is None else f"{Decimal(row['cost']):.6f}"
        names = (f"{row['request_id']}\n{at}", f"{row['model']}\n{row['served_by'] or 'nobody'}", ended)
        table.add_row(*names, f"{row['duration_ms']:.0f}", cost)
    console.print(table)
    if cursor:
        console.print(f"There are more: --cursor {cursor}")
