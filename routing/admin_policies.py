"""Policies in the admin: a list that says what serves under each name now, and what is wrong.

`policy_editor` edits one, `policy_cells` draws the columns.
"""

from __future__ import annotations

import time
from typing import Any

from django.contrib import admin
from django.db.models import F, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from unfold.views import ChangeList

from routing import health, policy_cells, policy_checks, policy_standing, policy_traffic, policy_twins, snapshot
from routing.models import Policy, PolicyVersion
from routing.policy_documents import KINDS
from routing.policy_editor import PolicyEditor


class KindFilter(admin.SimpleListFilter):
    title = _("kind")
    parameter_name = "kind"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(kind, kind) for kind in KINDS]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        return queryset.filter(kind=self.value()) if self.value() else queryset


class OverFilter(admin.SimpleListFilter):
    """What keeps clients from getting what the policy says."""

    title = _("stands over it")
    parameter_name = "over"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("override", _("an override")), ("trial", _("a trial"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        if self.value() == "override":
            return queryset.filter(override__isnull=False)
        return queryset.filter(candidate_version__isnull=False) if self.value() == "trial" else queryset


class PolicyChangeList(ChangeList):
    """Brings what a page of rows needs beside them: the last day's traffic, the versions that count, and who can serve now."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        rows = list(self.result_list)
        told = policy_traffic.of([row.name for row in rows])
        held, conditions, now = snapshot.refresh(), health.read(), time.time()
        counting = PolicyVersion.objects.filter(policy__in=rows, number=F("policy__version")).defer("document")
        may_override = request.user.has_perm("routing.change_policy")
        versions = {version.policy_id: version for version in counting}
        for row in rows:
            view = held.policies.get(row.name)
            row.may_override = may_override
            row.traffic = None if told is None else told.get(row.name, policy_traffic.NONE)
            row.counting = versions.get(row.pk)
            row.standing = None if view is None else policy_standing.of(view, held, conditions, now=now)
        self.result_list = rows


@admin.register(Policy)
class PolicyAdmin(PolicyEditor):
    list_display = (
        "title",
        "strategy",
        "targets",
        "standing_cell",
        "over_cell",
        "traffic_cell",
        "failed_cell",
        "rescued_cell",
        "changed_cell",
    )
    list_filter = (KindFilter, OverFilter, "enabled")
    list_select_related = ("override",)
    search_fields = ("name", "description")
    search_help_text = _("Search by name or description")
    ordering = ("name",)
    list_before_template = "admin/routing/policy/list_before.html"
    list_after_template = "admin/routing/policy/list_after.html"

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        self.validation = policy_checks.current()
        shown = {
            "validation": self.validation,
            "no_policies": not Policy.objects.exists(),
            "twins": policy_twins.of_all(),
        }
        return super().changelist_view(request, {**shown, **(extra_context or {})})

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return PolicyChangeList

    @admin.display(description=_("Policy"), ordering="name")
    def title(self, row: Policy) -> SafeString:
        return policy_cells.title(row, self.validation)

    @admin.display(description=_("Strategy"))
    def strategy(self, row: Policy) -> str:
        return policy_cells.strategy(row.document)

    @admin.display(description=_("Targets"))
    def targets(self, row: Policy) -> SafeString:
        return policy_cells.targets(row.document)

    @admin.display(description=_("Can serve"))
    def standing_cell(self, row: Any) -> SafeString:
        return policy_cells.standing(row.standing)

    @admin.display(description=_("Stands over it"))
    def over_cell(self, row: Any) -> SafeString:
        return policy_cells.over_it(row, may_override=row.may_override)

    @admin.display(description=_("24 h"))
    def traffic_cell(self, row: Any) -> SafeString:
        return policy_cells.requests(row.traffic)

    @admin.display(description=_("Failed"))
    def failed_cell(self, row: Any) -> SafeString:
        return policy_cells.failed(row.traffic)

    @admin.display(description=_("Rescued"))
    def rescued_cell(self, row: Any) -> SafeString:
        return policy_cells.rescued(row.traffic)

    @admin.display(description=_("Changed"), ordering="updated_at")
    def changed_cell(self, row: Any) -> SafeString:
        return policy_cells.changed(row, row.counting)
