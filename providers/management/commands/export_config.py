"""`manage.py export_config`: the registry as one file, without a secret in it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser, DjangoHelpFormatter

from providers import exporting, private_files
from providers.importers.documents import WRITTEN
from providers.models import Provider
from providers.secrets import SecretError

EXAMPLES = """
examples:
  manage.py export_config                            the whole registry as YAML, to the terminal
  manage.py export_config gateway.yaml               the same into a file
  manage.py export_config gateway.json --only openai one provider, as JSON by the file's name
  manage.py export_config --sections teams budgets   some parts of it

Secrets are references: a key becomes env:LLM_KEY_<PROVIDER>_<ENVIRONMENT>_<8 hex of its fingerprint>. Where the file is
applied, set those variables, or store the keys in the admin. Applied where it was made, the stored keys stay.
The same registry gives the same bytes, so the file can be kept under version control. docs/configuration-file.md says more.
"""


class _HelpFormatter(DjangoHelpFormatter, argparse.RawDescriptionHelpFormatter):
    pass


class Command(BaseCommand):
    help = (
        "Write all providers with their models, parameters and keys, prices, policies and routing settings as one YAML or "
        "JSON document; keys as references."
    )

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        return super().create_parser(prog_name, subcommand, epilog=EXAMPLES, formatter_class=_HelpFormatter, **kwargs)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", metavar="FILE", nargs="?", default="-", help="Where to; `-` or nothing prints it.")
        parser.add_argument("--format", choices=WRITTEN, help="By default what the file's name ends in, else yaml.")
        which = parser.add_mutually_exclusive_group()
        which.add_argument("--only", metavar="PROVIDER", nargs="+", default=[], help="These providers only.")
        which.add_argument(
            "--sections",
            metavar="NAME",
            nargs="+",
            default=[],
            help=f"These parts only: {', '.join(exporting.members())}.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        path, only = options["file"], options["only"]
        missing = set(only) - set(Provider.objects.filter(provider_id__in=only).values_list("provider_id", flat=True))
        if missing:
            raise CommandError(f"No provider is named {', '.join(map(json.dumps, sorted(missing)))}.")
        if unknown := sorted(set(options["sections"]) - set(exporting.members())):
            raise CommandError(f"No section is named {', '.join(unknown)}; there are {', '.join(exporting.members())}.")
        file_format = options["format"] or ("json" if path.endswith(".json") else "yaml")
        try:
            text = exporting.text(file_format, only, options["sections"])
        except SecretError as error:
            raise CommandError(f"A stored secret does not open, so no reference to it can be made: {error}") from error
        if path == "-":
            self.stdout.write(text, ending="")
            return
        try:
            private_files.replace(Path(path), text)
        except OSError as error:
            raise CommandError(f"{path} cannot be written: {error.strerror}.") from error
        self.stderr.write(f"{path} was written.")
