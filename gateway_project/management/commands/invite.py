"""Let somebody into the admin: make the user, say what they may, print a link that signs them in once."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction
from rich.console import Console

from gateway_project import entitlements, first_login
from gateway_project.role_names import ROLE_NAMES
from gateway_project.sign_on import Entitlement, place_in_team
from providers import actor
from routing.models import Team


class Command(BaseCommand):
    help = (
        "Let somebody into the admin, by roles over everything or by teams. The link that it prints is good for one sign-in within "
        "a day; there the person sets a password. Say it again for somebody who has no password yet, and an earlier link dies when "
        "one of them is used. Whoever has a password keeps it and gets no link. Roles take the place of those before; without "
        "--role these stay, and places in other teams do in any case. Examples: "
        "`invite ada --role operator`, `invite marie --team research --team sales:manages`."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username")
        parser.add_argument(
            "--role", action="append", default=[], choices=ROLE_NAMES, help="May be said several times."
        )
        parser.add_argument(
            "--team", action="append", default=[], help="A team's name; with :manages also to issue its keys."
        )
        parser.add_argument("--email", default="", help="Kept with the user.")
        parser.add_argument("--base-url", default="http://127.0.0.1:8000", help="Where the gateway is reached.")

    def handle(self, *args: Any, **options: Any) -> None:
        entitlement = Entitlement(frozenset(options["role"]), dict(_place(told) for told in options["team"]))
        if not entitlement:
            raise CommandError("Say what they may: --role or --team.")
        known = set(Team.objects.filter(name__in=entitlement.teams).values_list("name", flat=True))
        if missing := sorted(entitlement.teams.keys() - known):
            raise CommandError(f"There is no team {', '.join(missing)}.")
        with actor.acting_as("command:invite"), transaction.atomic():
            user = _user(options["username"], options["email"])
            entitlements.grant(user, entitlement, mapped_teams=(), keeps_roles=not entitlement.roles)
        console = Console(file=self.stdout, highlight=False, soft_wrap=True)
        console.print(f"{user} may: {', '.join([*sorted(entitlement.roles), *sorted(entitlement.teams)])}")
        if user.has_usable_password():
            console.print("They have a password; it stays as it is.")
        else:
            console.print(options["base_url"].rstrip("/") + first_login.path_for(user))


def _place(told: str) -> tuple[str, str]:
    try:
        return place_in_team(told)
    except ValueError as error:
        raise CommandError(f"--team {told}: {error}.") from None


def _user(username: str, email: str) -> Any:
    users = get_user_model()._default_manager
    user = users.filter(username=username).first()
    if user is None:
        user = get_user_model()(username=username, email=email)
        user.set_unusable_password()
        try:
            user.full_clean(exclude=["password"])
        except ValidationError as error:
            raise CommandError("; ".join(error.messages)) from error
        user.save()
    if not user.is_active:
        raise CommandError(f"{username} is switched off; switch them on in the admin first.")
    return user
