"""What membership in a team permits by itself, beside the roles: to look at the team's own things, to try its keys, and to manage them.

A backend of Django's authentication. Which rows these permissions are about is for `routing.visibility` to say.
"""

from __future__ import annotations

from typing import Any

from django.contrib.auth.backends import BaseBackend

from routing.teams import MANAGES, TeamMember

OF_MEMBERS = frozenset(
    {
        "routing.view_team",
        "routing.view_teammember",
        "routing.view_clientkey",
        "routing.use_playground",
        "routing.view_ratelimit",
        "routing.view_budget",
        "routing.view_budgetraise",
        "inference.view_trace",
        "inference.view_usagerecord",
    }
)
OF_MANAGERS = frozenset({"routing.add_clientkey", "routing.change_clientkey"})


class TeamPermissions(BaseBackend):
    def get_user_permissions(self, user_obj: Any, obj: Any = None) -> set[str]:
        if not user_obj.is_active or user_obj.is_anonymous or obj is not None:
            return set()
        # Asked many times for one page, as Django's own backend is, which keeps its answer on the user as well.
        if not hasattr(user_obj, "_team_permissions"):
            user_obj._team_permissions = _permissions_by(
                set(TeamMember.objects.filter(user_id=user_obj.pk).values_list("role", flat=True))
            )
        return set(user_obj._team_permissions)

    def has_perm(self, user_obj: Any, perm: str, obj: Any = None) -> bool:
        return perm in self.get_user_permissions(user_obj, obj)

    def has_module_perms(self, user_obj: Any, app_label: str) -> bool:
        return any(name.startswith(f"{app_label}.") for name in self.get_user_permissions(user_obj))


def _permissions_by(roles: set[str]) -> frozenset[str]:
    if not roles:
        return frozenset()
    return OF_MEMBERS | OF_MANAGERS if MANAGES in roles else OF_MEMBERS
