"""A command whose help ends with examples, and whose exit status 2 says that somebody has to look."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

from django.core.management.base import BaseCommand, CommandParser, DjangoHelpFormatter

from providers.importers.runs import ALL_WELL, FAILED


class _HelpFormatter(DjangoHelpFormatter, argparse.RawDescriptionHelpFormatter):
    pass


class TeachingCommand(BaseCommand):
    examples = ""
    """Stands below the options, as it is written."""

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        shown = {"epilog": self.examples, "formatter_class": _HelpFormatter}
        parser = super().create_parser(prog_name, subcommand, **shown, **kwargs)
        leave = parser.exit

        def exit_with_ours(status: int = 0, message: str | None = None) -> NoReturn:
            leave(FAILED if status else ALL_WELL, message)  # argparse's 2 means something else here
            raise AssertionError("argparse came back from exit()")

        parser.exit = exit_with_ours  # type: ignore[method-assign]
        return parser
