"""`manage.py cutover`: where clients are served, how both sides do, and the switch between them."""

from __future__ import annotations

import getpass
from decimal import Decimal, InvalidOperation
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone
from rich.console import Console
from rich.table import Table
from rich.text import Text

from inference import cutover
from inference.cutover import HOUR, LONGEST_HOURS, SideFigures
from providers import actor
from routing.models import Rollout


class Command(BaseCommand):
    help = (
        "Show or move the share of clients that the gateway serves itself, while the others are forwarded to the legacy side. "
        "Every process follows within two seconds, without a restart."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("show", nargs="?", choices=["status"], help="Show the state; what happens without options.")
        parser.add_argument("--percentage", metavar="N", help="Serve this share of clients here: 0 to 100.")
        parser.add_argument("--legacy-url", metavar="URL", help="Where the legacy side answers; empty for none.")
        switch = parser.add_mutually_exclusive_group()
        switch.add_argument("--stop", action="store_true", help="Kill switch: send everything to the legacy side now.")
        switch.add_argument("--resume", action="store_true", help="Take the kill switch back; the share counts again.")
        parser.add_argument("--reason", default="", metavar="TEXT", help="Why; kept in the audit log.")
        parser.add_argument("--hours", type=float, default=1.0, metavar="N", help="How far back the figures go.")

    def handle(self, *args: Any, **options: Any) -> None:
        if not 0 < options["hours"] <= LONGEST_HOURS:
            raise CommandError(f"--hours needs a number above 0, at most {LONGEST_HOURS}.")
        console = Console(file=self.stdout._out, highlight=False)
        if changes := self._changes(options):
            with actor.acting_as(f"command:cutover ({getpass.getuser()})", reason=options["reason"][:500]):
                self._change(changes)
        self._show(console, Rollout.load(), options["hours"])

    def _changes(self, options: dict[str, Any]) -> dict[str, Any]:
        changes: dict[str, Any] = {}
        if options["percentage"] is not None:
            try:
                changes["percentage"] = Decimal(options["percentage"].rstrip("%").strip())
            except InvalidOperation as error:
                raise CommandError("--percentage needs a number from 0 to 100.") from error
        if options["legacy_url"] is not None:
            changes["legacy_base_url"] = options["legacy_url"].strip()
        if options["stop"] or options["resume"]:
            changes["gateway_enabled"] = options["resume"]
        return changes

    def _change(self, changes: dict[str, Any]) -> None:
        try:
            Rollout.change(**changes)
        except ValidationError as error:
            sentences = [f"{field}: {sentence}" for field, found in error.message_dict.items() for sentence in found]
            raise CommandError("Nothing was changed. " + " ".join(sentences)) from error

    def _show(self, console: Console, row: Rollout, hours: float) -> None:
        for line in _state(row):
            console.print(line)
        now = timezone.now()
        figures = cutover.figures(now - hours * HOUR, now)
        table = Table(title=f"The last {hours:g} h", title_justify="left", title_style="bold", box=None, pad_edge=False)
        table.add_column("")
        for name in ("gateway", "legacy"):
            table.add_column(name, justify="right")
        for name, here, there in zip(_ROWS, _cells(figures.gateway), _cells(figures.legacy), strict=True):
            table.add_row(name, here, there)
        console.print()
        console.print(table)


def _state(row: Rollout) -> list[Text]:
    if not row.legacy_base_url:
        return [Text("There is no legacy side: the gateway serves everything.", "bold green")]
    stopped = not (row.gateway_enabled and settings.GATEWAY_V2_ENABLED)
    if stopped:
        by = "the kill switch" if not row.gateway_enabled else "GATEWAY_V2_ENABLED=false in this environment"
        first = Text(f"Everything goes to the legacy side: {by}.", "bold red")
        return [first, Text(f"  the share, when it counts again: {_share(row)} here"), _legacy(row)]
    colour = "green" if row.percentage == 100 else "yellow"
    return [
        Text(f"{_share(row)} of clients are served here, the others at the legacy side.", f"bold {colour}"),
        _legacy(row),
    ]


def _legacy(row: Rollout) -> Text:
    return Text(f"  legacy side: {row.legacy_base_url}")


def _share(row: Rollout) -> str:
    return f"{row.percentage.normalize():f} %"


_ROWS = ("requests", "errors", "clients", "p50", "p95", "first byte p95", "tokens in", "tokens out", "cost")


def _cells(side: SideFigures) -> list[Text]:
    rate = "" if not side.error_rate else f" ({100 * side.error_rate:.2g} %)"
    costs = ", ".join(
        f"{money.quantize(Decimal('0.0001'))} {currency}" for currency, money in sorted(side.costs.items())
    )
    return [
        Text(f"{side.requests:,}"),
        Text(f"{side.errors:,}{rate}", "red" if side.errors else ""),
        Text(f"{side.clients:,}"),
        Text(_milliseconds(side.p50_ms)),
        Text(_milliseconds(side.p95_ms)),
        Text(_milliseconds(side.first_byte_p95_ms)),
        Text(f"{side.input_tokens:,}"),
        Text(f"{side.output_tokens:,}"),
        Text(f"~{costs}" if costs and side.side == "legacy" else costs or "–"),
    ]


def _milliseconds(value: float | None) -> str:
    return "–" if value is None else f"{value:,.1f} ms" if value < 100 else f"{value:,.0f} ms"
