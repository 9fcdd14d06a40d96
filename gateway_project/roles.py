"""The five roles of people: groups that every migration makes and keeps as they are told here.

What a role may is a rule over the permissions there are, so a new table is somebody's from its first day; nothing that holds what
customers wrote is a viewer's. Other groups are the installation's own and are left alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import Group, Permission
from django.db.models import QuerySet

from gateway_project.role_names import ADMIN, FINANCE, KEYS, OPERATOR, VIEWER
from routing.visibility import MANAGE_EVERY_TEAM, SEE_EVERY_TEAM, USE_EVERY_KEY, USE_PLAYGROUND

OURS = ("providers", "routing", "inference")
TEXTS = {"inference.shadowpair", "inference.tracecontent"}
"""What customers and models wrote."""
ACCESS = {"routing.clientkey", "routing.team", "routing.teammember", "routing.ratelimit"}
MONEY = {"routing.budget", "routing.budgetraise"}
PRICES = {"providers.priceoverride", "inference.costcorrection"}
ASKS = {USE_PLAYGROUND, USE_EVERY_KEY}
"""Spends money: looking alone does not permit it."""
CATALOGUE = {"providers.provider", "providers.providermodel", "routing.policy"}


@dataclass(frozen=True, slots=True)
class May:
    """One permission, taken apart: `verb` is view, add, change, delete, or another where `target` is empty."""

    name: str
    verb: str
    target: str
    app: str


@dataclass(frozen=True, slots=True)
class Role:
    name: str
    meaning: str
    holds: Callable[[May], bool]


def _views(may: May) -> bool:
    if may.name == SEE_EVERY_TEAM:
        return True
    return may.app in OURS and may.verb == "view" and may.target not in TEXTS


def _operates(may: May) -> bool:
    return (
        may.name in ASKS or _views(may) or (may.app in OURS and bool(may.target) and may.target not in ACCESS | MONEY)
    )


def _keeps_keys(may: May) -> bool:
    if may.name in ASKS | {SEE_EVERY_TEAM, MANAGE_EVERY_TEAM} or may.target in ACCESS:
        return True
    return may.verb == "view" and may.target in CATALOGUE | MONEY | {"inference.trace", "inference.usagerecord"}


def _keeps_money(may: May) -> bool:
    return _views(may) or may.target in MONEY | PRICES


ROLES = {
    role.name: role
    for role in (
        Role(VIEWER, "sees everything but what customers wrote, and changes nothing", _views),
        Role(
            OPERATOR,
            "sees what customers wrote too, and runs the registry, routing, imports, the cut-over and health",
            _operates,
        ),
        Role(KEYS, "issues and revokes client keys, and keeps teams and limits", _keeps_keys),
        Role(FINANCE, "sees what a viewer sees, and keeps budgets and prices", _keeps_money),
        Role(ADMIN, "everything, users and their roles too", lambda may: True),
    )
}


def make(**_: Any) -> None:
    """Bring the groups and their permissions to what this module says. Changes nothing where all is so already."""
    there = _all_permissions()
    wanted = {name: {pk for pk, may in there if role.holds(may)} for name, role in ROLES.items()}
    for name in ROLES.keys() - set(Group.objects.filter(name__in=ROLES).values_list("name", flat=True)):
        Group.objects.get_or_create(name=name)
    held: dict[str, set[int]] = {name: set() for name in ROLES}
    links = Group.permissions.through.objects.filter(group__name__in=ROLES)
    for name, permission_id in links.values_list("group__name", "permission_id"):
        held[name].add(permission_id)
    for group in Group.objects.filter(name__in=[name for name in ROLES if held[name] != wanted[name]]):
        group.permissions.set(wanted[group.name])


def groups() -> QuerySet[Group]:
    return Group.objects.filter(name__in=ROLES)


def _all_permissions() -> list[tuple[int, May]]:
    rows = Permission.objects.values_list("pk", "content_type__app_label", "codename", "content_type__model")
    return [(pk, _may(app, codename, model)) for pk, app, codename, model in rows]


def _may(app: str, codename: str, model: str) -> May:
    verb = codename.removesuffix(f"_{model}")
    standard = verb in ("view", "add", "change", "delete")
    return May(f"{app}.{codename}", verb if standard else codename, f"{app}.{model}" if standard else "", app)
