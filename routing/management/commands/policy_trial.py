"""`manage.py policy_trial`: try a new version of a policy on a share of its clients, look at it, end it."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Any

import yaml
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone
from rich.console import Console
from rich.table import Table

from providers import actor, ownership
from routing import trials
from routing.models import Policy
from routing.trial_gates import Figures
from routing.trials import Comparison, NoTrial, Trial, TrialRunning

_GATE = ("max_error_rate_increase", "max_latency_ratio", "min_requests", "window_seconds")


class Command(BaseCommand):
    help = (
        "Show how a new version of a policy does that is tried on a share of the clients; begin such a trial, change its share, "
        "promote the candidate or stop it. Every process follows within two seconds."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("policy", metavar="POLICY", help="The policy's name.")
        parser.add_argument("--document", metavar="FILE", help="Begin: what to try, as YAML or JSON.")
        parser.add_argument("--percentage", metavar="N", help="The share of clients that get it: 0 to 100.")
        ends = parser.add_mutually_exclusive_group()
        ends.add_argument("--promote", action="store_true", help="Let the candidate count for all.")
        ends.add_argument(
            "--stop", action="store_true", help="End the trial; every client gets the version that counts."
        )
        parser.add_argument("--max-error-rate-increase", type=float, metavar="X", help="Gate: 0.02 is two points.")
        parser.add_argument("--max-latency-ratio", type=float, metavar="X", help="Gate: 1.5 is half as long again.")
        parser.add_argument("--min-requests", type=int, metavar="N", help="Gate: requests of each before it judges.")
        parser.add_argument("--window-seconds", type=float, metavar="N", help="Gate: how far back requests count.")
        parser.add_argument(
            "--note", default="", metavar="TEXT", help="Why; kept with the version and in the audit log."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        policy = Policy.objects.filter(name=options["policy"]).first()
        if policy is None:
            raise CommandError(f"No policy is named {options['policy']!r}.")
        try:
            with actor.acting_as(f"command:policy_trial ({getpass.getuser()})", reason=options["note"][:500]):
                policy = _changed(policy, options)
        except (NoTrial, TrialRunning, ownership.OwnedByFile) as error:
            raise CommandError(str(error)) from error
        except ValidationError as error:
            sentences = [f"{field}: {sentence}" for field, found in error.message_dict.items() for sentence in found]
            raise CommandError("Nothing was changed. " + " ".join(sentences)) from error
        trial = trials.of(policy)
        _show(Console(file=self.stdout._out, highlight=False), trial, trials.compare(trial, timezone.now()))


def _changed(policy: Policy, options: dict[str, Any]) -> Policy:
    note = options["note"][:500]
    gate = {name: options[name] for name in _GATE if options[name] is not None} or None
    if options["stop"]:
        return trials.stop(policy, note=note)
    if options["promote"] or options["document"] or options["percentage"] or gate:
        ownership.refuse_if_owned(policy)
    if options["promote"]:
        return trials.promote(policy, note=note)
    if options["document"]:
        if options["percentage"] is None:
            raise CommandError("--document needs --percentage.")
        return trials.start(policy, _read(options["document"]), options["percentage"], gate, note=note)
    if options["percentage"] is not None or gate:
        return trials.change(policy, percentage=options["percentage"], gate=gate, note=note)
    return policy


def _read(path: str) -> Any:
    try:
        return yaml.safe_load(Path(path).read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CommandError(f"{path} cannot be read: {error}") from error


def _show(console: Console, trial: Trial, comparison: Comparison | None) -> None:
    if trial.candidate_version is None or comparison is None:
        console.print(f"{trial.policy}: version {trial.active_version} counts for all; nothing is being tried.")
        return
    share = f"{trial.percentage.normalize():f} %"
    console.print(f"{trial.policy}: version {trial.candidate_version} is {_STATES[trial.state].format(share=share)}.")
    if trial.finding is not None:
        console.print(f"  {trial.finding['sentence']}", style="red")
    else:
        console.print(f"  {comparison.verdict.outcome}: {comparison.verdict.sentence}")
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    table.add_column(f"version {trial.candidate_version}, tried", justify="right")
    table.add_column(f"version {trial.active_version}, counts", justify="right")
    for name, told in _ROWS:
        table.add_row(name, told(comparison.candidate), told(comparison.active))
    console.print(table)


_STATES = {
    trials.RUNNING: "tried on {share} of the clients",
    trials.PAUSED: "tried on nobody at the moment",
    trials.ROLLED_BACK: "rolled back",
}
_ROWS = (
    ("requests", lambda figures: str(figures.requests)),
    ("failed", lambda figures: f"{figures.error_rate:.2%}"),
    ("median until the reply", lambda figures: _milliseconds(figures)),
    ("cost of a request", lambda figures: "–" if figures.cost is None else f"{figures.cost:.6f}"),
)


def _milliseconds(figures: Figures) -> str:
    return "–" if figures.latency_ms is None else f"{figures.latency_ms:.0f} ms"
