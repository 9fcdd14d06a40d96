"""`manage.py models`: GGUF files, looked into and registered; registered ones compared with what lies there."""

from __future__ import annotations

import getpass
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table

from inference import model_files
from inference.engine.gguf_file import checksum
from inference.engine.spec import BUILTIN_DEMO
from inference.model_files import ModelFile, NotAdded
from providers import actor
from providers.models import ProviderModel
from providers.ownership import OwnedByFile

FAILED = 1
_CHANGED = "ANOTHER FILE than was registered; put that one back, or give the model this one's checksum (sha256)"


class Command(BaseCommand):
    help = "Look into GGUF model files, register them, and verify those that are registered. Ends with 1 where one is not as it was."

    def add_arguments(self, parser: CommandParser) -> None:
        steps = parser.add_subparsers(dest="step", required=True, metavar="STEP")

        def step(name: str, told: str, run: Callable[[dict[str, Any]], None]) -> CommandParser:
            one: CommandParser = steps.add_parser(name, help=told)
            one.set_defaults(run=run)
            return one

        show = step("show", "What a file says of itself; nothing is written.", self._show)
        show.add_argument("path", metavar="PATH", type=Path)
        show.add_argument("--json", action="store_true", help="For programs.")
        add = step("add", "Show it, take its checksum and register it.", self._add)
        add.add_argument("path", metavar="PATH", type=Path, help="A GGUF file; of a split model, its first part.")
        add.add_argument("--provider", default="", help="Where there are several that load GGUF files.")
        add.add_argument("--id", default="", dest="model_id", help="The name that clients ask for; else the file's.")
        add.add_argument("--context", type=int, metavar="TOKENS", help="Prompt and answer together; else up to 4096.")
        add.add_argument("--gpu-layers", type=int, metavar="N", help="Layers to put on a GPU; -1 for all.")
        add.add_argument("--preload", action="store_true", help="Load it when a worker starts.")
        add.add_argument("--no-checksum", action="store_true", help="Trust the file as it is at every load.")
        add.add_argument("--dry-run", action="store_true", help="Say what would be registered.")
        verify = step("verify", "Read registered files again and compare their checksums.", self._verify)
        verify.add_argument("names", nargs="*", metavar="PROVIDER/MODEL", help="Else all that have a checksum.")

    def handle(self, *args: Any, **options: Any) -> None:
        with actor.acting_as(f"command:models ({getpass.getuser()})"):
            try:
                options["run"](options)
            except (NotAdded, OwnedByFile) as error:
                raise CommandError(str(error)) from None
            except ValidationError as error:
                raise CommandError("; ".join(error.messages)) from None

    def _show(self, options: dict[str, Any]) -> None:
        file = model_files.inspect(options["path"])
        if options["json"]:
            self.stdout.write(json.dumps({**_facts(file), "template_text": file.template}, indent=2))
        else:
            self._print(file)

    def _add(self, options: dict[str, Any]) -> None:
        file = model_files.inspect(options["path"])
        self._print(file)
        provider = model_files.provider_named(options["provider"])
        wished = {"context_size": options["context"], "gpu_layers": options["gpu_layers"]}
        parameters = {name: value for name, value in wished.items() if value is not None}
        if options["preload"]:
            parameters["preload"] = True
        if options["dry_run"]:
            new = "" if provider.pk else " (a new provider)"
            self.stdout.write(f"would be {provider.provider_id}/{options['model_id'] or file.model_id}{new}")
            return
        sha256 = "" if options["no_checksum"] else self._checksum(file.parts, file.size_bytes)
        row = model_files.register(file, provider, model_id=options["model_id"], sha256=sha256, parameters=parameters)
        self.stdout.write(self.style.SUCCESS(f"{row.route} is registered."))
        self.stdout.write(f"Ask it: manage.py ask --model {row.route} 'Hello'")

    def _verify(self, options: dict[str, Any]) -> None:
        rows = [row for row in _registered() if not options["names"] or row.route in options["names"]]
        if missing := set(options["names"]) - {row.route for row in rows}:
            raise CommandError(f"not registered with a file: {', '.join(sorted(missing))}")
        wrong = 0
        for row in rows:
            registered = row.parameters.get("sha256")
            if not registered:
                self.stdout.write(f"{row.route}: no checksum was taken")
                continue
            try:
                file = model_files.inspect(Path(row.parameters["model_path"]))
                same = self._checksum(file.parts, file.size_bytes) == registered.lower()
                verdict = self.style.SUCCESS("as registered") if same else self.style.ERROR(_CHANGED)
            except NotAdded as error:
                same, verdict = False, self.style.ERROR(str(error))
            wrong += not same
            self.stdout.write(f"{row.route}: {verdict}")
        if wrong:
            raise SystemExit(FAILED)

    def _checksum(self, parts: tuple[Path, ...], size: int) -> str:
        columns = (TextColumn("checksum"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("checksum", total=size)
            return checksum(parts, lambda count: progress.advance(task, count))

    def _print(self, file: ModelFile) -> None:
        table = Table(show_header=False, box=None)
        for name, value in _facts(file).items():
            table.add_row(name.replace("_", " "), ", ".join(value) if isinstance(value, list) else str(value))
        Console(file=self.stdout._out, highlight=False).print(table)


def _registered() -> list[ProviderModel]:
    rows = ProviderModel.objects.select_related("provider").filter(provider__provider_type=model_files.KIND)
    return [row for row in rows if row.parameters.get("model_path") not in (None, "", BUILTIN_DEMO)]


def _facts(file: ModelFile) -> dict[str, Any]:
    return {
        "file": str(file.path),
        "name": file.name or "(none)",
        "architecture": file.architecture,
        "parameters": file.size_label or "(not said)",
        "quantisation": file.quantisation or "(not said)",
        "size": f"{file.size_bytes:,} bytes" + (f" in {len(file.parts)} parts" if len(file.parts) > 1 else ""),
        "trained_context": file.context,
        "embedding_length": file.dimension,
        "type": file.kind,
        "template": f"{len(file.template)} characters" if file.template else "none; ChatML will be used",
        "capabilities": list(file.capabilities),
    }
