"""`manage.py breakers`: which routes are out of service and until when, and the ways back."""

from __future__ import annotations

import getpass
import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.serializers.json import DjangoJSONEncoder
from rich.console import Console
from rich.table import Column, Table

from providers import actor, cells
from providers.models import ProviderModel
from providers.ownership import OwnedByFile
from routing import health, health_actions, route_health
from routing.route_health import RestingKey, RouteHealth

_STYLES = {"auto_disabled": "red", "open": "red", "keys_exhausted": "yellow", "half_open": "yellow", "closed": "green"}


class Command(BaseCommand):
    help = (
        "List the circuit breakers of the models that were called, the worst first, and the keys that rest; or reset them. "
        "Every process follows within a second."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--reset", metavar="ROUTE", help="Close it now: provider/model, or a provider with its keys."
        )
        parser.add_argument("--open", metavar="ROUTE", help="Open it now: a provider/model is not asked for its pause.")
        parser.add_argument("--off", metavar="ROUTE", help="Switch a provider/model, or a provider, off until --on.")
        parser.add_argument("--on", metavar="ROUTE", help="Switch it on again.")
        parser.add_argument("--enable", metavar="ROUTE", help="Put back what the gateway took out of service.")
        parser.add_argument("--reason", default="", metavar="TEXT", help="Why; kept in the audit log.")
        parser.add_argument("--json", action="store_true", help="Print the list as JSON.")

    def handle(self, *args: Any, **options: Any) -> None:
        with actor.acting_as(f"command:breakers ({getpass.getuser()})", reason=options["reason"][:500]):
            try:
                self._do(options)
            except (ProviderModel.DoesNotExist, health.NotShared, OwnedByFile) as error:
                raise CommandError(str(error)) from None
        seen = health.look()
        rows, keys = route_health.routes(seen), route_health.resting_keys(seen)
        if options["json"]:
            self.stdout.write(json.dumps(_documents(rows, keys), cls=DjangoJSONEncoder, indent=2))
        else:
            _show(Console(file=self.stdout._out, highlight=False), rows, keys)

    def _do(self, options: dict[str, Any]) -> None:
        if options["reset"]:
            done = health_actions.reset(*health_actions.named(options["reset"]))
            self.stderr.write(f"Reset {', '.join(done.routes) or 'nothing: every breaker was well'}.")
            if done.keys:
                self.stderr.write(f"Keys that are tried again: {', '.join(map(str, done.keys))}.")
        if options["open"]:
            provider_id, model_id = health_actions.named(options["open"])
            if model_id is None:
                raise CommandError("A breaker belongs to a model: name provider/model, or switch the provider --off.")
            seconds = health_actions.open_breaker(provider_id, model_id)
            self.stderr.write(f"Opened {options['open']}: not asked for {seconds:g} s.")
        for name, on in (("off", False), ("on", True)):
            if options[name]:
                done = health_actions.switch(*health_actions.named(options[name]), on=on)
                self.stderr.write(f"{options[name]} is {name}{'' if done else ' already'}.")
        if options["enable"]:
            provider_id, model_id = health_actions.named(options["enable"])
            rows = ProviderModel.objects.filter(provider__provider_id=provider_id).select_related("provider")
            back = health_actions.enable_again(rows.filter(model_id=model_id) if model_id else rows)
            self.stderr.write(f"In service again: {', '.join(back) or 'nothing was out'}.")


def _show(console: Console, rows: list[RouteHealth], keys: list[RestingKey]) -> None:
    if not rows:
        console.print("Nothing was called in the last seven days, and nothing is out of service.")
    else:
        table = Table(
            Column("Route", overflow="fold"),
            Column("State", no_wrap=True),
            "Back",
            Column("Failures", overflow="fold"),
            "Calls",
            "Success",
            "Latency",
        )
        for row in rows:
            known = row.condition
            failures = f"{known.failures} in a row: {row.code}" if known.failures else ""
            table.add_row(
                row.route,
                f"[{_STYLES[row.state]}]{row.state}[/]",
                row.auto_disabled_reason or _back(row),
                failures,
                str(known.calls or ""),
                "" if known.success_rate is None else f"{100 * known.success_rate:.1f} %",
                "" if known.latency_seconds is None else f"{1000 * known.latency_seconds:.0f} ms",
            )
        console.print(table)
    for key in keys:
        console.print(f"Key {key.name} of {key.provider_id} rests, back {cells.relative(key.until)}: {key.code}")


def _back(row: RouteHealth) -> str:
    at = row.retry_at or row.keys_back_at
    return cells.relative(at) if at else ""


def _documents(rows: list[RouteHealth], keys: list[RestingKey]) -> dict[str, Any]:
    return {
        "breakers": [
            {
                "route": row.route,
                "state": row.state,
                "retry_at": row.retry_at,
                "keys_back_at": row.keys_back_at,
                "failures": row.condition.failures,
                "last_failure_at": row.last_failure_at,
                "last_failure_code": row.code,
                "calls": row.condition.calls,
                "success_rate": row.condition.success_rate,
                "latency_seconds": row.condition.latency_seconds,
                "auto_disabled_reason": row.auto_disabled_reason,
            }
            for row in rows
        ],
        "exhausted_keys": [
            {"key_id": key.pk, "provider_id": key.provider_id, "until": key.until, "code": key.code} for key in keys
        ],
    }
