"""What the admin's pages of limits and of budgets have in common: for whom a row counts."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.widgets import UnfoldAdminSelectWidget

from routing import visibility
from routing.subjects import EACH_KEY, NAMED_BY, OF_EACH, SUBJECTS, Counted
from routing.team_pages import TeamFilter

KINDS = {
    "all": "",
    "each_key": _("where it has none of its own"),
    "each_team": _("where it has none of its own"),
    "key": _("client key"),
    "team": _("team"),
    "model": _("model"),
    "provider": _("provider"),
    "tag": _("tag"),
}
WHOM: tuple[Any, dict[str, Any]] = (
    _("For whom"),
    {"fields": ("subject", *NAMED_BY.values())},
)


class CountedForm(forms.ModelForm):
    """What the chosen subject does not need is not on the page, and does not count."""

    subject = forms.ChoiceField(
        choices=[(name, f"{name.replace('_', ' ')}: {meaning}") for name, meaning in SUBJECTS.items()],
        initial=EACH_KEY,
        widget=UnfoldAdminSelectWidget,
    )

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        for subject, name in NAMED_BY.items():
            if name in cleaned and subject != cleaned.get("subject"):
                cleaned[name] = "" if name == "tag" else None
        return cleaned


class CountedPages:
    """Goes before the `ModelAdmin`."""

    form = CountedForm
    team_fields = ("team_id", "client_key__team_id")
    list_select_related = ("client_key", "team", "provider", "model__provider")
    autocomplete_fields = ("client_key", "team", "provider", "model")
    conditional_fields = {name: f"subject == '{subject}'" for subject, name in NAMED_BY.items()}
    search_fields = (
        "client_key__name",
        "client_key__prefix",
        "team__name",
        "provider__provider_id",
        "model__model_id",
        "tag",
    )
    search_help_text = _("Search by key, team, provider, model or tag")

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        """Members see, beside what is of their teams, what stands for each key or team: it bounds theirs too."""
        rows = super().get_queryset(request)  # type: ignore[misc]
        teams = visibility.teams_of(request.user)
        return rows | self.model._default_manager.filter(subject__in=OF_EACH) if teams else rows  # type: ignore[attr-defined]

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """A link may say for whom: `?client_key=7` is enough."""
        told = super().get_changeform_initial_data(request)  # type: ignore[misc]
        for subject, name in NAMED_BY.items():
            if told.get(name) and "subject" not in told:
                told["subject"] = subject
        return told

    @admin.display(description=_("State"), ordering="enabled")
    def state(self, row: Counted) -> SafeString:
        word, tone = (gettext("on"), "good") if row.enabled else (gettext("off"), "")
        return format_html('<span class="gw-pill {}" title="{}">{}</span>', f"gw-{tone}", row.managed_by, word)


class RowTeamFilter(TeamFilter):
    """A team's own rows, and those of its keys."""

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        wanted = self.value()
        if not wanted or not wanted.isdecimal():
            return queryset
        return queryset.filter(team_id=int(wanted)) | queryset.filter(client_key__team_id=int(wanted))


def title(row: Counted, name: str = "") -> SafeString:
    """Who it is, and below what that is; with a name of its own, below for whom it counts."""
    kind = KINDS[row.subject]
    who = row.subject_name.removeprefix(f"{row.subject} ")
    top, below = (name, who if row.subject.startswith("each_") else f"{kind} {who}".strip()) if name else (who, kind)
    more = gettext("from %(file)s") % {"file": row.managed_by} if row.managed_by else below
    return format_html('<span class="gw-name"><strong>{}</strong><small>{}</small></span>', top, more)
