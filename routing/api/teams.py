"""`/api/v1/teams` and `/api/v1/team-members`: for keys with the scope `admin`."""

from __future__ import annotations

from typing import Any

import django_filters as filters
from django.contrib.auth import get_user_model
from rest_framework import serializers

from providers.resources import Resource, ResourceSerializer
from routing.models import Team, TeamMember
from routing.teams import ROLES

_ADMINS = dict.fromkeys(("GET", "POST", "PUT", "PATCH", "DELETE"), "admin")


class _Checked(ResourceSerializer):
    def create(self, validated_data: dict[str, Any]) -> Any:
        return self._saved(self.Meta.model(), validated_data)

    def update(self, instance: Any, validated_data: dict[str, Any]) -> Any:
        return self._saved(instance, validated_data)

    def _saved(self, row: Any, told: dict[str, Any]) -> Any:
        for name, value in told.items():
            setattr(row, name, value)
        row.full_clean()
        row.save()
        return row


class TeamResource(_Checked):
    class Meta:
        model = Team
        fields = ["id", "name", "description", "enabled", "managed_by", "created_at", "updated_at", "created_by"]
        read_only_fields = ["managed_by", "created_at", "updated_at", "created_by"]


class TeamFilter(filters.FilterSet):
    class Meta:
        model = Team
        fields = ["name", "enabled"]


class Teams(Resource):
    """Whom client keys belong to. A team that has keys stays: move or delete them first."""

    queryset = Team.objects.all()
    serializer_class = TeamResource
    required_scopes = _ADMINS
    filterset_class = TeamFilter


class TeamMemberResource(_Checked):
    team = serializers.SlugRelatedField(slug_field="name", queryset=Team.objects.all())
    user = serializers.SlugRelatedField(
        slug_field="username", queryset=get_user_model()._default_manager.all(), help_text="A user of the admin."
    )
    role = serializers.ChoiceField(list(ROLES.items()), required=False)

    class Meta:
        model = TeamMember
        fields = ["id", "team", "user", "role", "created_at", "updated_at", "created_by"]
        read_only_fields = ["created_at", "updated_at", "created_by"]


class TeamMemberFilter(filters.FilterSet):
    team = filters.CharFilter(field_name="team__name")
    user = filters.CharFilter(field_name="user__username")

    class Meta:
        model = TeamMember
        fields = ["team", "user", "role"]


class TeamMembers(Resource):
    """Users of the admin in teams: with `views` they see its keys, limits, spend and traces; with `manages` they issue its keys too."""

    queryset = TeamMember.objects.select_related("team", "user")
    serializer_class = TeamMemberResource
    required_scopes = _ADMINS
    filterset_class = TeamMemberFilter
