"""`manage.py saved_views`: searches that are kept under a name; keep one for everybody or for a team, or forget one."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

from inference import saved_views
from inference.models import SavedView
from routing.models import Team


class Command(BaseCommand):
    help = "List the views of the pages of requests and of usage; keep one, or forget one."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--keep", metavar="NAME", help="Keep --query of --page under this name.")
        parser.add_argument("--page", choices=tuple(saved_views.PAGES), default="requests")
        parser.add_argument("--query", default="", help="As the page's address has it: outcome=failed&hours=24")
        parser.add_argument("--team", default="", help="The team that sees it; everybody does, without.")
        parser.add_argument("--forget", type=int, metavar="NUMBER", help="By the number that the list tells.")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["forget"] is not None and not SavedView.objects.filter(pk=options["forget"]).delete()[0]:
            raise CommandError(f"There is no view {options['forget']}.")
        if options["keep"]:
            self._keep(options)
        for view in SavedView.objects.select_related("owner", "team"):
            whose = "everybody" if view.for_everybody else view.team or view.owner
            self.stdout.write(f"{view.pk:>4}  {view.page:<9} {view.name}  ({whose})  {saved_views.address(view)}")

    def _keep(self, options: dict[str, Any]) -> None:
        team = Team.objects.filter(name=options["team"]).first() if options["team"] else None
        if options["team"] and team is None:
            raise CommandError(f"There is no team named {options['team']!r}.")
        share = f"team-{team.pk}" if team is not None else "everybody"
        try:
            view = SavedView(page=options["page"])
            saved_views.keep(view, name=options["keep"], query=options["query"], share=share)
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from error
