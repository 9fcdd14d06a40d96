"""`manage.py apply_config FILE`: bring the registry to what a file says, or only show what that would change."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser
from rich.console import Console
from rich.text import Text

from providers import actor, configuration
from providers.configuration import ADD, CHANGE, REMOVE, Applied, Change
from providers.importers.documents import FORMATS, LARGEST_BYTES
from providers.importers.drafts import SourceError
from providers.importers.findings import FAILED as FAILED_PROVIDER
from providers.importers.findings import Level
from providers.importers.runs import FAILED
from providers.management.teaching import TeachingCommand
from providers.secrets import SecretError

EXAMPLES = """
step by step:
  1. See what would change. Nothing is written:
       manage.py apply_config gateway.yaml
  2. Write it:
       manage.py apply_config gateway.yaml --apply
  3. Set the variables that it names, for the gateway's processes, or store the keys in the admin.

what it reads, told apart by its shape:
  version: 1                       our own, as `manage.py export_config` writes it
  provider_id: ...                 one provider, as scripts of the source systems write it, or a list of such
  providers: {...}                 the legacy gateway's YAML, also under additional_config, nested or flat

What the file does not name is left alone; --prune removes it, so export first. A key in it may be a secret, which is stored
encrypted, or a reference: env:NAME, file:PATH.

exit status:
  0  all well
  2  done, and some values need a person: they are marked red
  1  the file or the run failed; nothing of a provider is half written

docs/configuration-file.md describes every name.
"""

_SIGNS = {ADD: ("+", "green"), CHANGE: ("~", "yellow"), REMOVE: ("-", "red")}
_WIDTH_WITHOUT_A_TERMINAL = 160


class Command(TeachingCommand):
    help = "Bring the registry to what a YAML or JSON file says. Without --apply it only shows what would change."

    examples = EXAMPLES

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", metavar="FILE", help="What to read; `-` reads standard input.")
        parser.add_argument("--apply", action="store_true", help="Write what the dry run shows.")
        parser.add_argument("--prune", action="store_true", help="Also remove what the file does not name.")
        parser.add_argument("--format", choices=FORMATS, help="By default by the file's name, else what it looks like.")
        parser.add_argument(
            "--only", metavar="PROVIDER", nargs="+", default=[], help="These providers of the file only."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        path = options["file"]
        with actor.acting_as("command:apply_config"):
            try:
                applied = configuration.apply_document(
                    _content(path),
                    label="standard input" if path == "-" else str(Path(path).resolve()),
                    file_format=options["format"] or _format_of(path),
                    only=options["only"],
                    write=options["apply"],
                    prune=options["prune"],
                )
            except SourceError as error:
                raise CommandError(_printable(str(error)), returncode=FAILED) from error
            except SecretError as error:
                raise CommandError(f"A stored secret does not open: {error}", returncode=FAILED) from error
        if applied.exit_status == FAILED:
            raise CommandError(applied.message or "The run failed.", returncode=FAILED)
        out = self.stdout._out
        width = None if out.isatty() else _WIDTH_WITHOUT_A_TERMINAL
        show(Console(file=out, width=width, no_color=options["no_color"], soft_wrap=True, highlight=False), applied)
        if applied.exit_status:
            sys.exit(applied.exit_status)


def show(console: Console, applied: Applied) -> None:
    for change in applied.changes:
        console.print(_change(change))
    for finding in applied.findings:
        style = "red" if finding.code.level is Level.PERSON else "cyan"
        place = ".".join(filter(None, (finding.key, finding.field)))
        line = Text.assemble(
            (f"! {finding.code.name} ", style), (_printable(place), "bold"), f": {_printable(finding.detail)}"
        )
        console.print(line)
    _variables(console, applied)
    console.print(_summary(applied), style="bold")


def _change(change: Change) -> Text:
    sign, style = _SIGNS[change.action]
    name = " ".join(filter(None, (change.provider_id, change.kind if change.kind != "provider" else "", change.name)))
    line = Text.assemble((f"{sign} {_printable(name)}", style))
    for field, (before, after) in change.fields.items():
        line.append(f"\n    {_printable(field)}: ")
        if change.action == CHANGE:
            line.append(f"{_shown(before)}", "red")
            line.append(" → ")
        line.append(_shown(after), "green")
    return line


def _variables(console: Console, applied: Applied) -> None:
    if not applied.variables:
        return
    console.print("The gateway needs these variables of its environment before it can use the keys:")
    for variable in applied.variables:
        console.print(
            Text(f"    {_printable(variable.name)}  {'is set here' if variable.is_set else 'is not set here'}")
        )


def _summary(applied: Applied) -> Text:
    counts = {action: sum(change.action == action for change in applied.changes) for action in _SIGNS}
    told = f"{counts[ADD]:,} to add, {counts[CHANGE]:,} to change, {counts[REMOVE]:,} to remove."
    if not applied.changes:
        told = "The registry says all of this already."
    if applied.written:
        run = f" Run {applied.run_pk}: `manage.py migrate_backoffice --undo {applied.run_pk}` takes it back"
        run += ", except what was removed." if counts[REMOVE] else "."
        done = "Written"
        if any(finding.code is FAILED_PROVIDER for finding in applied.findings):
            done = "Written, except the providers that are marked `failed`"
        return Text(f"{done}: {told}{run}" if applied.changes else told)
    return Text(f"{told} Nothing was written; --apply does it." if applied.changes else told)


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return _printable(value) or '""'
    return _printable(json.dumps(value, ensure_ascii=False))


def _printable(text: str) -> str:
    """A file's text must not steer the terminal."""
    return "".join(one if one.isprintable() or one == "\n" else "\N{REPLACEMENT CHARACTER}" for one in text)


def _content(path: str) -> bytes:
    try:
        if path == "-":
            return sys.stdin.buffer.read(LARGEST_BYTES + 1)
        with open(path, "rb") as file:
            return file.read(LARGEST_BYTES + 1)
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}.", returncode=FAILED) from error


def _format_of(path: str) -> str:
    suffix = Path(path).suffix.lower()
    return {".json": "json", ".yaml": "yaml", ".yml": "yaml"}.get(suffix, "")
