"""`manage.py batches`: list them, show one and follow it, cancel one, or make one of a file of requests or prompts."""

from __future__ import annotations

import getpass
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column, Table

from inference import batch_lists, batches, kept_files
from inference.batch_endpoints import ENDPOINTS
from inference.batch_models import Batch
from inference.batch_shares import PRIORITIES
from inference.errors import GatewayError
from inference.file_models import KeptFile
from providers import actor, audit, cells
from routing.models import ClientKey

_LOOK_SECONDS = 0.5
_WIDE = 160
_LIMITS = {"/v1/responses": "max_output_tokens"}
"""How an endpoint calls the most tokens of an answer, where it has a word of its own."""


class Command(BaseCommand):
    help = "List batches, show or follow one, cancel one, or submit a file of requests or of prompts."

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        listing = verbs.add_parser("list", help="The newest first.")
        listing.add_argument("--state", choices=[*Batch.State.values, batch_lists.WORKING], default="")
        listing.add_argument("--key", default="", help="Prefix of the client key that asked.")
        listing.add_argument("--json", action="store_true", help="For programs.")
        show = verbs.add_parser("show", help="How one stands, as JSON.")
        show.add_argument("batch")
        show.add_argument("--follow", action="store_true", help="A progress bar until it is over.")
        cancel = verbs.add_parser("cancel", help="Begin no further line of it; what is answered is kept.")
        cancel.add_argument("batch")
        submit = verbs.add_parser(
            "submit", help="A JSONL file of requests as OpenAI's batches take them; or a text file, each line a prompt."
        )
        submit.add_argument("file", type=Path)
        submit.add_argument("--key", required=True, help="Prefix of the client key in whose name it is asked.")
        submit.add_argument("--model", default="", help="Each line of the file is a prompt for this model.")
        submit.add_argument("--max-tokens", type=int, default=None, help="Of each answer, with --model.")
        submit.add_argument("--endpoint", choices=list(ENDPOINTS), default="/v1/chat/completions")
        submit.add_argument("--priority", choices=list(PRIORITIES), default="normal")
        submit.add_argument("--window", default="", help="off_peak, or hours such as 22:00-06:00.")
        submit.add_argument("--output", type=Path, default=None, help="Wait for the end, and write the answers there.")
        submit.add_argument("--no-wait", action="store_true", help="Say its id and go.")

    def handle(self, *args: Any, **options: Any) -> None:
        with actor.acting_as(f"command:batches ({getpass.getuser()})"):
            getattr(self, f"_{options['verb']}")(options)

    def _list(self, options: dict[str, Any]) -> None:
        found = batch_lists.page(Batch.objects.all(), state=options["state"], key=options["key"])
        if options["json"]:
            self.stdout.write(json.dumps([batches.document(batch) for batch in found.rows], indent=2))
            return
        table = Table(
            Column("Batch", no_wrap=True, min_width=38), "State", "Lines", "Failed", "USD", "Model", "Key", "Created"
        )
        for one in found.rows:
            lines = f"{batch_lists.answered(one)}/{one.total}"
            state = f"{one.state} ({one.held})" if one.held else one.state
            facts = (
                lines,
                str(one.failed),
                cells.amount(one.cost),
                one.model,
                one.owner,
                cells.relative(one.created_at),
            )
            table.add_row(one.pk, state, *facts)
        # Whatever reads a pipe wants whole words.
        width = None if self.stdout.isatty() else _WIDE
        Console(file=self.stdout._out, highlight=False, width=width).print(table)

    def _show(self, options: dict[str, Any]) -> None:
        batch = _batch(options["batch"])
        if options["follow"]:
            batch = self._followed(batch)
        self.stdout.write(json.dumps(batches.document(batch), indent=2))

    def _cancel(self, options: dict[str, Any]) -> None:
        batch = _batch(options["batch"])
        if batch.state in Batch.CANCELLABLE:
            audit.record("cancel", "batch", batch.pk, before={"state": batch.state}, after=None)
        self.stdout.write(f"{batch.pk}: {batches.cancel(batch).state}")

    def _submit(self, options: dict[str, Any]) -> None:
        key = ClientKey.objects.filter(prefix=options["key"]).first()
        identity = batches.whose(options["key"]) if key is not None else None
        if identity is None:
            raise CommandError(f"There is no client key {options['key']} that may ask.")
        if not options["file"].is_file():
            raise CommandError(f"There is no file {options['file']}.")
        now = timezone.now()
        file = KeptFile(
            owner=identity.prefix,
            filename=options["file"].name[:255],
            purpose=kept_files.BATCH,
            created_at=now,
            expires_at=kept_files.usual_expiry(now),
        )
        model = options["model"]
        if model and options["endpoint"] == "/v1/messages" and options["max_tokens"] is None:
            raise CommandError("/v1/messages needs --max-tokens.")
        lines = _requests(options["file"], options) if model else _bytes_of(options["file"])
        asked = {
            "input_file_id": kept_files.keep(file, lines).pk,
            "endpoint": options["endpoint"],
            "completion_window": batches.WINDOW,
            "metadata": {"window": options["window"]} if options["window"] else None,
        }
        try:
            batch = batches.create(asked, identity, options["priority"])
        except GatewayError as error:
            kept_files.delete(file.pk)
            raise CommandError(error.message) from error
        audit.record("create", "batch", batch.pk, before=None, after={"owner": batch.owner, "file": file.filename})
        self.stdout.write(batch.pk)
        if options["no_wait"]:
            return
        batch = self._followed(batch)
        for error in batch.errors or []:
            self.stderr.write(f"line {error['line']}: {error['message']}" if error["line"] else error["message"])
        if not model and any(error["code"] == "invalid_json_line" for error in batch.errors or []):
            self.stderr.write("Where each line is a prompt and no request, name the model: --model MODEL.")
        if options["output"] is not None:
            with options["output"].open("wb") as output:
                for file_id in filter(None, (batch.output_file_id, batch.error_file_id)):
                    output.writelines(kept_files.pieces(file_id))
        self.stdout.write(f"{batch.state}: {batch.completed} answered, {batch.failed} failed, {batch.cost:.4f} USD")
        if batch.state != Batch.State.COMPLETED:
            raise CommandError(f"The batch is {batch.state}.")

    def _followed(self, batch: Batch) -> Batch:
        """Until it is over; ctrl-C ends the looking and not the batch."""
        console = Console(file=self.stderr._out, highlight=False)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console) as progress:
            bar = progress.add_task(batch.state, total=None)
            while True:
                batch.refresh_from_db()
                words = f"{batch.state} ({batch.held})" if batch.held else batch.state
                done = batch_lists.answered(batch)
                progress.update(bar, description=words, total=batch.total or None, completed=done)
                if batch.is_over:
                    return batch
                time.sleep(_LOOK_SECONDS)


def _batch(batch_id: str) -> Batch:
    batch = Batch.objects.filter(pk=batch_id).first()
    if batch is None:
        raise CommandError(f"There is no batch {batch_id}.")
    return batch


def _bytes_of(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while data := file.read(kept_files.PIECE_BYTES):
            yield data


def _requests(path: Path, options: dict[str, Any]) -> Iterator[bytes]:
    """Of each line that is not empty one request, whose custom_id is the line's number."""
    endpoint, model = options["endpoint"], options["model"]
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not (prompt := line.rstrip("\n")).strip():
                continue
            body: dict[str, Any] = {"model": model, **_subject(endpoint, prompt)}
            if options["max_tokens"] is not None:
                body[_LIMITS.get(endpoint, "max_tokens")] = options["max_tokens"]
            told = {"custom_id": f"line-{number}", "method": "POST", "url": endpoint, "body": body}
            yield json.dumps(told, ensure_ascii=False).encode() + b"\n"


def _subject(endpoint: str, prompt: str) -> dict[str, Any]:
    if endpoint in ("/v1/chat/completions", "/v1/messages"):
        return {"messages": [{"role": "user", "content": prompt}]}
    return {"prompt" if endpoint == "/v1/completions" else "input": prompt}
