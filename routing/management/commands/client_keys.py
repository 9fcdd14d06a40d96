"""`manage.py client_keys`: see, create, rotate, suspend, resume and revoke client keys."""

from __future__ import annotations

import getpass
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import CommandError, CommandParser
from django.core.serializers.json import DjangoJSONEncoder
from django.utils import timezone
from rich.console import Console
from rich.table import Table
from rich.text import Text

from providers import actor
from providers.importers.runs import FAILED
from providers.management.teaching import TeachingCommand
from providers.secrets import Secret
from routing import issuing
from routing.client_keys import SCOPES
from routing.models import ClientKey, Team

EXAMPLES = """
examples:
  manage.py client_keys list --team research
  manage.py client_keys create "search assistant" --team research --model 'gpt-*' --expires-days 90
  manage.py client_keys rotate gw-1a2b3c4d5e6f --overlap-hours 24
  manage.py client_keys suspend gw-1a2b3c4d5e6f
  manage.py client_keys resume gw-1a2b3c4d5e6f
  manage.py client_keys revoke gw-1a2b3c4d5e6f --reason "It was in a public repository"

A key is named by its prefix. What create and rotate print last is the key itself: it is shown this once and stored nowhere.
Limits and budgets of a key are rows of their own: see `manage.py apply_config --help`, /api/v1/limits and /api/v1/budgets.

exit status:
  0  all well
  1  nothing was done; the last line says why
"""
_WIDTH_WITHOUT_A_TERMINAL = 160
_MOST_LISTED = 1000
_STYLES = {"active": "green", "revoked": "red", "expired": "yellow", "team off": "yellow"}


