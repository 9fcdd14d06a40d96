"""Fill an empty installation with a believable month: for looking around, for pictures, for measuring pages."""

from __future__ import annotations

import argparse
import time
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from gateway_project import first_keys, first_run
from gateway_project.demo import month
from providers.management.teaching import TeachingCommand

EXAMPLES = """
examples:
  manage.py demo_data --data-dir /tmp/demo                         a month, 40,000 requests, about half a minute
  manage.py demo_data --data-dir /tmp/demo --days 7 --requests 1000000
  manage.py quickstart --data-dir /tmp/demo                        look at it

Everything in it is made up: providers whose addresses exist nowhere, keys that open nothing, people without passwords.
There is no way to take it out again, so give it a data directory of its own."""


class Command(TeachingCommand):
    help = (
        "Fill an empty installation with a believable month of traffic: ten providers, policies, teams, keys, budgets, incidents, "
        "and requests by day and night with a provider that failed for forty minutes."
    )
    examples = EXAMPLES
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--days", type=int, default=30, help="how far back the traffic goes (30)")
        parser.add_argument("--requests", type=int, default=40_000, help="how many requests (40,000)")
        parser.add_argument("--seed", type=int, default=7, help="another number makes other traffic")
        parser.add_argument(
            "--until", type=_moment, help="end at this moment in place of now, such as 2026-11-21T12:00"
        )
        parser.add_argument(
            "--into-existing",
            action="store_true",
            help="write beside what is there: demo traffic mixes with real sums for good",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["days"] < 1 or options["requests"] < 1:
            raise CommandError("--days and --requests are 1 or more.")
        first_keys.create_missing(settings.DATA_DIR)
        first_run.migrate()
        if found := month.what_is_there():
            if month.is_told_already():
                raise CommandError("The demo data are here already; another --data-dir takes more of them.")
            if not options["into_existing"]:
                raise CommandError(
                    f"This installation is in use: {found}. Demo data cannot be taken out again, so give them a data directory "
                    "of their own (--data-dir), or say --into-existing."
                )
        console = Console(file=self.stdout, highlight=False, soft_wrap=True)
        began = time.monotonic()
        plan = month.Plan(
            until=options["until"] or datetime.now(UTC),
            days=options["days"],
            requests=options["requests"],
            seed=options["seed"],
        )
        with Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console,
            transient=True,
        ) as bar:  # fmt: skip
            task = bar.add_task("requests", total=plan.requests)
            written = month.fill(plan, lambda count: bar.advance(task, count))
        console.print(
            f"{written:,} requests of {plan.days} days ({plan.begin:%Y-%m-%d} to {plan.until:%Y-%m-%d %H:%M} UTC) "
            f"in {time.monotonic() - began:.0f} s."
        )
        self._say_what_to_look_at(console)

    def _say_what_to_look_at(self, console: Console) -> None:
        user, password = month.somebody_to_sign_in()
        console.print(f"\nServe it:  manage.py quickstart --data-dir {settings.DATA_DIR}")
        console.print(f"Sign in:   {user}, password {password} (made just now, shown this once)")
        console.print(
            "\nLook at:   the dashboard (a provider failed a few hours ago, and fallbacks rescued its requests),\n"
            "           the traces of outcome “rescued” (their Decision and Timeline tabs are full),\n"
            "           the budget of the web shop (raised), the policy support-assistant (a version on trial),\n"
            "           the playground with the model “playground”, which answers without any key."
        )


def _moment(told: str) -> datetime:
    try:
        moment = datetime.fromisoformat(told)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{told!r} is no time, such as 2026-11-21T12:00") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
