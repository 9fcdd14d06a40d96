"""`manage.py migrate_collections`: name the collections of a vector store by the dimension of their vectors."""

from __future__ import annotations

import getpass
import json
import os
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from inference.vector_stores import naming
from inference.vector_stores.naming import MOVES, Act, Step
from inference.vector_stores.opening import opened
from inference.vector_stores.store import Store, StoreFailed
from providers import actor, audit

FAILED = 1
_COLOURS = {Act.KEEP: "dim", Act.SKIP: "yellow", Act.CONFLICT: "red"}


class Command(BaseCommand):
    help = (
        "Name the collections of a vector store `{name}_{dimension}`, as clients of the gateway's embeddings look for them. Without "
        "--apply it only shows what would be done. Ends with 1 where something is in the way."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "address",
            metavar="ADDRESS",
            help="http://HOST:8000 of a Chroma server, postgresql://… of pgvector, or env:NAME with the variable that holds it.",
        )
        parser.add_argument("names", nargs="*", metavar="COLLECTION", help="These only; else all.")
        parser.add_argument("--apply", action="store_true", help="Do what was shown.")
        parser.add_argument(
            "--copy", action="store_true", help="Leave the old ones as they are, and compare the copies."
        )
        parser.add_argument("--json", action="store_true", help="For programs.")
        chroma = parser.add_argument_group("Chroma")
        chroma.add_argument("--tenant", default="default_tenant")
        chroma.add_argument("--database", default="default_database")
        chroma.add_argument("--token", default="", metavar="env:NAME", help="The variable that holds its token.")

    def handle(self, *args: Any, **options: Any) -> None:
        chroma = {
            "tenant": options["tenant"],
            "database": options["database"],
            "token": _from_variable(options["token"]),
        }
        address = _from_variable(options["address"])
        try:
            with opened(address, **(chroma if address.startswith("http") else {})) as store:
                self._migrate(store, options)
        except StoreFailed as error:
            raise CommandError(str(error)) from None

    def _migrate(self, store: Store, options: dict[str, Any]) -> None:
        found, resumed = store.collections(), store.resumable()
        if missing := set(options["names"]) - {one.name for one in found}:
            raise CommandError(f"{store.label} has no collection {', '.join(sorted(missing))}.")
        steps = [
            step
            for step in naming.plan(found, copies=options["copy"], resumed=resumed)
            if not options["names"] or step.collection.name in options["names"]
        ]
        if options["json"]:
            self.stdout.write(json.dumps([asdict(step) for step in steps], indent=2))
        else:
            self._show(store, steps)
        moves = [step for step in steps if step.act in MOVES]
        if options["apply"]:
            self._apply(store, moves)
        elif moves and not options["json"]:
            self.stdout.write("Nothing was changed: repeat with --apply.")
        if any(step.act is Act.CONFLICT for step in steps):
            raise SystemExit(FAILED)

    def _apply(self, store: Store, moves: list[Step]) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with (
            actor.acting_as(f"command:migrate_collections ({getpass.getuser()})"),
            Progress(*columns, console=Console(stderr=True), transient=True) as progress,
        ):
            for step in moves:
                task = progress.add_task(f"{step.act} {step.collection.name}", total=step.collection.count)
                _take(step, store, lambda count, task=task: progress.advance(task, count))
                progress.update(task, completed=step.collection.count)
                told = {"store": store.label, "name": step.target, "vectors": step.collection.count}
                audit.record(str(step.act), "vector_collection", step.collection.name, before=None, after=told)
                self.stderr.write(self.style.SUCCESS(f"{step.collection.name} -> {step.target}: verified"))

    def _show(self, store: Store, steps: list[Step]) -> None:
        table = Table(
            "Collection", "Vectors", "Dimension", "What", "Becomes", "", title=store.label, title_justify="left"
        )
        for step in steps:
            one = step.collection
            colour = _COLOURS.get(step.act, "green")
            dimension = "" if one.dimension is None else str(one.dimension)
            table.add_row(one.name, f"{one.count:,}", dimension, f"[{colour}]{step.act}[/]", step.target, step.note)
        Console(file=self.stdout._out, highlight=False).print(table)


def _take(step: Step, store: Store, heard: Any) -> None:
    if step.act is Act.COPY:
        store.copy(step.collection, step.target, heard)
    elif step.act is Act.SPLIT:
        store.split(step.collection, step.target)
    else:
        store.rename(step.collection, step.target)


def _from_variable(told: str) -> str:
    """Addresses hold passwords, and command lines are seen by everybody on the machine."""
    if not told.startswith("env:"):
        return told
    value = os.environ.get(told.removeprefix("env:"), "")
    if not value:
        raise CommandError(f"The variable {told.removeprefix('env:')} is not set.")
    return value
