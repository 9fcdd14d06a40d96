"""Teams: whose a client key is, who of the admin's users sees what it does, and for whom money and limits are counted."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models

from providers.models import RegistryModel, validate_identifier

VIEWS, MANAGES = "views", "manages"
ROLES = {
    VIEWS: "sees the team's keys, limits, spend and traces, and asks with its keys in the playground",
    MANAGES: "also issues, rotates and revokes its keys",
}


class Team(RegistryModel):
    """Client keys that belong together."""

    name = models.CharField(max_length=255, unique=True, validators=[validate_identifier])
    description = models.TextField(blank=True)
    enabled = models.BooleanField(default=True, help_text="Off refuses every key of the team.")
    managed_by = models.CharField(
        max_length=500, blank=True, editable=False, help_text="The configuration file that owns it."
    )

    class Meta:
        ordering = ["name"]
        permissions = [
            ("see_every_team", "Can see the keys, limits, spend and traces of every team, and of none"),
            ("manage_every_team", "Can issue, rotate and revoke the keys of every team, and of none"),
            ("grant_every_scope", "Can give client keys any scope, admin too"),
        ]

    def __str__(self) -> str:
        return self.name

    def audit_name(self) -> str:
        return self.name

    def dependent_facts(self) -> dict[str, Any]:
        return {"members": [member.facts() for member in self.members.all()]}


class TeamMember(RegistryModel):
    """A user of the admin in a team."""

    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="members")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="teams")
    role = models.CharField(max_length=16, default=VIEWS, choices=ROLES)

    class Meta:
        ordering = ["team", "user"]
        constraints = [models.UniqueConstraint(fields=["team", "user"], name="one_role_in_a_team")]

    def __str__(self) -> str:
        return f"{self.user} in {self.team}"

    def clean(self) -> None:
        if self.role not in ROLES:
            raise ValidationError({"role": f"One of {', '.join(ROLES)}."})

    def facts(self) -> dict[str, Any]:
        return {"team": self.team.name, "user": self.user.get_username(), "role": self.role}

    def audit_name(self) -> str:
        return f"{self.team.name}:{self.user.get_username()}"
