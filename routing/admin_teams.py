"""Teams in the admin: who is in each, and what belongs to it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.admin import TabularInline
from unfold.widgets import UnfoldAdminSelectWidget

from providers import cells
from providers.pricing import USD
from providers.tables import SwitchableAdmin
from routing import budget_periods, spending
from routing.allowances import MONTH, TEAM
from routing.models import Team, TeamMember
from routing.spending import Spending
from routing.team_pages import OfTeams
from routing.teams import ROLES

PLACES = (
    (gettext_lazy("Client keys"), "routing_clientkey"),
    (gettext_lazy("Limits"), "routing_ratelimit"),
    (gettext_lazy("Budgets"), "routing_budget"),
    (gettext_lazy("Requests"), "inference_trace"),
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
    extra = 0
    verbose_name = gettext_lazy("member")
    hide_title = True

    def get_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """Whoever may only look is told names: a link would lead to the page of users, which is not theirs."""
        only_looks = not self.has_change_permission(request, obj) and not request.user.has_perm("auth.view_user")
        return ("colleague", "role") if only_looks else ("user", "role")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("colleague",)

    @admin.display(description=gettext_lazy("User"))
    def colleague(self, member: TeamMember) -> str:
        return member.user.get_username()


class TeamChangeList(ChangeList):
    """Asks for the spend of all teams at once."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        rows = list(self.result_list)
        month = budget_periods.span(MONTH, timezone.now())
        spent = spending.of(Spending(TEAM, month.start, month.end))
        for row in rows:
            row.spent_this_month = spent.get(row.pk, Decimal(0))
        self.result_list = rows


@admin.register(Team)
class TeamAdmin(OfTeams, SwitchableAdmin):
    team_fields = "pk"
    list_display = ("title", "members_count", "keys_count", "spent", "created", "state")
    list_filter = ("enabled",)
    search_fields = ("name", "description")
    search_help_text = gettext_lazy("Search by name or description")
    ordering = ("name",)
    inlines = (MemberInline,)
    list_before_template = "admin/routing/team/list_before.html"
    list_after_template = "gateway/twins.html"
    readonly_fields = ("places",)

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        counted = {"members_there": Count("members", distinct=True), "keys_there": Count("client_keys", distinct=True)}
        return super().get_queryset(request).annotate(**counted)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return TeamChangeList

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        return super().changelist_view(request, {"twins": _twins(request), **(extra_context or {})})

    def get_fieldsets(self, request: HttpRequest, obj: Team | None = None) -> list[tuple[str | None, dict]]:
        return [(None, {"fields": ["name", "description", "enabled", *(["places"] if obj else [])]})]

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        if db_field.name == "description" and field is not None:
            field.widget.attrs["rows"] = 2
        return field

    @admin.display(description=gettext_lazy("Team"), ordering="name")
    def title(self, team: Team) -> SafeString:
        return format_html(
            '<span class="gw-name"><strong>{}</strong><small>{}</small></span>', team.name, team.description[:160]
        )

    @admin.display(description=gettext_lazy("Members"), ordering="members_there")
    def members_count(self, team: Any) -> SafeString:
        return cells.number(team.members_there)

    @admin.display(description=gettext_lazy("Client keys"), ordering="keys_there")
    def keys_count(self, team: Any) -> SafeString:
        return cells.number(team.keys_there)

    @admin.display(description=gettext_lazy("Created"), ordering="created_at")
    def created(self, team: Team) -> SafeString:
        by = _("by %(who)s") % {"who": cells.who(team.created_by)} if team.created_by else ""
        return format_html("{} {}", cells.ago(team.created_at), by)

    @admin.display(description=gettext_lazy("This month"))
    def spent(self, team: Any) -> SafeString:
        return cells.money(team.spent_this_month, USD)

    @admin.display(description=gettext_lazy("State"), ordering="enabled")
    def state(self, team: Team) -> SafeString:
        return (
            cells.pill(_("active"), "good")
            if team.enabled
            else cells.pill(_("off"), "warn", _("Its keys are refused."))
        )

    @admin.display(description=gettext_lazy("Of this team"))
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


def _twins(request: HttpRequest) -> list[tuple[str, str]]:
    base, key = request.build_absolute_uri("/api/v1"), '-H "Authorization: Bearer $ADMIN_KEY"'
    body, json = '{"name": "research"}', '-H "Content-Type: application/json"'
    return [
        (_("The teams"), f"curl {key} {base}/teams"),
        (_("Add one"), f"curl -X POST {key} {json} -d '{body}' {base}/teams"),
        (_("In a file"), "python manage.py export_config gateway.yaml --sections teams"),
        (_("Let somebody into one"), "python manage.py invite marie --team research:manages"),
    ]
