"""`manage.py prices`: what models cost, and by whose word."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.console import Console
from rich.table import Table
from rich.text import Text

from providers import price_list, price_rows
from providers.models import ProviderModel
from providers.prices import Prices


class Command(BaseCommand):
    help = (
        "Show what each model costs per million tokens and who says so: an override, the model's own row, nothing to pay on one's "
        "own machines, or the vendor's list. Where nobody knows, the price is unknown, and limits of cost refuse the model."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "model", nargs="?", metavar="MODEL", help="A model id or provider/model; without, every model."
        )
        parser.add_argument("--unknown", action="store_true", help="Only models whose price nobody knows.")
        parser.add_argument("--tokens", metavar="IN+OUT", help="Also what so many tokens cost, such as 1000+500.")
        parser.add_argument("--json", action="store_true", help="One JSON document instead of a table.")

    def handle(self, *args: Any, **options: Any) -> None:
        tokens = _tokens(options["tokens"])
        found = [
            (row, prices)
            for row, prices in _priced(options["model"])
            if not options["unknown"] or not prices.says_something
        ]
        if options["json"]:
            self.stdout.write(json.dumps([_document(row, prices, tokens) for row, prices in found], indent=2))
            return
        console = Console(file=self.stdout._out, highlight=False)
        console.print(_table(found, tokens))
        unknown = sum(not prices.says_something for _, prices in found)
        console.print(
            f"{len(found)} models, {unknown} without a price. List: {price_list.PACKAGE} {price_list.list_version()}."
        )


def _priced(name: str | None) -> list[tuple[ProviderModel, Prices]]:
    rows = list(ProviderModel.objects.select_related("provider").order_by("provider__priority", "provider_id", "id"))
    if name is not None:
        rows = [row for row in rows if name in (row.model_id, _route(row))]
        if not rows:
            raise CommandError(f"No model is named {name!r}.")
    prices = price_rows.of_models(rows)
    return [(row, prices[row.pk]) for row in rows]


def _route(row: ProviderModel) -> str:
    return row.route


def _tokens(told: str | None) -> tuple[int, int] | None:
    if told is None:
        return None
    asked, _, answered = told.partition("+")
    if not (asked.isdigit() and (answered or "0").isdigit()):
        raise CommandError("--tokens needs two numbers, such as 1000+500.")
    return int(asked), int(answered or 0)


def _cost(prices: Prices, tokens: tuple[int, int]) -> Decimal | None:
    return prices.cost(input_tokens=tokens[0], output_tokens=tokens[1])


def _document(row: ProviderModel, prices: Prices, tokens: tuple[int, int] | None) -> dict[str, Any]:
    document = {
        "model": _route(row),
        "input_cost_per_million": _plain(prices.input_cost_per_million),
        "output_cost_per_million": _plain(prices.output_cost_per_million),
        "cached_input_cost_per_million": _plain(prices.cached_input_cost_per_million),
        "currency": prices.currency,
        "source": prices.source,
        "note": prices.note,
    }
    return document | ({"cost": _plain(_cost(prices, tokens))} if tokens is not None else {})


def _table(found: list[tuple[ProviderModel, Prices]], tokens: tuple[int, int] | None) -> Table:
    table = Table(box=None, pad_edge=False, title="Per million tokens", title_justify="left", title_style="bold")
    table.add_column("model", overflow="fold")
    for name in ("in", "out", "cached", *([f"{tokens[0]}+{tokens[1]}"] if tokens else [])):
        table.add_column(name, justify="right")
    table.add_column("")
    table.add_column("by the word of", overflow="fold")
    for row, prices in found:
        amounts = [
            prices.input_cost_per_million,
            prices.output_cost_per_million,
            prices.cached_input_cost_per_million,
            *([_cost(prices, tokens)] if tokens else []),
        ]
        known = prices.says_something
        table.add_row(
            _route(row),
            *(_plain(amount) or "–" for amount in amounts),
            prices.currency if known else "",
            Text(prices.note) if known else Text("nobody: unknown", "yellow"),
        )
    return table


def _plain(amount: Decimal | None) -> str | None:
    if amount is None:
        return None
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
