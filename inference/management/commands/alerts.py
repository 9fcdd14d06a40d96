"""`manage.py alerts`: what is wrong now, what is watched, and whether channels work."""

from __future__ import annotations

import getpass
import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.serializers.json import DjangoJSONEncoder
from django.utils import timezone
from rich.console import Console
from rich.table import Column, Table

from inference import alert_delivery, alert_judging
from inference.alert_models import SENT, AlertChannel, AlertIncident, AlertRule
from inference.alert_signals import SIGNALS
from providers import actor, cells

_MOST = 50


class Command(BaseCommand):
    help = (
        "List the incidents of alerts, those under way first; or the rules. Celery beat judges rules every 15 seconds and sends "
        "messages every 5; --judge does both now, once. Rules are made in the admin, by REST, or with apply_config."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--rules", action="store_true", help="List the rules in place of the incidents.")
        parser.add_argument(
            "--judge", action="store_true", help="Judge every rule and send what is due, before listing."
        )
        parser.add_argument(
            "--test", metavar="CHANNEL", help="Send a test message to a channel, and say what came of it."
        )
        parser.add_argument(
            "--acknowledge", metavar="NUMBER", type=int, help="Look after an incident: no more reminders."
        )
        parser.add_argument("--json", action="store_true", help="Print the list as JSON.")

    def handle(self, *args: Any, **options: Any) -> None:
        me = f"command:alerts ({getpass.getuser()})"
        with actor.acting_as(me):
            if options["test"]:
                self._test(options["test"], me)
                return
            if options["acknowledge"]:
                self._acknowledge(options["acknowledge"], me)
            if options["judge"]:
                turned = alert_judging.judge_all(timezone.now())
                sent = alert_delivery.send_due(timezone.now())
                self.stderr.write(f"Incidents that began or ended: {turned}. Messages that were taken: {sent}.")
        documents = [_rule(row) for row in AlertRule.objects.all()] if options["rules"] else _incidents()
        if options["json"]:
            self.stdout.write(json.dumps(documents, cls=DjangoJSONEncoder, indent=2))
            return
        console = Console(file=self.stdout._out, highlight=False)
        (_show_rules if options["rules"] else _show_incidents)(console, documents)

    def _test(self, name: str, by: str) -> None:
        channel = AlertChannel.objects.filter(name=name).first()
        if channel is None:
            known = ", ".join(AlertChannel.objects.values_list("name", flat=True)) or "none yet"
            raise CommandError(f"There is no channel {name!r}. There are: {known}.")
        delivery = alert_delivery.send_test(channel, by)
        if delivery.state != SENT:
            raise CommandError(f"The message was not taken: {delivery.error}")
        self.stdout.write("The message was taken.")

    def _acknowledge(self, number: int, by: str) -> None:
        incident = AlertIncident.objects.filter(pk=number).first()
        if incident is None:
            raise CommandError(f"There is no incident {number}.")
        incident.acknowledge(by, timezone.now())


def _incidents() -> list[dict[str, Any]]:
    under_way = list(AlertIncident.objects.filter(ended_at__isnull=True)[:_MOST])
    over = list(AlertIncident.objects.filter(ended_at__isnull=False)[: _MOST - len(under_way)])
    return [
        {
            "number": one.pk,
            "rule": one.rule_name,
            "subject": one.subject_name,
            "condition": one.condition,
            "value": one.amount(one.value),
            "worst": one.amount(one.worst),
            "began_at": one.began_at,
            "ended_at": one.ended_at,
            "acknowledged_by": one.acknowledged_by,
            "acted": one.acted,
        }
        for one in [*under_way, *over]
    ]


def _rule(rule: AlertRule) -> dict[str, Any]:
    return {
        "name": rule.name,
        "enabled": rule.enabled,
        "condition": rule.condition if rule.signal in SIGNALS else rule.signal,
        "told_for": rule.told_for,
        "channels": rule.channels,
        "action": rule.action,
    }


def _show_incidents(console: Console, documents: list[dict[str, Any]]) -> None:
    if not documents:
        console.print("Nothing has happened yet. --rules lists what is watched.")
        return
    table = Table("No.", "State", "Rule", Column("What", overflow="fold"), "Now", "At its worst", "Began", box=None)
    for one in documents:
        state = "over" if one["ended_at"] else "looked after" if one["acknowledged_by"] else "under way"
        style = {"over": "green", "looked after": "yellow", "under way": "red"}[state]
        table.add_row(
            str(one["number"]),
            f"[{style}]{state}[/]",
            one["rule"],
            one["subject"],
            one["value"],
            one["worst"],
            cells.relative(one["began_at"]),
        )
    console.print(table)


def _show_rules(console: Console, documents: list[dict[str, Any]]) -> None:
    if not documents:
        console.print("Nothing is watched. Apply a file with the member `alerts`, or add a rule in the admin.")
        return
    table = Table("Rule", "On", Column("Fires when", overflow="fold"), "Told for", "Tells", "Does", box=None)
    for one in documents:
        tells = ", ".join(one["channels"]) or "every channel"
        table.add_row(
            *(one["name"], "yes" if one["enabled"] else "no", one["condition"], one["told_for"], tells, one["action"])
        )
    console.print(table)
