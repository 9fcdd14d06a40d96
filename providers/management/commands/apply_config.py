"""`manage.py apply_config FILE …`: bring the registry to what files say, or only show what that would change."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser
from rich.console import Console
from rich.text import Text

from providers import actor, configuration
from providers.configuration import ADD, CHANGE, REMOVE, Applied, Change, Result
from providers.importers import runs
from providers.importers.documents import FORMATS, LARGEST_BYTES, format_of
from providers.importers.drafts import SourceError
from providers.importers.env_text import Variables
from providers.importers.findings import FAILED as FAILED_PROVIDER
from providers.importers.findings import Finding, Level
from providers.importers.runs import FAILED
from providers.management.teaching import TeachingCommand
from providers.models import ImportRun
from providers.secrets import SecretError

EXAMPLES = """
step by step:
  1. See what would change. Nothing is written:
       manage.py apply_config gateway.yaml
  2. Write it:
       manage.py apply_config gateway.yaml --apply
  3. Set the variables that it names, for the gateway's processes, or store the keys in the admin.
  4. Not as wanted? The last one is taken back by:
       manage.py apply_config --previous

what it reads, told apart by its shape:
  version: 1                       our own, as `manage.py export_config` writes it: providers, prices, policies, routing,
                                   teams, client_keys, limits, budgets
  provider_id: ...                 one provider, as scripts of the source systems write it, or a list of such
  providers: {...}                 the legacy gateway's YAML, also under additional_config, nested or flat
  providers: [{id: ...}]           a bridge's YAML, with default_models and routing
  policies: {...}, nodes: {...}    model policies and node requirements, in one file or in two
  NAME=value                       a .env file: KAMIWAZA_..., MODEL_BACKEND=..., OLLAMA_BASE_URL=..., OPENROUTER_API_KEY=...

What the file does not name is left alone; --prune removes it, so export first. A key in it may be a secret, which is stored
encrypted, or a reference: env:NAME, file:PATH.

files that rule:
  manage.py apply_config --own /etc/gateway.yaml       what it names is changed there only, and read-only in the admin
  manage.py apply_config --reload                      read all such files again; GATEWAY_CONFIG_FILES names some too
  manage.py apply_config --disown /etc/gateway.yaml    let go of what it owns

exit status:
  0  all well
  2  done, and some values need a person: they are marked red
  1  the file or the run failed; nothing of a provider is half written

