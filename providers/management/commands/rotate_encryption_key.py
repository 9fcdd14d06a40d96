"""`manage.py rotate_encryption_key --new-key`: encrypt every stored secret under a fresh key, while the gateway runs."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from providers import actor, keyring, rotation
from providers.secrets import KeyringError


class Command(BaseCommand):
    help = (
        "Encrypt every stored secret under the first key of the ring. Safe while the gateway runs; killed and run again, "
        "it goes on where it was."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--new-key", action="store_true", help="First put a fresh key in front of the ring.")
        parser.add_argument(
            "--drop-old",
            action="store_true",
            help="Afterwards take keys off the ring that nothing uses. Backups of the database still need them: keep a copy.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        console = Console(file=self.stdout._out)
        with actor.acting_as("command:rotate_encryption_key"):
            try:
                if options["new_key"]:
                    console.print(f"A fresh key {rotation.put_new_key_in_front()} is in front of the ring.")
                self._reencrypt(console)
                if options["drop_old"]:
                    self._drop(console)
            except KeyringError as error:
                raise CommandError(str(error)) from error

    def _reencrypt(self, console: Console) -> None:
        columns = (TextColumn("Re-encrypting"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task("", total=rotation.waiting())
            done = rotation.reencrypt(lambda count: progress.advance(task, count))
        console.print(f"{done.rewritten} values are now under key {keyring.current().primary_id}.")
        if done.unreadable:
            for sentence in done.unreadable:
                self.stderr.write(sentence)
            raise CommandError(
                f"{len(done.unreadable)} values open with no key of the ring. Put the missing key back, or store them anew."
            )

    def _drop(self, console: Console) -> None:
        dropped = rotation.drop_unused_keys()
        console.print(f"Taken off the ring: {', '.join(dropped)}." if dropped else "Every key on the ring is in use.")
