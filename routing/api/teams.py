"""`/api/v1/teams` and `/api/v1/team-members`: for keys with the scope `admin`."""

from __future__ import annotations

import django_filters as filters
from django.contrib.auth import get_user_model
from django.db.models import QuerySet
from rest_framework import serializers

from providers.resources import CheckedSerializer, Resource
from routing.api.permissions import ADMINS_ONLY
from routing.models import Team, TeamMember
from routing.teams import ROLES


class TeamResource(CheckedSerializer):
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
    required_scopes = ADMINS_ONLY
    filterset_class = TeamFilter


class TeamMemberResource(CheckedSerializer):
    team = serializers.SlugRelatedField(slug_field="name", queryset=Team.objects.all())
    user = serializers.SlugRelatedField(
        slug_field="username", queryset=get_user_model()._default_manager.all(), help_text="A user of the admin."
    )
    role = serializers.ChoiceField(list(ROLES.items()), required=False)

    def validate_team(self, team: Team) -> Team:
        if self.context["request"].auth.team_id not in (None, team.pk):
            raise serializers.ValidationError("Your key belongs to a team: it manages that team's members alone.")
        return team

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
    """Users of the admin in teams: with `views` they see its keys, limits, spend and traces; with `manages` they issue its keys too.

    A key that belongs to a team finds and makes that team's members: whom it let into another one would make keys there.
    """

    queryset = TeamMember.objects.select_related("team", "user")
    serializer_class = TeamMemberResource
    required_scopes = ADMINS_ONLY
    filterset_class = TeamMemberFilter

    def get_queryset(self) -> QuerySet:
        rows = super().get_queryset()
        team = getattr(self.request.auth, "team_id", None)
        return rows if team is None else rows.filter(team_id=team)
