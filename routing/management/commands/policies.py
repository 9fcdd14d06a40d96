"""`manage.py policies`: list and show policies, write and restore versions, let something else serve for a while."""

from __future__ import annotations

import getpass
import json
import sys
import time
from pathlib import Path
from typing import Any

import yaml
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.console import Console
from rich.table import Column, Table

from providers import actor, cells, ownership
from providers.actions import AlreadyExists
from providers.document_text import as_yaml
from routing import (
    cached_answers,
    health,
    policy_actions,
    policy_documents,
    policy_standing,
    policy_traffic,
    snapshot,
    strategies,
)
from routing.models import Policy
from routing.policy_documents import KINDS, BadPolicy
from routing.policy_standing import Standing
from routing.policy_traffic import Traffic


class Command(BaseCommand):
    help = (
        "List the policies with who can serve now, or show one; write or restore a version of it, or override it. "
        "What is written counts from the next request on."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("policy", nargs="?", metavar="POLICY", help="The policy's name; without, all are listed.")
        parser.add_argument("--versions", action="store_true", help="What it ever said, newest first, as differences.")
        does = parser.add_mutually_exclusive_group()
        does.add_argument("--document", metavar="FILE", help="The next version, as YAML or JSON; - reads it from here.")
        does.add_argument("--restore", type=int, metavar="N", help="Let what version N said count again.")
        does.add_argument("--override", metavar="TARGET", help="This model or policy serves first.")
        does.add_argument("--no-override", action="store_true", help="The policy decides for itself again.")
        does.add_argument("--forget-cached", action="store_true", help="Give no answer again that is cached under it.")
        parser.add_argument("--create", action="store_true", help="With --document: there is no such policy yet.")
        parser.add_argument("--kind", choices=KINDS, default=KINDS[0], help="With --create; a word for lists.")
        parser.add_argument("--for", type=float, dest="seconds", metavar="SECONDS", help="How long the override holds.")
        parser.add_argument("--note", default="", metavar="TEXT", help="Why; kept with the version and in the audit.")
        parser.add_argument("--json", action="store_true", help="Print what is shown as JSON.")

    def handle(self, *args: Any, **options: Any) -> None:
        console = Console(file=self.stdout._out, highlight=False, markup=False)  # notes may hold brackets
        if not options["policy"]:
            return self._list(console, options)
        with actor.acting_as(f"command:policies ({getpass.getuser()})", reason=options["note"][:500]):
            try:
                row = self._do(options["policy"], options)
            except ValidationError as error:
                raise CommandError("Nothing was changed. " + " ".join(error.messages)) from None
            except _REFUSED as error:
                raise CommandError(str(error)) from None
        if options["versions"]:
            self._versions(console, row, options)
        else:
            self._show(console, row, options)
        return None

    def _do(self, name: str, options: dict[str, Any]) -> Policy:
        note = options["note"][:500]
        if options["create"]:
            if not options["document"]:
                raise CommandError("--create needs --document.")
            document = self._read(options["document"])
            return policy_actions.create({"name": name, "kind": options["kind"], "document": document}, note=note)
        row = Policy.objects.select_related("override").filter(name=name).first()
        if row is None:
            raise CommandError(f"No policy is named {name!r}.")
        if options["document"] or options["restore"] is not None:
            ownership.refuse_if_owned(row)
        if options["document"]:
            return policy_actions.update(row, {"document": self._read(options["document"])}, note=note)
        if options["restore"] is not None:
            return policy_actions.restore(row, options["restore"], note)
        if options["override"]:
            self._override(name, options)
        if options["no_override"]:
            policy_actions.clear_override(name)
        if options["forget_cached"]:
            policy_actions.forget_cached(row)
            self.stderr.write(f"What was cached under {row.name} is forgotten.")
        return Policy.objects.select_related("override").get(pk=row.pk)

    def _override(self, name: str, options: dict[str, Any]) -> None:
        held, target = snapshot.refresh(), options["override"]
        if target not in held.by_name and target not in held.policies:
            raise CommandError(f"No enabled model or policy is named {target!r}.")
        policy_actions.set_override(name, target, ttl_seconds=options["seconds"], reason=options["note"][:500])

    def _read(self, path: str) -> dict[str, Any]:
        try:
            told = yaml.safe_load(sys.stdin.read() if path == "-" else Path(path).read_text())
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise CommandError(f"{path} cannot be read: {error}") from error
        return policy_documents.as_document(policy_documents.read(told, strategies.names()))

    # What is printed

    def _list(self, console: Console, options: dict[str, Any]) -> None:
        rows = list(Policy.objects.select_related("override").order_by("name"))
        lines = _lines(rows)
        if options["json"]:
            self.stdout.write(json.dumps(lines, indent=2))
            return
        if not rows:
            console.print("There are no policies: clients name models themselves.")
            return
        table = Table(Column("Policy", overflow="fold"), "Kind", "Strategy", "Can serve", "24 h", "Rescued", "Over it")
        for row, told in zip(rows, lines, strict=True):
            standing = "off" if told["serving"] is None else f"{told['serving']} of {told['targets']}"
            over = [told["override"] or "", f"v{row.candidate_version} tried" if row.candidate_version else ""]
            table.add_row(
                row.name,
                row.kind,
                told["strategy"],
                standing,
                "–" if told["requests"] is None else str(told["requests"]),
                "–" if told["rescued"] is None else str(told["rescued"]),
                ", ".join(filter(None, over)),
            )
        console.print(table)

    def _show(self, console: Console, row: Policy, options: dict[str, Any]) -> None:
        if options["json"]:
            self.stdout.write(json.dumps(_lines([row])[0] | {"document": row.document}, indent=2))
            return
        standing = _standings([row]).get(row.name)
        console.print(f"{row.name} ({row.kind}), version {row.version}{'' if row.enabled else ', switched off'}")
        override = getattr(row, "override", None)
        if override is not None:
            until = f"ends {cells.relative(override.expires_at)}" if override.expires_at else "until it is removed"
            console.print(f"  overridden by {override.target}, {until}: {override.reason or 'no reason given'}")
        for lost in standing.lost if standing is not None else ():
            console.print(f"  {lost.route}: {lost.detail}")
        self.stdout.write(as_yaml(row.document))

    def _versions(self, console: Console, row: Policy, options: dict[str, Any]) -> None:
        held = list(row.versions.order_by("-number"))
        if options["json"]:
            names = ("number", "note", "created_by", "document")
            shown = [{name: getattr(one, name) for name in names} for one in held]
            self.stdout.write(json.dumps(shown, indent=2))
            return
        for version, before in zip(held, [*held[1:], None], strict=True):
            now = ", counts now" if version.number == row.version else ""
            console.print(f"v{version.number}{now}: {version.note or '–'} ({version.created_by or 'system'})")
            for place, old, new in policy_documents.differences(before.document, version.document) if before else ():
                console.print(f"  {place}: {json.dumps(old)} -> {json.dumps(new)}")


_REFUSED = (
    AlreadyExists,
    BadPolicy,
    cached_answers.CacheAway,
    ownership.OwnedByFile,
    policy_actions.NoSuchVersion,
    policy_actions.NotOverridable,
)


def _standings(rows: list[Policy]) -> dict[str, Standing]:
    held, conditions, now = snapshot.refresh(), health.read(), time.time()
    views = {row.name: held.policies.get(row.name) for row in rows}
    return {
        name: policy_standing.of(view, held, conditions, now=now) for name, view in views.items() if view is not None
    }


def _lines(rows: list[Policy]) -> list[dict[str, Any]]:
    standings, traffic = _standings(rows), policy_traffic.of([row.name for row in rows])
    return [
        _line(row, standings.get(row.name), None if traffic is None else traffic.get(row.name, policy_traffic.NONE))
        for row in rows
    ]


def _line(row: Policy, standing: Standing | None, traffic: Traffic | None) -> dict[str, Any]:
    override = getattr(row, "override", None)
    return {
        "name": row.name,
        "kind": row.kind,
        "enabled": row.enabled,
        "version": row.version,
        "candidate_version": row.candidate_version,
        "strategy": row.document.get("strategy", policy_documents.PolicyDocument().strategy),
        "override": override.target if override is not None else None,
        "targets": None if standing is None else standing.targets,
        "serving": None if standing is None else standing.serving,
        "fallbacks_serving": None if standing is None else standing.fallbacks,
        "requests": traffic.requests if traffic is not None else None,
        "failed": traffic.failed if traffic is not None else None,
        "rescued": traffic.rescued if traffic is not None else None,
    }