docs/configuration-file.md describes every name.
"""

_SIGNS = {ADD: ("+", "green"), CHANGE: ("~", "yellow"), REMOVE: ("-", "red")}
_WIDTH_WITHOUT_A_TERMINAL = 160


class Command(TeachingCommand):
    help = "Bring the registry to what YAML, JSON or .env files say. Without --apply it only shows what would change."

    examples = EXAMPLES

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("files", metavar="FILE", nargs="*", help="What to read; `-` reads standard input.")
        parser.add_argument("--apply", action="store_true", help="Write what the dry run shows.")
        parser.add_argument("--prune", action="store_true", help="Also remove what the file does not name.")
        parser.add_argument("--format", choices=FORMATS, help="By default by the file's name, else what it looks like.")
        parser.add_argument(
            "--only", metavar="PROVIDER", nargs="+", default=[], help="These providers of the file only."
        )
        instead = parser.add_argument_group("instead").add_mutually_exclusive_group()
        instead.add_argument("--check", action="store_true", help="Only say what the files hold and what is wrong.")
        instead.add_argument("--from-env", action="store_true", help="Read this process's variables, not a file.")
        instead.add_argument("--own", action="store_true", help="Write it, and let the files own what they name.")
        instead.add_argument("--disown", action="store_true", help="Let go of what the files own.")
        instead.add_argument("--reload", action="store_true", help="Read all files again that own something.")
        instead.add_argument("--previous", action="store_true", help="Take back the last file that was written.")

    def handle(self, *args: Any, **options: Any) -> None:
        self._console = self._make_console(options)
        paths = options["files"]
        alone = next((name for name in ("from_env", "reload", "previous") if options[name]), "")
        if bool(paths) == bool(alone):
            told = (
                f"--{alone.replace('_', '-')} takes no file."
                if alone
                else "Name a file to read; `-` reads standard input."
            )
            raise CommandError(told, returncode=FAILED)
        with actor.acting_as("command:apply_config"):
            status = self._do(paths, options)
        if status:
            sys.exit(status)

    def _do(self, paths: list[str], options: dict[str, Any]) -> int:
        """Returns the exit status."""
        if options["previous"]:
            return self._take_back()
        if options["disown"]:
            for path in paths:
                configuration.disown(str(Path(path).resolve()))
                self._console.print(f"{_printable(path)} owns nothing any more.")
            return 0
        if options["reload"] or options["own"]:
            own = [configuration.own_file(str(Path(path).resolve())) for path in paths]
            return self._tell_of(own if paths else configuration.reload_files())
        if options["from_env"]:
            return self._apply(Variables(os.environ), "the environment", options)
        return max(self._apply(_content(path), _label(path), options, path) for path in paths)

    def _apply(self, content: bytes | Variables, label: str, options: dict[str, Any], path: str = "") -> int:
        try:
            applied = configuration.apply_document(
                content,
                label=label,
                file_format=options["format"] or format_of(path),
                only=options["only"],
                write=options["apply"] and not options["check"],
                prune=options["prune"],
            )
        except SourceError as error:
            raise CommandError(_printable(str(error)), returncode=FAILED) from error
        except SecretError as error:
            raise CommandError(f"A stored secret does not open: {error}", returncode=FAILED) from error
        if applied.exit_status == FAILED:
            raise CommandError(applied.message or "The run failed.", returncode=FAILED)
        if options["check"]:
            _contents(self._console, applied)
        else:
            show(self._console, applied)
        return applied.exit_status

    def _tell_of(self, results: list[Result]) -> int:
        status = 0
        for result in results:
            self._console.print(Text(_printable(result.path), "bold"))
            if result.error:
                self._console.print(Text(f"! {_printable(result.error)}", "red"))
                status = FAILED
            elif result.applied is not None:
                show(self._console, result.applied)
                status = status or result.applied.exit_status
        if not results:
            self._console.print("No file owns anything: GATEWAY_CONFIG_FILES names none, and --own was given none.")
        return status

    def _take_back(self) -> int:
        run = configuration.last_written()
        if run is None:
            raise CommandError("No file was written that could be taken back.", returncode=FAILED)
        result = runs.undo(runs.start(ImportRun.Kind.UNDO, run.source_label, actor=actor.current().name, undoes=run))
        if result.exit_status == FAILED:
            raise CommandError(result.message, returncode=FAILED)
        for found in result.examples.values():
            for finding in found:
                _tell(self._console, finding)
        told = f"Run {run.pk} ({run.source_label}) is taken back. {result.message}"
        self._console.print(Text(_printable(told.strip()), "bold"))
        return result.exit_status

    def _make_console(self, options: dict[str, Any]) -> Console:
        out = self.stdout._out
        width = None if out.isatty() else _WIDTH_WITHOUT_A_TERMINAL
        return Console(file=out, width=width, no_color=options["no_color"], soft_wrap=True, highlight=False)


def _contents(console: Console, applied: Applied) -> None:
    """What the file speaks of, without a value of it."""
    for member, names in applied.named.items():
        if names:
            console.print(Text.assemble((f"{member} ({len(names)})", "bold"), f": {_printable(', '.join(names))}"))
    for finding in applied.findings:
        _tell(console, finding)
    _variables(console, applied)
    told = "Some entries need a person." if applied.exit_status else "The file is well."
    console.print(Text(told, "bold"))


def show(console: Console, applied: Applied) -> None:
    for change in applied.changes:
        console.print(_change(change))
    for finding in applied.findings:
        _tell(console, finding)
    _variables(console, applied)
    console.print(_summary(applied), style="bold")


def _tell(console: Console, finding: Finding) -> None:
    style = "red" if finding.code.level is Level.PERSON else "cyan"
    place = ".".join(filter(None, (finding.key, finding.field)))
    console.print(
        Text.assemble(
            (f"! {finding.code.name} ", style), (_printable(place), "bold"), f": {_printable(finding.detail)}"
        )
    )


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
    refused = {(one.kind, one.name) for one in applied.refused}
    done = [change for change in applied.changes if change.provider_id or (change.kind, change.name) not in refused]
    counts = {action: sum(change.action == action for change in done) for action in _SIGNS}
    told = f"{counts[ADD]:,} to add, {counts[CHANGE]:,} to change, {counts[REMOVE]:,} to remove."
    if not applied.changes:
        return Text("The registry says all of this already.")
    if not applied.written:
        return Text(f"{told} Nothing was written; --apply does it.")
    if not done:
        return Text("Nothing was written: every entry was refused, for the reasons above.")
    run = f" Run {applied.run_pk}: `manage.py migrate_backoffice --undo {applied.run_pk}` takes it back"
    gone = any(change.action == REMOVE and change.provider_id for change in done)
    run += ", except what was removed of providers." if gone else "."
    return Text(f"Written{_exceptions(applied)}: {told}{run}")


def _exceptions(applied: Applied) -> str:
    told = []
    if applied.refused:
        told.append("one entry that is" if len(applied.refused) == 1 else f"{len(applied.refused):,} entries that are")
        told[0] += " marked `entry_refused`"
    if any(finding.code is FAILED_PROVIDER for finding in applied.findings):
        told.append("the providers that are marked `failed`")
    return f", except {' and '.join(told)}" if told else ""


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


def _label(path: str) -> str:
    return "standard input" if path == "-" else str(Path(path).resolve())
