"""Teams in the admin: who is in each, and what belongs to it."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import Count, QuerySet
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.admin import TabularInline
from unfold.widgets import UnfoldAdminSelectWidget

from providers import cells
from providers.tables import SwitchableAdmin
from routing.models import Team, TeamMember
from routing.team_pages import OfTeams
from routing.teams import ROLES

PLACES = (
    ("Client keys", "routing_clientkey"),
    ("Limits", "routing_ratelimit"),
    ("Budgets", "routing_budget"),
    ("Requests", "inference_trace"),
)
"""Lists that a team's page leads to, where they can be narrowed to a team."""


class MemberForm(forms.ModelForm):
    role = forms.ChoiceField(
        choices=[(name, f"{name}: {meaning}") for name, meaning in ROLES.items()], widget=UnfoldAdminSelectWidget
    )

    class Meta:
        model = TeamMember
        fields = ("user", "role")


class MemberInline(TabularInline):
    model = TeamMember
    form = MemberForm
    fields = ("user", "role")
    extra = 0
    verbose_name = "member"
    hide_title = True


@admin.register(Team)
class TeamAdmin(OfTeams, SwitchableAdmin):
    team_fields = "pk"
    list_display = ("title", "members_count", "keys_count", "created", "state")
    list_filter = ("enabled",)
    search_fields = ("name", "description")
    search_help_text = "Search by name or description"
    ordering = ("name",)
    inlines = (MemberInline,)
    list_before_template = "admin/routing/team/list_before.html"
    readonly_fields = ("places",)

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        counted = {"members_there": Count("members", distinct=True), "keys_there": Count("client_keys", distinct=True)}
        return super().get_queryset(request).annotate(**counted)

    def get_fieldsets(self, request: HttpRequest, obj: Team | None = None) -> list[tuple[str | None, dict]]:
        return [(None, {"fields": ["name", "description", "enabled", *(["places"] if obj else [])]})]

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        if db_field.name == "description" and field is not None:
            field.widget.attrs["rows"] = 2
        return field

    @admin.display(description="Team", ordering="name")
    def title(self, team: Team) -> SafeString:
        return format_html(
            '<span class="gw-name"><strong>{}</strong><small>{}</small></span>', team.name, team.description[:160]
        )

    @admin.display(description="Members", ordering="members_there")
    def members_count(self, team: Any) -> SafeString:
        return cells.number(team.members_there)

    @admin.display(description="Client keys", ordering="keys_there")
    def keys_count(self, team: Any) -> SafeString:
        return cells.number(team.keys_there)

    @admin.display(description="Created", ordering="created_at")
    def created(self, team: Team) -> SafeString:
        by = f" by {team.created_by}" if team.created_by else ""
        return format_html("{}{}", cells.ago(team.created_at), by)

    @admin.display(description="State", ordering="enabled")
    def state(self, team: Team) -> SafeString:
        return cells.pill("active", "good") if team.enabled else cells.pill("off", "warn", "Its keys are refused.")

    @admin.display(description="Of this team")
    def places(self, team: Team) -> SafeString:
        links = [(f"{address}?team={team.pk}", name) for name, address in _places()]
        return format_html_join(" · ", '<a class="gw-link" href="{}">{}</a>', links)


def _places() -> list[tuple[str, str]]:
    found = []
    for name, model in PLACES:
        try:
            found.append((name, reverse(f"admin:{model}_changelist")))
        except NoReverseMatch:
            continue
    return found
