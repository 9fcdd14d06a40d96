"""`manage.py jobs`: background jobs, the newest first; and the ways to end one or to ask again."""

from __future__ import annotations

import getpass
import json
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.serializers.json import DjangoJSONEncoder
from rich.console import Console
from rich.table import Table

from inference import job_lists, jobs
from inference.errors import GatewayError
from inference.models import Job
from providers import actor, audit, cells


class Command(BaseCommand):
    help = "List background jobs, without what was said; cancel one, or ask the same again."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--state", choices=Job.State.values, default="")
        parser.add_argument("--key", default="", help="Prefix of the client key that asked.")
        parser.add_argument("--model", default="", help="As it was asked for.")
        parser.add_argument("--cancel", metavar="JOB", help="End it; a running one within seconds.")
        parser.add_argument("--retry", metavar="JOB", help="A new job that asks the same, in the same key's name.")
        parser.add_argument("--json", action="store_true", help="For programs.")

    def handle(self, *args: Any, **options: Any) -> None:
        with actor.acting_as(f"command:jobs ({getpass.getuser()})"):
            if options["cancel"]:
                job = _job(options["cancel"])
                audit.record("cancel", "job", str(job.pk), before={"state": job.state}, after=None)
                self.stdout.write(f"{job.pk}: {jobs.cancel(job).state}")
                return
            if options["retry"]:
                self.stdout.write(f"asked again as {_again(_job(options['retry'])).pk}")
                return
        asked = {name: options[name] for name in ("state", "key", "model")}
        found = job_lists.page(Job.objects.defer("request", "result"), **asked)
        if options["json"]:
            rows = [_document(job) for job in found.rows]
            self.stdout.write(json.dumps(rows, indent=2, cls=DjangoJSONEncoder))
            return
        table = Table("Job", "State", "Asked for", "Key", "Created", "Tries")
        for job in found.rows:
            facts = (str(job.pk), job.state, job.model, job.owner, cells.relative(job.created_at), str(job.attempts))
            table.add_row(*facts)
        Console(file=self.stdout._out, highlight=False).print(table)


def _job(job_id: str) -> Job:
    try:
        return Job.objects.get(pk=job_id)
    except (Job.DoesNotExist, ValidationError) as error:
        raise CommandError(f"There is no job {job_id}.") from error


def _again(job: Job) -> Job:
    try:
        again = jobs.retry(job)
    except GatewayError as error:
        raise CommandError(error.message) from error
    except ValueError as error:
        raise CommandError(str(error)) from error
    audit.record("retry", "job", str(job.pk), before=None, after={"job": str(again.pk)})
    return again


def _document(job: Any) -> dict[str, Any]:
    names = ("id", "state", "operation", "model", "provider_id", "owner", "attempts", "cancel_requested")
    names += ("created_at", "started_at", "finished_at", "leased_until", "result_size")
    return {name: getattr(job, name) for name in names}