class Command(TeachingCommand):
    help = "See, create, rotate, suspend, resume and revoke client keys."
    examples = EXAMPLES

    def add_arguments(self, parser: CommandParser) -> None:
        whats = parser.add_subparsers(dest="what", required=True, metavar="WHAT")
        listed = whats.add_parser("list", help="All keys, or some.")
        listed.add_argument("--team", help="Of this team only.")
        listed.add_argument("--json", action="store_true", help="Print JSON, for programs.")
        create = whats.add_parser("create", help="A new key; the last line is the key itself.")
        create.add_argument("name")
        create.add_argument("--team", help="Whose it is.")
        create.add_argument("--scope", action="append", choices=SCOPES, help="By default generate; may be said again.")
        create.add_argument("--model", action="append", metavar="PATTERN", help="Models that it may name.")
        create.add_argument("--policy", action="append", metavar="PATTERN", help="Policies that it may name.")
        create.add_argument("--provider", action="append", metavar="PATTERN", help="Who alone gets its requests.")
        create.add_argument("--address", action="append", metavar="RANGE", help="Where it may come from.")
        create.add_argument("--tag", action="append", default=[], help="Put on its requests.")
        create.add_argument("--expires-days", type=float, metavar="DAYS", help="By default it does not expire.")
        rotate = self._about_one(whats, "rotate", "Another secret for the same key; the last line is the secret.")
        rotate.add_argument(
            "--overlap-hours", type=float, default=0.0, help="How long the one before stays good; 0: not."
        )
        self._about_one(whats, "suspend", "Let it in no more, until it is resumed.")
        self._about_one(whats, "resume", "Let it in again.")
        revoke = self._about_one(whats, "revoke", "For good.")
        revoke.add_argument("--reason", required=True, help="Kept with the key and in the audit log.")

    def _about_one(self, whats: Any, name: str, told: str) -> CommandParser:
        parser: CommandParser = whats.add_parser(name, help=told)
        parser.add_argument("prefix", help="Such as gw-1a2b3c4d5e6f.")
        return parser

    def handle(self, *args: Any, **options: Any) -> None:
        what: Callable[[dict[str, Any]], None] = getattr(self, f"_{options['what']}")
        who = f"command:client_keys ({getpass.getuser()})"
        with actor.acting_as(who, reason=str(options.get("reason") or "")[:500]):
            try:
                what(options)
            except ValidationError as error:
                raise CommandError(_told(error), returncode=FAILED) from error

    def _list(self, options: dict[str, Any]) -> None:
        rows = ClientKey.objects.select_related("team").order_by("-created_at")
        if options["team"]:
            rows = rows.filter(team=self._team(options["team"]))
        keys = list(rows[:_MOST_LISTED])
        if options["json"]:
            self.stdout.write(json.dumps([_document(key) for key in keys], indent=2, cls=DjangoJSONEncoder))
            return
        table = Table(box=None, pad_edge=False)
        for column in ("Prefix", "Name", "Team", "Models", "Expires", "Last used", "State"):
            table.add_column(column)
        for key in keys:
            models = "all" if key.allowed_models is None else ", ".join(key.allowed_models[:3])
            table.add_row(
                key.prefix,
                Text(key.name),
                Text(key.team.name if key.team is not None else ""),
                Text(models),
                _day(key.expires_at) or "never",
                _day(key.last_used_at) or "never",
                Text(key.state, _STYLES.get(key.state, "")),
            )
        Console(
            file=self.stdout._out,
            highlight=False,
            width=None if self.stdout.isatty() else _WIDTH_WITHOUT_A_TERMINAL,
        ).print(table)

    def _create(self, options: dict[str, Any]) -> None:
        days = options["expires_days"]
        key, plaintext = issuing.issue(
            options["name"],
            options["scope"] or ["generate"],
            team=self._team(options["team"]) if options["team"] else None,
            allowed_models=options["model"],
            allowed_policies=options["policy"],
            allowed_providers=options["provider"],
            ip_ranges=options["address"],
            tags=options["tag"],
            expires_at=timezone.now() + timedelta(days=days) if days is not None else None,
        )
        self._show_once(key, plaintext)

    def _rotate(self, options: dict[str, Any]) -> None:
        key = self._key(options["prefix"])
        self._show_once(key, issuing.rotate(key, timedelta(hours=options["overlap_hours"])))

    def _suspend(self, options: dict[str, Any]) -> None:
        key = self._key(options["prefix"])
        key.suspend()
        self.stdout.write(f"{key} is suspended.")

    def _resume(self, options: dict[str, Any]) -> None:
        key = self._key(options["prefix"])
        key.resume()
        self.stdout.write(f"{key} is in service again.")

    def _revoke(self, options: dict[str, Any]) -> None:
        key = self._key(options["prefix"])
        key.revoke(options["reason"])
        self.stdout.write(f"{key} is revoked: no process lets it in any more in two seconds.")

    def _show_once(self, key: ClientKey, plaintext: Secret) -> None:
        """What is said goes beside the key, so that a script may take the output for the key."""
        self.stderr.write(f"{key}: shown this once and stored nowhere.")
        self.stdout.write(plaintext.reveal())

    def _key(self, prefix: str) -> ClientKey:
        key = ClientKey.objects.filter(prefix=prefix.rstrip("…")).first()
        if key is None:
            raise CommandError(
                f"No client key has the prefix {prefix!r}; `client_keys list` shows them.", returncode=FAILED
            )
        return key

    def _team(self, name: str) -> Team:
        team = Team.objects.filter(name=name).first()
        if team is None:
            raise CommandError(f"There is no team {name!r}.", returncode=FAILED)
        return team


def _day(at: datetime | None) -> str:
    return f"{timezone.localtime(at):%Y-%m-%d %H:%M}" if at is not None else ""


def _document(key: ClientKey) -> dict[str, Any]:
    names = ("name", "prefix", "scopes", "allowed_models", "allowed_policies", "allowed_providers", "ip_ranges", "tags")
    told = {name: getattr(key, name) for name in names}
    told |= {"team": key.team.name if key.team is not None else None, "state": key.state}
    return told | {name: getattr(key, name) for name in ("expires_at", "last_used_at", "last_used_from", "created_at")}


def _told(error: ValidationError) -> str:
    if hasattr(error, "error_dict"):
        return " ".join(f"{name}: {' '.join(told)}" for name, told in error.message_dict.items())
    return " ".join(error.messages)
