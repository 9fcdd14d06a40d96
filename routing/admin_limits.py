"""Limits in the admin: how much each subject may ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.http import HttpRequest, HttpResponse
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from providers import cells
from providers.tables import SwitchableAdmin
from routing import allowance_rows, budget_cells, budget_status
from routing.admin_subjects import WHOM, CountedPages, RowTeamFilter
from routing.admin_subjects import title as title_of
from routing.allowances import Allowance
from routing.budget_status import Counted
from routing.models import RateLimit
from routing.rate_limits import LIMITS
from routing.subjects import EACH_KEY, EACH_TEAM
from routing.team_pages import OfTeams

# What people call it; the table keeps the name that it was made with.
RateLimit._meta.verbose_name, RateLimit._meta.verbose_name_plural = gettext_lazy("limit"), gettext_lazy("limits")


class LimitChangeList(ChangeList):
    """Asks what is used of all rows of the page at once."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        rows = list(self.result_list)
        of_row = {row.pk: _allowances(row) for row in rows}
        counted = budget_status.figures([one for some in of_row.values() for one in some])
        for row in rows:
            row.now = _fullest(of_row[row.pk], counted)
        self.result_list = rows


def _allowances(row: RateLimit) -> list[Allowance]:
    """None of a row for each key or team: each has figures of its own."""
    if not row.enabled or row.subject in (EACH_KEY, EACH_TEAM):
        return []
    return [rule.of(rule.named) for rule in allowance_rows.limit_rules(row)]


def _fullest(some: Sequence[Allowance], counted: Mapping[str, Counted] | None) -> tuple[Allowance, int] | None:
    """The one of which most is used, and how much."""
    used = {one.key: (counted or {}).get(one.key, Counted(0, 0)) for one in some}
    told = [(one, used[one.key].used + used[one.key].reserved) for one in some]
    return max(told, key=lambda each: each[1] / each[0].amount, default=None) if counted is not None else None


@admin.register(RateLimit)
class RateLimitAdmin(CountedPages, OfTeams, SwitchableAdmin):
    list_display = ("title", "rpm", "rpd", "tpm", "tpd", "at_once", "now_cell", "state")
    list_filter = ("subject", RowTeamFilter, "enabled")
    ordering = ("subject", "id")
    list_before_template = "admin/routing/ratelimit/list_before.html"
    list_after_template = "gateway/twins.html"
    fieldsets = (
        WHOM,
        (
            gettext_lazy("How much"),
            {
                "fields": (*LIMITS, "enabled"),
                "description": gettext_lazy(
                    "An empty number is no limit. A key's or a team's own number takes the place of the one for each."
                ),
            },
        ),
    )

    @admin.display(description=gettext_lazy("For whom"), ordering="subject")
    def title(self, row: RateLimit) -> SafeString:
        return title_of(row)

    @admin.display(description=gettext_lazy("Requests / min"), ordering="requests_per_minute")
    def rpm(self, row: RateLimit) -> SafeString:
        return cells.number(row.requests_per_minute)

    @admin.display(description=gettext_lazy("Requests / day"), ordering="requests_per_day")
    def rpd(self, row: RateLimit) -> SafeString:
        return cells.number(row.requests_per_day)

    @admin.display(description=gettext_lazy("Tokens / min"), ordering="tokens_per_minute")
    def tpm(self, row: RateLimit) -> SafeString:
        return cells.number(row.tokens_per_minute)

    @admin.display(description=gettext_lazy("Tokens / day"), ordering="tokens_per_day")
    def tpd(self, row: RateLimit) -> SafeString:
        return cells.number(row.tokens_per_day)

    @admin.display(description=gettext_lazy("At once"), ordering="concurrent_requests")
    def at_once(self, row: RateLimit) -> SafeString:
        return cells.number(row.concurrent_requests)

    @admin.display(description=gettext_lazy("Used now"))
    def now_cell(self, row: Any) -> SafeString:
        if row.now is None:
            return cells.EMPTY
        allowance, used = row.now
        return budget_cells.share(used, allowance.amount, budget_cells.UNITS[allowance.unit, allowance.period])

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return LimitChangeList

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        return super().changelist_view(request, {**_twins(request), **(extra_context or {})})


def _twins(request: HttpRequest) -> dict[str, Any]:
    base = request.build_absolute_uri("/api/v1")
    key = '-H "Authorization: Bearer $GATEWAY_KEY"'
    body = '{"subject": "each_key", "requests_per_minute": 60, "tokens_per_minute": 100000}'
    return {
        "twins": [
            (_("The limits"), f"curl {key} {base}/limits"),
            (
                _("Add one"),
                f"curl -X POST {key} -H \"Content-Type: application/json\" \\\n  -d '{body}' {base}/limits",
            ),
            (_("What a key has left, asked with that key"), f"curl {key} {base}/me"),
            (_("In a file"), "python manage.py export_config gateway.yaml --sections limits"),
        ]
    }
