"""What each role may, area by area, as its rule says: for people to read. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from gateway_project.roles import ROLES, May, Role
from routing.visibility import USE_PLAYGROUND

NOTHING, SEES, CHANGES = "", "sees", "changes"


@dataclass(frozen=True, slots=True)
class Area:
    """`targets` are models as `app.model`; of some there is nothing to change, only to see."""

    title: str | Promise
    targets: Sequence[str]
    only_seen: bool = False


AREAS = (
    Area(_("Providers and models"), ("providers.provider", "providers.providermodel")),
    Area(_("Prices"), ("providers.priceoverride",)),
    Area(_("Policies, overrides and settings of routing"), ("routing.policy", "routing.routingsettings")),
    Area(_("Import, configuration and cut-over"), ("providers.importrun", "routing.rollout")),
    Area(_("Client keys and teams"), ("routing.clientkey", "routing.team")),
    Area(_("Limits"), ("routing.ratelimit",)),
    Area(_("Budgets and their raises"), ("routing.budget", "routing.budgetraise")),
    Area(_("Requests and usage"), ("inference.trace", "inference.usagerecord"), only_seen=True),
    Area(_("What customers and models wrote"), ("inference.tracecontent",), only_seen=True),
    Area(_("Alerts"), ("inference.alertrule", "inference.alertchannel")),
    Area(_("The audit log"), ("providers.auditentry",), only_seen=True),
    Area(_("Users and their roles"), ("auth.user", "auth.group")),
)


@dataclass(frozen=True, slots=True)
class Row:
    title: str | Promise
    levels: tuple[str, ...]
    """By role: sees, changes, or nothing."""


def rows() -> list[Row]:
    found = [Row(area.title, tuple(_level(role, area) for role in ROLES.values())) for area in AREAS]
    asks = tuple(CHANGES if role.holds(_named(USE_PLAYGROUND)) else NOTHING for role in ROLES.values())
    return [*found, Row(_("Asking in the playground"), asks)]


def _level(role: Role, area: Area) -> str:
    if not area.only_seen and all(role.holds(_verb("change", target)) for target in area.targets):
        return CHANGES
    return SEES if any(role.holds(_verb("view", target)) for target in area.targets) else NOTHING


def _verb(verb: str, target: str) -> May:
    app, _dot, model = target.partition(".")
    return May(f"{app}.{verb}_{model}", verb, target, app)


def _named(permission: str) -> May:
    app, _dot, codename = permission.partition(".")
    return May(permission, codename, "", app)
