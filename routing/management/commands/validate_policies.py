"""`manage.py validate_policies [--json] [--strict]`: what is wrong with the policies as a whole."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from rich.console import Console
from rich.table import Table

from routing import policy_checks
from routing.validation import Issue


class Command(BaseCommand):
    help = (
        "Name undefined targets and fallbacks, policies that no model can serve and the requirement that leaves nobody, and "
        "what else is wrong. Exit status: 0 no issues; 2 issues, or warnings under --strict."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="Print what was found as JSON.")
        parser.add_argument("--strict", action="store_true", help="Let warnings fail too.")

    def handle(self, *args: Any, **options: Any) -> None:
        found = policy_checks.current()
        if options["json"]:
            self.stdout.write(json.dumps({"valid": found.valid, **asdict(found)}, indent=2))
        else:
            _show(Console(file=self.stdout._out), found.issues, found.warnings)
        if found.issues or (options["strict"] and found.warnings):
            sys.exit(2)


def _show(console: Console, issues: Sequence[Issue], warnings: Sequence[Issue]) -> None:
    if not issues and not warnings:
        console.print("Nothing is wrong with the policies.", style="green")
        return
    table = Table("", "Policy", "Code", "What is wrong")
    for word, style, found in (("issue", "red", issues), ("warning", "yellow", warnings)):
        for issue in found:
            table.add_row(word, issue.name, issue.code, issue.sentence, style=style)
    console.print(table)
    console.print(f"{len(issues)} issues, {len(warnings)} warnings.")
