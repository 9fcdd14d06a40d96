"""`manage.py audit`: look at the audit log, write it to a file, verify its chain."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.core.management import call_command
from django.core.management.base import CommandError, CommandParser
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from rich.console import Console
from rich.table import Table
from rich.text import Text

from providers import audit_files
from providers.importers.runs import FAILED
from providers.management.teaching import TeachingCommand

EXAMPLES = """
examples:
  manage.py audit list --type clientkey --limit 20
  manage.py audit list --actor user:ada --since 2026-11-01
  manage.py audit export --since 2026-11-01 > audit.csv
  manage.py audit export --format json --action delete
  manage.py audit verify

Secrets are fingerprints in it, as everywhere. A file has 100,000 entries at most, the newest first: narrow it by --until.
"""
_WIDTH_WITHOUT_A_TERMINAL = 160
_STYLES = {"create": "green", "delete": "red"}


class Command(TeachingCommand):
    help = "Look at the audit log, write it to a file, verify its chain."
    examples = EXAMPLES

    def add_arguments(self, parser: CommandParser) -> None:
        whats = parser.add_subparsers(dest="what", required=True, metavar="WHAT")
        listed = whats.add_parser("list", help="Entries, newest first.")
        listed.add_argument("--limit", type=int, default=50)
        export = whats.add_parser("export", help="CSV or JSON lines on standard output.")
        export.add_argument("--format", choices=("csv", "json"), default="csv")
        for one in (listed, export):
            one.add_argument("--actor", default="", help="Such as user:ada or command:client_keys (ada).")
            one.add_argument("--action", default="", help="Such as create, update or delete.")
            one.add_argument("--type", default="", help="Such as clientkey, policy or budget.")
            one.add_argument("--object", default="", help="Its name, as entries have it.")
            one.add_argument("--request-id", default="")
            one.add_argument("--since", type=_moment, metavar="TIME", help="A day or a time, such as 2026-11-01.")
            one.add_argument("--until", type=_moment, metavar="TIME")
        whats.add_parser("verify", help="As `verify_audit`: walk the chain and name every break.")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["what"] == "verify":
            call_command("verify_audit", stdout=self.stdout, stderr=self.stderr)
            return
        rows = audit_files.narrowed(
            since=options["since"],
            until=options["until"],
            actor=options["actor"],
            action=options["action"],
            target_type=options["type"],
            target_id=options["object"],
            request_id=options["request_id"],
        )
        if options["what"] == "list":
            self._list(list(rows[: max(0, options["limit"])]))
            return
        for line in audit_files.lines(rows, options["format"]):
            self.stdout.write(line, ending="")

    def _list(self, entries: list[Any]) -> None:
        table = Table(box=None, pad_edge=False)
        for column in ("When", "Who", "Action", "Kind", "Object", "Changed", "Why"):
            table.add_column(column)
        for entry in entries:
            table.add_row(
                f"{timezone.localtime(entry.at):%Y-%m-%d %H:%M:%S}",
                Text(entry.actor),
                Text(entry.action, _STYLES.get(entry.action, "yellow")),
                entry.target_type,
                Text(entry.target_id),
                Text(", ".join(audit_files.changed(entry)[:4])),
                Text(entry.reason),
            )
        width = None if self.stdout.isatty() else _WIDTH_WITHOUT_A_TERMINAL
        Console(file=self.stdout._out, highlight=False, width=width).print(table)


def _moment(told: str) -> datetime:
    try:
        found = parse_datetime(told) or datetime.fromisoformat(told)
    except ValueError as error:
        raise CommandError(f"{told!r} is no time; write 2026-11-01 or 2026-11-01T08:00.", returncode=FAILED) from error
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
