"""Admin pages of what teams own: each user finds the rows of their own teams, there and wherever such rows are offered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.contrib import admin
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from routing import visibility
from routing.models import ClientKey, Team

_OWNED: dict[type[Model], str] = {Team: "pk", ClientKey: "team_id"}


class OfTeams:
    """Goes before the `ModelAdmin` that it narrows; `team_fields` says where a row names its team, as `visibility.visible` takes it.

    Lists, pages by id, history, actions, autocompletion and the choices of forms hold what the user sees and no more. Who does not
    see every team only looks.
    """

    team_fields: str | Sequence[str] = "team_id"

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        return visibility.visible(super().get_queryset(request), request.user, self.team_fields)  # type: ignore[misc]

    def may_write(self, request: HttpRequest, row: Any = None) -> bool:
        """Beside the permission of Django's. Without a row: whether there may be one."""
        return visibility.sees_everything(request.user)

    def has_add_permission(self, request: HttpRequest, *args: Any) -> bool:
        return super().has_add_permission(request, *args) and self.may_write(request)  # type: ignore[misc]

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_change_permission(request, obj) and self.may_write(request, obj)  # type: ignore[misc]

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_delete_permission(request, obj) and self.may_write(request, obj)  # type: ignore[misc]

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        field = _OWNED.get(db_field.remote_field.model)
        if field is not None:
            offered = kwargs.get("queryset", db_field.remote_field.model._default_manager.all())
            kwargs["queryset"] = self.offered(request, offered, field)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)  # type: ignore[misc]

    def offered(self, request: HttpRequest, queryset: QuerySet, field: str) -> QuerySet:
        return visibility.visible(queryset, request.user, field)


class ManagedByTeams(OfTeams):
    """For client keys: the managers of a team write those of their own team."""

    def may_write(self, request: HttpRequest, row: Any = None) -> bool:
        teams = visibility.managed_by(request.user)
        if teams is None or row is None:
            return teams is None or bool(teams)
        return row.team_id in teams

    def response_action(self, request: HttpRequest, queryset: QuerySet) -> Any:
        """An action asks for the permission once; each row of the selection is looked at by itself here."""
        theirs = [row.pk for row in queryset if self.may_write(request, row)]
        return super().response_action(request, queryset.filter(pk__in=theirs))  # type: ignore[misc]

    def offered(self, request: HttpRequest, queryset: QuerySet, field: str) -> QuerySet:
        return visibility.managed(queryset, request.user, field)


class TeamFilter(admin.SimpleListFilter):
    """By team, of those that the user sees. `name` is the field of the rows that holds the team's id."""

    title = _("team")
    parameter_name = "team"
    name = "team_id"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        teams = visibility.visible(Team.objects.all(), request.user, "pk")
        return [(str(pk), name) for pk, name in teams.values_list("pk", "name")[:200]]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        wanted = self.value()
        return queryset.filter(**{self.name: int(wanted)}) if wanted and wanted.isdecimal() else queryset
