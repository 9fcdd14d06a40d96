"""The settings of routing as a whole: one row, so one page in place of a list."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.admin import ModelAdmin

from providers import actor, pages
from routing import policy_twins
from routing.models import Policy, RoutingSettings
from routing.settings_form import SettingsForm

NAMES_OFFERED = 500
GROUPS = (
    (
        gettext_lazy("Names"),
        gettext_lazy("What serves a request that names no model, or one that nobody has."),
        ("default_policy", "unknown_model"),
    ),
    (
        gettext_lazy("Cost"),
        gettext_lazy("No request whose estimate is above this is served, whatever its policy allows."),
        ("max_cost_per_request",),
    ),
    (
        gettext_lazy("Failures"),
        gettext_lazy("What happens when the first model does not answer."),
        ("fallback_enabled", "retries", "retry_delay_seconds"),
    ),
)


@admin.register(RoutingSettings)
class RoutingSettingsAdmin(ModelAdmin):
    """One row, so one page in place of a list."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        return redirect("admin:routing_routingsettings_changelist")

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        if not self.has_view_or_change_permission(request):
            raise PermissionDenied
        row = RoutingSettings.load()
        may_change = self.has_change_permission(request) and not row.managed_by
        form = SettingsForm(request.POST if request.method == "POST" else None, instance=row)
        if request.method == "POST":
            if not may_change:
                raise PermissionDenied
            if form.is_valid():
                with actor.giving_reason(form.cleaned_data["reason"]):
                    form.save()
                messages.success(request, _("Saved. It counts from the next request on."))
                return redirect("admin:routing_routingsettings_changelist")
        if not may_change:
            for field in form.fields.values():
                field.disabled = True
        return pages.render(
            request,
            "admin/routing/policy/settings.html",
            {
                "title": _("Routing settings"),
                "media": self.media,
                "form": form,
                "groups": [(title, hint, [form[name] for name in names]) for title, hint, names in GROUPS],
                "row": row,
                "may_change": may_change,
                "names": list(Policy.objects.filter(enabled=True).values_list("name", flat=True)[:NAMES_OFFERED]),
                "environment": _environment(),
                "twins": policy_twins.of_settings(),
            },
        )


def _environment() -> list[str]:
    """What this process was started with, which wins over the page until a restart without it."""
    said = {
        "GATEWAY_FALLBACK_ENABLED=false": not settings.GATEWAY_FALLBACK_ENABLED,
        f"GATEWAY_MAX_RETRIES={settings.GATEWAY_MAX_RETRIES}": settings.GATEWAY_MAX_RETRIES is not None,
        f"GATEWAY_RETRY_DELAY_SECONDS={settings.GATEWAY_RETRY_DELAY_SECONDS}": (
            settings.GATEWAY_RETRY_DELAY_SECONDS is not None
        ),
        "OPENROUTER_FALLBACK_ENABLED=false": not settings.OPENROUTER_FALLBACK_ENABLED,
    }
    return [words for words, holds in said.items() if holds]
