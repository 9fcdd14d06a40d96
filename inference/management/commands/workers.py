"""`manage.py workers`: who lives, what runs and waits, which models are loaded; and what may be asked of a worker."""

from __future__ import annotations

import getpass
import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.console import Console
from rich.table import Table

from inference import process_list, worker_actions
from inference.process_list import RedisAway, Seen
from inference.worker_actions import NoSuchWorker, NotTold
from providers import actor, cells


class Command(BaseCommand):
    help = "List the workers, queues, web processes and loaded models; or ask a worker for something."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--pause", metavar="WORKER", help="It takes no more from --queue, or from any.")
        parser.add_argument("--resume", metavar="WORKER", help="It takes again.")
        parser.add_argument("--unload", metavar="WORKER", help="It unloads --model, unless that is in use.")
        parser.add_argument("--queue", default="", help="For --pause and --resume; all, without.")
        parser.add_argument("--model", default="", help="For --unload: the id that the list tells.")
        parser.add_argument("--json", action="store_true", help="For programs.")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with actor.acting_as(f"command:workers ({getpass.getuser()})"):
                self._do(options)
            seen = process_list.look()
        except (NoSuchWorker, NotTold, RedisAway) as error:
            raise CommandError(str(error)) from error
        if options["json"]:
            self.stdout.write(json.dumps(process_list.document(seen), indent=2, ensure_ascii=False))
        else:
            _show(Console(file=self.stdout._out, highlight=False), seen)

    def _do(self, options: dict[str, Any]) -> None:
        if options["pause"]:
            self.stderr.write(f"Paused: {', '.join(worker_actions.pause(options['pause'], options['queue'])) or '-'}")
        if options["resume"]:
            self.stderr.write(
                f"Resumed: {', '.join(worker_actions.resume(options['resume'], options['queue'])) or '-'}"
            )
        if options["unload"]:
            self.stderr.write(f"Asked to unload {worker_actions.unload(options['unload'], options['model'])}.")


def _show(console: Console, seen: Seen) -> None:
    table = Table("Worker", "State", "At work", "Takes", "Loaded models", "Last word")
    for one in seen.workers:
        state = "gone" if not one["alive"] else "alive" if one["takes"] else "drained"
        models = "\n".join(f"{model['name'] or model['path']} ({model['id']})" for model in one["models"])
        work = f"{len(one['tasks'])}/{one['concurrency'] or '-'}"
        table.add_row(one["name"], state, work, "\n".join(one["takes"]), models, _ago(one["at"]))
    console.print(table)
    table = Table("Queue", "Waiting", "Workers that take it")
    for queue in seen.queues:
        table.add_row(queue.name, str(queue.waiting), ", ".join(queue.takers) or "nobody")
    console.print(table)
    table = Table("Web process", "Revision", "Requests under way", "Last word")
    for one in seen.web:
        table.add_row(one["name"], f"{one['revision']} of {seen.revision}", str(one["inflight"]), _ago(one["at"]))
    console.print(table)
    sent = _ago(seen.clock["sent_at"]) if seen.clock and seen.clock["sent_at"] else "never"
    console.print(f"The clock sent what was due: {sent}.")


def _ago(seconds: float) -> str:
    at = process_list.moment(seconds)
    return cells.relative(at) if at is not None else "-"
