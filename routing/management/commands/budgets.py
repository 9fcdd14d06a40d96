"""`manage.py budgets`: where every budget stands, more of one for a while, and the usual ones in one step."""

from __future__ import annotations

import getpass
import json
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import CommandError, CommandParser
from django.core.serializers.json import DjangoJSONEncoder
from django.utils import timezone
from rich.console import Console
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from providers import actor
from providers.configuration import ADD, Change
from providers.importers.runs import FAILED
from providers.management.teaching import TeachingCommand
from routing import budget_actions, budget_status
from routing.budget_status import Past, Standing, Status
from routing.models import Budget

EXAMPLES = """
step by step:
  1. Where everything stands, the fullest first:
       manage.py budgets
  2. The usual budgets for each client key (5 USD a request, 10 an hour, 50 a day, 500 a month; free a tenth,
     pro twice, premium five times as much). Without --apply it only shows what would change:
       manage.py budgets --usual
       manage.py budgets --usual --apply
  3. One budget, everybody it counts for, and its past periods:
       manage.py budgets 7
  4. More of it for a day:
       manage.py budgets 7 --raise 50 --hours 24 --reason "The fair in Berlin"

Budgets of your own are made in the admin, over REST (/api/v1/budgets) or in a file: see `manage.py apply_config --help`.
What is used comes from the counters that all processes share; ~ before a figure says that only the ledger answered.

exit status:
  0  all well
  1  nothing was done; the last line says why
"""
_STYLES = {"ok": "green", "warning": "yellow", "spent": "red"}
_WIDTH_WITHOUT_A_TERMINAL = 160


class Command(TeachingCommand):
    help = "Tell where budgets stand; raise one for a while; set up the usual ones."
    examples = EXAMPLES

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("number", nargs="?", type=int, metavar="NUMBER", help="Of one budget: all about it.")
        parser.add_argument("--json", action="store_true", help="Print JSON, for programs.")
        parser.add_argument("--usual", action="store_true", help="What the usual budgets would change.")
        parser.add_argument("--apply", action="store_true", help="With --usual: set them up.")
        parser.add_argument("--raise", dest="more", metavar="USD", help="Allow so much more for a while.")
        parser.add_argument("--hours", type=float, default=24.0, help="How long; by default 24.")
        parser.add_argument("--reason", default="", metavar="TEXT", help="Why; kept in the audit log.")

    def handle(self, *args: Any, **options: Any) -> None:
        self._console = Console(
            file=self.stdout._out,
            highlight=False,
            width=None if self.stdout.isatty() else _WIDTH_WITHOUT_A_TERMINAL,
        )
        with actor.acting_as(f"command:budgets ({getpass.getuser()})", reason=options["reason"][:500]):
            if options["usual"]:
                self._usual(write=options["apply"])
                return
            row = self._row(options["number"])
            if options["more"] is not None:
                self._raise(row, options)
        if row is not None:
            self._tell_one(row, as_json=options["json"])
        else:
            self._tell_all(as_json=options["json"])

    def _row(self, number: int | None) -> Budget | None:
        if number is None:
            return None
        row = _rows().filter(pk=number).first()
        if row is None:
            raise CommandError(f"There is no budget {number}.", returncode=FAILED)
        return row

    def _usual(self, *, write: bool) -> None:
        applied = budget_actions.apply_usual(write=write)
        for change in applied.changes:
            self._console.print(Text(_told(change)))
        if applied.message:
            raise CommandError(applied.message, returncode=FAILED)
        if not applied.changes:
            self._console.print("Nothing to change: the usual budgets stand already.")
        else:
            self._console.print("They are set up." if write else "Nothing is written yet; --apply does it.")

    def _raise(self, row: Budget | None, options: dict[str, Any]) -> None:
        if row is None:
            raise CommandError("Name the budget that --raise is for, by its number.", returncode=FAILED)
        try:
            amount = Decimal(options["more"])
            until = timezone.now() + timedelta(hours=options["hours"])
            budget_actions.raise_for_a_while(row, amount, options["reason"], until)
        except (InvalidOperation, OverflowError):
            raise CommandError("--raise needs an amount and --hours a span of time.", returncode=FAILED) from None
        except ValidationError as error:
            raise CommandError(" ".join(error.messages), returncode=FAILED) from None
        self.stderr.write(f"{amount} USD more until {until:%Y-%m-%d %H:%M} UTC.")

    def _tell_all(self, *, as_json: bool) -> None:
        rows = list(_rows())
        found = budget_status.of_many(rows)
        if as_json:
            told = [{**_facts(row), "worst": _worst(found[row.pk]), "others": found[row.pk].others} for row in rows]
            self._print_json(told)
            return
        if not rows:
            self._console.print("There are no budgets yet. `manage.py budgets --usual` shows the usual ones.")
            return
        table = _table("Nr", "Budget")
        for row in sorted(rows, key=lambda row: -_percent(found[row.pk])):
            worst = found[row.pk].worst
            name = str(row) if row.enabled else f"{row} (off)"
            table.add_row(str(row.pk), Text(name), *(_cells(worst) if worst else _nobody(row)))
        self._console.print(table)

    def _tell_one(self, row: Budget, *, as_json: bool) -> None:
        found, past = budget_status.of(row), budget_status.past(row)
        if as_json:
            told = {**_facts(row), "standings": [_document(one) for one in found.standings], "others": found.others}
            self._print_json(told | {"history": [_ended(one) for one in past]})
            return
        self._console.print(Text(f"{row}: {row.amount.normalize():f} USD", style="bold"))
        if found.standings:
            table = _table()
            for one in found.standings:
                table.add_row(*_cells(one))
            self._console.print(table)
        if found.others:
            more = "more " if found.standings else ""
            self._console.print(f"{found.others} {more}spent nothing in this period, or are not shown.")
        if any(one.used for one in past):
            before = Table("From", "Until", "Who", Column("Used", justify="right"))
            for one in past:
                before.add_row(
                    f"{one.span.start:%Y-%m-%d %H:%M %Z}",
                    f"{one.span.end:%Y-%m-%d %H:%M %Z}",
                    Text(one.who),
                    _usd(one.used),
                )
            self._console.print(before)

    def _print_json(self, told: Any) -> None:
        self.stdout.write(json.dumps(told, cls=DjangoJSONEncoder, indent=2))


