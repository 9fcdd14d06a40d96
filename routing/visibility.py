"""What of the teams' things a user of the admin sees: all of it, or what belongs to the user's own teams.

Fails closed: without the permission `routing.see_every_team` (the roles have it) and without a team, a user sees nothing, and
what belongs to no team is for those alone who see everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from django.db.models import Model, Q, QuerySet

from routing.teams import MANAGES, TeamMember

SEE_EVERY_TEAM = "routing.see_every_team"
MANAGE_EVERY_TEAM = "routing.manage_every_team"
USE_PLAYGROUND = "routing.use_playground"
USE_EVERY_KEY = "routing.use_every_key"
M = TypeVar("M", bound=Model)


def teams_of(user: Any) -> frozenset[int] | None:
    """Ids of the teams whose things the user sees; None: of all, and of none."""
    if user is None or not user.is_active:
        return frozenset()
    return None if user.has_perm(SEE_EVERY_TEAM) else _teams(user)


def managed_by(user: Any) -> frozenset[int] | None:
    """Ids of the teams whose client keys the user may issue, rotate and revoke; None: all keys, of whatever team."""
    if user is None or not user.is_active:
        return frozenset()
    return None if user.has_perm(MANAGE_EVERY_TEAM) else _teams(user, role=MANAGES)


def asks_with(user: Any) -> frozenset[int] | None:
    """Ids of the teams with whose client keys the user may ask in the playground; None: with all keys, and in their own name.

    Seeing a key is not enough: who only looks at every team spends no team's money but their own's.
    """
    if user is None or not user.is_active or not user.has_perm(USE_PLAYGROUND):
        return frozenset()
    return None if user.has_perm(USE_EVERY_KEY) else _teams(user)


def sees_everything(user: Any) -> bool:
    """For pages that tell of all teams together."""
    return teams_of(user) is None


def visible(queryset: QuerySet[M], user: Any, field: str | Sequence[str] = "team_id") -> QuerySet[M]:
    """The rows that the user sees. `field` names where a row says whose it is (several: any of them), such as `team_id` of a
    trace, `("team_id", "client_key__team_id")` of a budget, `pk` of a team."""
    return _of(queryset, teams_of(user), field)


def managed(queryset: QuerySet[M], user: Any, field: str | Sequence[str] = "team_id") -> QuerySet[M]:
    """The client keys that the user may issue, rotate and revoke."""
    return _of(queryset, managed_by(user), field)


def asked_with(queryset: QuerySet[M], user: Any, field: str | Sequence[str] = "team_id") -> QuerySet[M]:
    """The client keys with which the user may ask in the playground."""
    return _of(queryset, asks_with(user), field)


def _of(queryset: QuerySet[M], teams: frozenset[int] | None, field: str | Sequence[str]) -> QuerySet[M]:
    if teams is None:
        return queryset
    if not teams:
        return queryset.none()
    wanted = Q()
    for name in (field,) if isinstance(field, str) else field:
        wanted |= Q(**{f"{name}__in": teams})
    return queryset.filter(wanted)


def _teams(user: Any, **narrowed: str) -> frozenset[int]:
    if user.pk is None:
        return frozenset()
    return frozenset(TeamMember.objects.filter(user_id=user.pk, **narrowed).values_list("team_id", flat=True))
