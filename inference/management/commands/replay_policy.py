"""`manage.py replay_policy NAME`: past requests through another version of a policy, beside what happened. No model is asked."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from inference import policy_replays, replay_sources
from inference.policy_replays import CannotReplay, Plan
from inference.replay_sources import BadLine
from routing.building import build
from routing.policy_documents import BadPolicy
from routing.replay import Difference, Past, Report, SideSums
from routing.types import Snapshot

_SPANS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_SHOWN = 20


class Command(BaseCommand):
    help = (
        "Say what past requests would have come to under another version of a policy: who would serve them, for how much, and who "
        "would be refused. Requests come from the usage of this gateway or from a file. No model is asked and nothing is changed."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("policy", help="The policy's name.")
        what = parser.add_mutually_exclusive_group()
        what.add_argument("--document", metavar="FILE", help="The draft, as JSON or YAML; - reads it from the input.")
        what.add_argument(
            "--with-version", type=int, dest="number", metavar="N", help="An earlier version, or the one on trial."
        )
        parser.add_argument(
            "--always", default="", metavar="MODEL", help="Compare with asking this one model whatever was asked for."
        )
        parser.add_argument(
            "--since", default="7d", metavar="WHEN", help="90m, 24h, 7d, 4w or a time; 7d when left out."
        )
        parser.add_argument("--until", default="", metavar="WHEN", help="Likewise; now when left out.")
        parser.add_argument("--all", action="store_true", help="Every request, not only those that came to the policy.")
        parser.add_argument("--limit", type=int, metavar="N", help="At most so many, the newest.")
        parser.add_argument(
            "--jsonl", metavar="FILE", help="Requests from a file instead, one on each line; - for the input."
        )
        parser.add_argument("--json", action="store_true", help="The report as JSON.")

    def handle(self, *args: Any, **options: Any) -> None:
        snapshot = build()
        try:
            plan = policy_replays.plan(
                snapshot,
                options["policy"],
                document=_document(options["document"]),
                version=options["number"],
                always=options["always"],
            )
            report = self._run(plan, snapshot, options)
        except (CannotReplay, BadPolicy, BadLine) as error:
            raise CommandError(str(error)) from error
        if options["json"]:
            self.stdout.write(json.dumps(policy_replays.document_of(plan, report), indent=2, ensure_ascii=False))
            return
        console = Console(file=self.stdout._out, highlight=False)
        for note in plan.notes:
            console.print(Text(note, "yellow"))
        for shown in _tables(plan, report):
            console.print(shown)
            console.print()

    def _run(self, plan: Plan, snapshot: Snapshot, options: dict[str, Any]) -> Report:
        pasts, count = _pasts(plan, snapshot, options)
        with Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=Console(file=self.stderr._out),
            disable=options["json"] or not sys.stderr.isatty(),
            transient=True,
        ) as progress:
            bar = progress.add_task("requests", total=count)
            report, _ = policy_replays.run(plan, pasts, progress=lambda done: progress.update(bar, completed=done))
        return report


def _pasts(plan: Plan, snapshot: Snapshot, options: dict[str, Any]) -> tuple[Iterator[Past], int | None]:
    """The requests, and how many they are, where that is known."""
    keys, most = snapshot.client_keys, options["limit"]
    if most is not None and most < 1:
        raise CommandError("--limit needs a number above 0.")
    if options["jsonl"]:
        found = replay_sources.lines(_lines(options["jsonl"]), keys)
        return (past for past, _ in zip(found, range(most), strict=False)) if most else found, most
    until = _time(options["until"], "--until") if options["until"] else timezone.now()
    since = _time(options["since"], "--since")
    if since >= until:
        raise CommandError("--since must be before --until.")
    rows = replay_sources.rows(since, until, () if options["all"] else plan.names)
    count = rows.count()
    return replay_sources.usage(rows, keys, most=most), min(count, most) if most else count


def _document(file: str | None) -> Any:
    if file is None:
        return None
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text()
        told = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CommandError(f"{file} cannot be read: {error}") from error
    if not isinstance(told, dict):
        raise CommandError(f"{file}: a policy's document is an object.")
    return told


def _lines(file: str) -> Iterator[bytes]:
    if file == "-":
        yield from sys.stdin.buffer
        return
    try:
        with Path(file).open("rb") as lines:
            yield from lines
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {error}") from error


def _time(told: str, option: str) -> datetime:
    number, unit = told[:-1], told[-1:]
    if unit in _SPANS and number.isdigit():
        return timezone.now() - timedelta(**{_SPANS[unit]: int(number)})
    try:
        at = parse_datetime(told) or parse_datetime(f"{told}T00:00:00")
    except ValueError:
        at = None
    if at is None:
        raise CommandError(f"{option} needs a span such as 24h or 7d, or a time such as 2026-05-01T12:00.")
    return at if at.tzinfo else at.replace(tzinfo=UTC)


# --- What is shown ----------------------------------------------------------------------------------------------------------


def _tables(plan: Plan, report: Report) -> Iterator[Table | Text]:
    yield _verdict(plan, report)
    if report.requests:
        yield _sides(plan, report)
    if report.differences:
        yield _differences(plan, report)
    if report.refused_clients:
        yield _clients(report)
    if report.examples:
        yield _examples(plan, report)


def _verdict(plan: Plan, report: Report) -> Text:
    if not report.requests:
        return Text("There are no such requests.", "yellow")
    if not report.different:
        return Text(f"{plan.policy}: {report.requests:,} requests, no difference.", "bold green")
    share = 100 * report.different / report.requests
    told = f"{plan.policy}: {report.different:,} of {report.requests:,} requests ({share:.3g} %) would go elsewhere."
    return Text(told, "bold yellow")


def _sides(plan: Plan, report: Report) -> Table:
    table = _table("", "happened", plan.before_named, plan.after_named)
    before, after = report.before, report.after
    table.add_row("served", f"{report.served_then:,}", f"{before.served:,}", f"{after.served:,}")
    table.add_row("refused", "", _refused(before), _refused(after))
    table.add_row("kept from a model by a limit of cost", "", f"{before.limited:,}", f"{after.limited:,}")
    table.add_row("cost", _money(report.happened_cost), _money(before.cost), _money(after.cost))
    table.add_row(
        "  without a known price", f"{report.happened_unknown:,}", f"{before.unknown:,}", f"{after.unknown:,}"
    )
    if report.comparable and report.saving is not None:
        less = report.saving >= 0
        share = Text(f"{abs(report.saving):.1%} {'less' if less else 'more'}", "green" if less else "red")
        was, would = _money(report.comparable_before), _money(report.comparable_after)
        table.add_row(f"cost of the {report.comparable:,} that compare", "", was, Text.assemble(would, "  ", share))
    if report.served_then:
        table.add_row("as it happened", "", f"{report.as_happened:,}", "")
    if report.estimated:
        table.add_row("tokens estimated for", f"{report.estimated:,}", "", "")
    return table


def _refused(side: SideSums) -> Text:
    why = ", ".join(f"{reason} {count:,}" for reason, count in side.reasons.most_common(4))
    return Text(f"{side.refused:,}" + (f" ({why})" if why else ""), "red" if side.refused else "")


def _differences(plan: Plan, report: Report) -> Table:
    table = _table("from", "to", "requests", "cost", "would be")
    ordered = sorted(report.differences.values(), key=lambda one: -one.requests)
    for one in ordered[:_SHOWN]:
        table.add_row(
            one.before,
            Text(one.after, "red" if one.after.startswith("refused") else ""),
            f"{one.requests:,}",
            *_costs(one),
        )
    if len(ordered) > _SHOWN:
        rest = sum(one.requests for one in ordered[_SHOWN:])
        table.add_row(f"{len(ordered) - _SHOWN} further pairs", "", f"{rest:,}", "", "")
    return table


def _costs(one: Difference) -> tuple[str, str]:
    """Nothing, where one side serves nobody and the two cannot be compared."""
    if not one.cost_before and not one.cost_after:
        return "", ""
    return _money(one.cost_before), _money(one.cost_after)


def _clients(report: Report) -> Table:
    table = _table("client key", "would be refused")
    for prefix, count in report.refused_clients.most_common(_SHOWN):
        table.add_row(prefix or "without a key", Text(f"{count:,}", "red"))
    return table


def _examples(plan: Plan, report: Report) -> Table:
    table = _table("for example", "asked for", "happened", plan.before_named, plan.after_named)
    for one in report.examples:
        past = one.past
        table.add_row(
            past.request_id,
            past.facts.model or "no model",
            past.route or (str(past.status) if past.status else "–"),
            one.before.route or f"refused: {one.before.reason}",
            one.after.route or f"refused: {one.after.reason}",
        )
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, title="", title_justify="left")
    for name in columns:
        right = name in ("requests", "cost", "would be", "would be refused")
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    return table


def _money(amount: Decimal) -> str:
    return f"{amount:,.6f} USD"