def _told(change: Change) -> str:
    """Of one that is added, its amount tells enough."""
    if change.action == ADD:
        return f"add {change.name}: {change.fields['amount'][1]} USD"
    fields = ", ".join(f"{field} {before} → {after}" for field, (before, after) in change.fields.items())
    return f"{change.action} {change.name}: {fields}"


def _rows() -> Any:
    return Budget.objects.select_related("client_key", "team", "provider", "model__provider").order_by("pk")


def _table(*first: str) -> Table:
    right = {"justify": "right", "no_wrap": True}
    return Table(
        *first,
        Column("Who", overflow="fold"),
        Column("Used", **right),
        Column("Held", **right),
        Column("Of", **right),
        Column("", width=16),
        Column("%", **right),
        Column("Begins anew", no_wrap=True),
        Column("At this pace", overflow="fold"),
    )


def _cells(one: Standing) -> list[Any]:
    mark = "" if one.counted or one.span is None else "~"
    style = _STYLES[one.state]
    bar = ProgressBar(total=100, completed=min(100, one.percent), width=16, complete_style=style, finished_style=style)
    anew = f"{one.span.end:%Y-%m-%d %H:%M %Z}" if one.span is not None else "each request"
    if one.span is None:
        return [Text(one.who), "", "", _usd(one.amount), "", "", anew, ""]
    return [
        Text(one.who),
        mark + _usd(one.used),
        _usd(one.reserved) if one.reserved else "",
        _usd(one.amount),
        bar,
        Text(f"{one.percent:.0f}", style=style),
        anew,
        _pace(one),
    ]


def _nobody(row: Budget) -> list[str]:
    return ["nobody yet", "", "", _usd(row.amount), "", "", "", ""]


def _pace(one: Standing) -> str:
    if one.forecast is None:
        return ""
    if one.forecast.empty_at is not None:
        return f"empty {one.forecast.empty_at:%d %b %H:%M}"
    return f"{_usd(one.forecast.at_end)} at the end"


def _usd(amount: Decimal) -> str:
    return f"{amount:,.2f}" if amount >= Decimal("0.01") or not amount else f"{amount:.6f}"


def _percent(status: Status) -> float:
    return status.worst.percent if status.worst is not None else -1.0


def _worst(status: Status) -> dict[str, Any] | None:
    return _document(status.worst) if status.worst is not None else None


def _facts(row: Budget) -> dict[str, Any]:
    return {"id": row.pk, "name": str(row), "subject": row.subject, "period": row.period, "enabled": row.enabled}


def _document(one: Standing) -> dict[str, Any]:
    return {
        "who": one.who,
        "amount": one.amount,
        "raised": one.raised,
        "used": one.used,
        "reserved": one.reserved,
        "left": one.left,
        "state": one.state,
        "code": one.code,
        "counted": one.counted,
        "resets_at": one.span.end if one.span is not None else None,
        "forecast": one.forecast.at_end if one.forecast is not None else None,
        "empty_at": one.forecast.empty_at if one.forecast is not None else None,
    }


def _ended(one: Past) -> dict[str, Any]:
    return {"began_at": one.span.start, "ended_at": one.span.end, "who": one.who, "used": one.used}
