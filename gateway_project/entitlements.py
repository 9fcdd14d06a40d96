"""Giving a user what a sign-on entitles to: the five roles as told, and the places in the teams that the mapping is about.

Groups and teams that the mapping knows nothing of are left as people set them. Whoever is entitled to nothing loses the way in.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from django.contrib.auth.models import AbstractUser, Group
from django.db import transaction

from gateway_project.role_names import ROLE_NAMES
from gateway_project.sign_on import Entitlement
from providers import audit
from routing.models import Team, TeamMember


@transaction.atomic
def grant(
    user: AbstractUser, entitlement: Entitlement, *, mapped_teams: Collection[str], keeps_roles: bool = False
) -> None:
    """`mapped_teams` are all that the mapping is about: a place in one of them that the entitlement lacks is taken away. So is a
    role, unless the user keeps theirs."""
    before = facts(user)
    if not keeps_roles:
        user.groups.remove(*user.groups.filter(name__in=set(ROLE_NAMES) - entitlement.roles))
    user.groups.add(*Group.objects.filter(name__in=entitlement.roles))
    if user.is_staff != bool(entitlement):
        user.is_staff = bool(entitlement)
        user.save(update_fields=["is_staff"])
    for member in TeamMember.objects.filter(user=user, team__name__in=set(mapped_teams) - entitlement.teams.keys()):
        member.delete()
    for team in Team.objects.filter(name__in=entitlement.teams):
        _place(user, team, entitlement.teams[team.name])
    after = facts(user)
    if before != after:
        audit.record("update", "user", user.get_username(), before=before, after=after)


def _place(user: AbstractUser, team: Team, role: str) -> None:
    member = TeamMember.objects.filter(user=user, team=team).first() or TeamMember(user=user, team=team)
    if member.pk is None or member.role != role:
        member.role = role
        member.save()


def facts(user: AbstractUser) -> dict[str, Any]:
    """What an entry of the audit log says of a user."""
    return {
        "active": user.is_active,
        "may_sign_in": user.is_staff,
        "superuser": user.is_superuser,
        "roles": sorted(user.groups.values_list("name", flat=True)),
    }
