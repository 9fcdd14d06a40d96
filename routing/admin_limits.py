"""Limits in the admin: how much each subject may ask for."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.utils.safestring import SafeString

from providers import cells
from providers.tables import SwitchableAdmin
from routing.admin_subjects import WHOM, CountedPages, RowTeamFilter
from routing.admin_subjects import title as title_of
from routing.models import RateLimit
from routing.rate_limits import LIMITS
from routing.team_pages import OfTeams


@admin.register(RateLimit)
class RateLimitAdmin(CountedPages, OfTeams, SwitchableAdmin):
    list_display = ("title", "rpm", "rpd", "tpm", "tpd", "at_once", "state")
    list_filter = ("subject", RowTeamFilter, "enabled")
    ordering = ("subject", "id")
    list_before_template = "admin/routing/ratelimit/list_before.html"
    fieldsets = (
        WHOM,
        (
            "How much",
            {
                "fields": (*LIMITS, "enabled"),
                "description": "An empty number is no limit. A key's or a team's own number takes the place of the one for each.",
            },
        ),
    )

    @admin.display(description="For whom", ordering="subject")
    def title(self, row: RateLimit) -> SafeString:
        return title_of(row)

    @admin.display(description="Requests / min", ordering="requests_per_minute")
    def rpm(self, row: RateLimit) -> SafeString:
        return cells.number(row.requests_per_minute)

    @admin.display(description="Requests / day", ordering="requests_per_day")
    def rpd(self, row: RateLimit) -> SafeString:
        return cells.number(row.requests_per_day)

    @admin.display(description="Tokens / min", ordering="tokens_per_minute")
    def tpm(self, row: RateLimit) -> SafeString:
        return cells.number(row.tokens_per_minute)

    @admin.display(description="Tokens / day", ordering="tokens_per_day")
    def tpd(self, row: RateLimit) -> SafeString:
        return cells.number(row.tokens_per_day)

    @admin.display(description="At once", ordering="concurrent_requests")
    def at_once(self, row: RateLimit) -> SafeString:
        return cells.number(row.concurrent_requests)

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        return super().changelist_view(request, {**_twins(request), **(extra_context or {})})


def _twins(request: HttpRequest) -> dict[str, Any]:
    base = request.build_absolute_uri("/api/v1")
    key = '-H "Authorization: Bearer $GATEWAY_KEY"'
    body = '{"subject": "each_key", "requests_per_minute": 60, "tokens_per_minute": 100000}'
    return {
        "twins": [
            ("The limits", f"curl {key} {base}/limits"),
            (
                "Add one",
                f"curl -X POST {key} -H \"Content-Type: application/json\" \\\n  -d '{body}' {base}/limits",
            ),
            ("What a key has left, asked with that key", f"curl {key} {base}/me"),
            ("In a file", "python manage.py export_config gateway.yaml"),
        ]
    }
