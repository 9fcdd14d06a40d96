"""`manage.py show_backends [--json]`: which backend serves, whether it has a key, and the models of the roles heavy and light."""

from __future__ import annotations

import json
import os
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from routing import backend_facts, snapshot
from routing.backend_facts import Facts, UnknownBackend


class Command(BaseCommand):
    help = (
        "Say which backend serves the roles heavy and light, and what is known of every provider. Keys are never shown, only "
        "whether one is set. MODEL_BACKEND of the environment is compared with it, where it is set."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="Print the facts as JSON.")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            facts = backend_facts.facts(snapshot.refresh(), os.environ.get("MODEL_BACKEND", ""))
        except UnknownBackend as error:
            raise CommandError(str(error)) from error
        if options["json"]:
            self.stdout.write(json.dumps(_as_dict(facts), indent=2))
            return
        for label, value in facts.lines:
            self.stdout.write(f"{label}: {value}")
        for warning in facts.warnings:
            self.stdout.write(self.style.WARNING(f"Warning: {warning}"))
        for provider in facts.providers:
            self.stdout.write(f"\n{provider.provider_id} ({provider.provider_type})")
            for label, value in provider.lines:
                self.stdout.write(f"  {label}: {value}")


def _as_dict(facts: Facts) -> dict[str, Any]:
    providers = {one.provider_id: {"type": one.provider_type, **dict(one.lines)} for one in facts.providers}
    return {**dict(facts.lines), "warnings": list(facts.warnings), "providers": providers}
