"""`manage.py import_client_keys`: take over the client keys of another system, so that its clients change nothing."""

from __future__ import annotations

import getpass
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from providers import actor
from providers.secrets import Secret
from routing import key_imports, key_sources
from routing.foreign_keys import LITELLM, ONE_API, OTHER
from routing.key_imports import NEW, BadSource, Planned

SOURCE_VARIABLE = "GATEWAY_KEYS_DATABASE_URL"


class Command(BaseCommand):
    help = (
        "Take over the client keys that another system issued, so that its clients go on with the keys that they have. Without "
        "--apply it only shows what it would do. Keys are stored as digests: of LiteLLM's, whose database holds their SHA-256, "
        "nobody needs to know the key. What is here already stays as it is, so it may be run again. One record that cannot be "
        "read, and nothing is written. Imported keys hold the scope 'generate' and no other."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "system",
            choices=[LITELLM, ONE_API, OTHER],
            help="Whose keys: litellm; one-api (and new-api); other, with the columns key or sha256, and name, team, enabled, "
            "expires_at, allowed_models, ip_ranges and tags as there are.",
        )
        parser.add_argument("--file", metavar="FILE", type=Path, help="CSV with a line of names, or JSON.")
        parser.add_argument(
            "--database",
            metavar="URL",
            help="That system's database, opened for reading only: postgresql://, mysql:// or sqlite:////. Better in "
            f"{SOURCE_VARIABLE}, where other users of this machine do not see its password.",
        )
        parser.add_argument(
            "--team", default="", metavar="TEAM", help="Put all keys into this team, whatever they say."
        )
        parser.add_argument("--apply", action="store_true", help="Write what the dry run shows.")
        parser.add_argument("--json", action="store_true", help="One JSON document instead of a table.")

    def handle(self, *args: Any, **options: Any) -> None:
        system, team = options["system"], options["team"]
        try:
            planned = key_imports.plan(system, _records(options), team=team)
            if options["apply"]:
                with actor.acting_as(f"command:import_client_keys ({getpass.getuser()})"):
                    key_imports.write(system, planned, team=team)
        except BadSource as error:
            raise CommandError("Nothing was written.\n" + "\n".join(error.sentences[:20])) from None
        except ValidationError as error:
            raise CommandError(f"Nothing was written. {'; '.join(error.messages)}") from None
        if options["json"]:
            self.stdout.write(json.dumps([_document(one) for one in planned], indent=2))
            return
        _show(Console(file=self.stdout._out, highlight=False), planned, applied=options["apply"])


def _records(options: dict[str, Any]) -> key_sources.Records:
    path, url = options["file"], options["database"]
    if path is not None and url:
        raise CommandError("Say --file or --database, not both.")
    if path is not None:
        return key_sources.from_file(path)
    url = url or os.environ.get(SOURCE_VARIABLE, "")
    if not url:
        raise CommandError(f"Say where the keys are: --file FILE, --database URL, or {SOURCE_VARIABLE}.")
    return key_sources.from_database(options["system"], Secret(url))


def _document(one: Planned) -> dict[str, Any]:
    key = one.key
    return {
        "name": key.name,
        "becomes": one.becomes,
        "prefix": one.prefix or None,
        "enabled": key.enabled,
        "expires_at": None if key.expires_at is None else key.expires_at.isoformat(),
        "allowed_models": key.allowed_models,
        "team": key.team or None,
        "limits": dict(key.limits),
        "budget": None if key.budget is None else {"period": key.budget[0], "amount": str(key.budget[1])},
        "remarks": list(one.remarks),
    }


def _show(console: Console, planned: list[Planned], *, applied: bool) -> None:
    table = Table(Column("Key", overflow="fold"), "Becomes", Column("Models", overflow="fold"), "Expires", "Remarks")
    for one in planned:
        key = one.key
        models = "all" if key.allowed_models is None else ", ".join(key.allowed_models) or "none"
        expires = "never" if key.expires_at is None else f"{key.expires_at:%Y-%m-%d}"
        state = one.becomes if key.enabled or one.becomes != NEW else "new, suspended"
        table.add_row(*map(Text, (key.name, state, models, expires, "; ".join(one.remarks))))
    if planned:
        console.print(table)
    told = Counter(one.becomes for one in planned)
    counts = ", ".join(f"{count} {becomes}" for becomes, count in told.items()) or "no keys"
    console.print(f"{counts}. {_end(told[NEW], applied)}")


def _end(new: int, applied: bool) -> str:
    if applied:
        return "Written." if new else "There was nothing to write."
    return "Nothing was written; --apply writes." if new else "There is nothing to write."
