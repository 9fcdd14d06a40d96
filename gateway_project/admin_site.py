"""The admin site: unfold's, under our name, with a first page of our own."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.urls import path, reverse_lazy
from unfold.sites import UnfoldAdminSite

from providers import pages


class GatewayAdminSite(UnfoldAdminSite):
    site_title = "LLM Gateway"
    site_header = "LLM Gateway"
    index_title = "Overview"
    index_template = "gateway/dashboard.html"

    def get_urls(self) -> list[Any]:
        own = [path(page.path, self.admin_view(page.view), name=page.name) for page in pages.registered()]
        return own + super().get_urls()

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        return {**super().each_context(request), "sign_on": settings.SIGN_ON and settings.SIGN_ON.name}

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        from gateway_project import dashboard  # the site exists before the models that the dashboard reads

        shown = (
            dashboard.context(request.user) if request.user.has_perm("inference.view_trace") else {"restricted": True}
        )
        return super().index(request, {**shown, **(extra_context or {})})


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """The sidebar: what this user may see, in the order in which people need it."""
    groups = [
        (
            "",
            [("Overview", "space_dashboard", "admin:index", None)],
        ),
        (
            "Registry",
            [
                ("Providers", "hub", "admin:providers_provider_changelist", "providers.view_provider"),
                ("Models", "neurology", "admin:providers_providermodel_changelist", "providers.view_providermodel"),
                ("Choose a model", "touch_app", "admin:select", "providers.view_providermodel"),
                ("Prices", "sell", "admin:providers_priceoverride_changelist", "providers.view_priceoverride"),
                ("Import", "move_to_inbox", "admin:providers_importrun_changelist", "providers.view_importrun"),
            ],
        ),
        (
            "Routing",
            [
                ("Policies", "alt_route", "admin:routing_policy_changelist", "routing.view_policy"),
                ("Health", "monitor_heart", "admin:health", "providers.view_providermodel"),
                ("Explain a route", "troubleshoot", "admin:explain", "providers.view_providermodel"),
                ("Replay", "history_toggle_off", "admin:replay", "routing.view_policy"),
                ("Settings", "tune", "admin:routing_routingsettings_changelist", "routing.view_routingsettings"),
            ],
        ),
        (
            "Traffic",
            [
                ("Requests", "receipt_long", "admin:inference_trace_changelist", "inference.view_trace"),
                ("Alerts", "notifications", "admin:inference_alertincident_changelist", "inference.view_alertincident"),
                ("Spend", "payments", "admin:spend", "inference.view_usagerecord"),
                (
                    "Price corrections",
                    "price_change",
                    "admin:inference_ratingrun_changelist",
                    "inference.view_ratingrun",
                ),
                ("Jobs", "pending_actions", "admin:inference_job_changelist", "inference.view_job"),
                ("Cut-over", "swap_horiz", "admin:routing_rollout_changelist", "routing.view_rollout"),
            ],
        ),
        (
            "Access",
            [
                ("Client keys", "key", "admin:routing_clientkey_changelist", "routing.view_clientkey"),
                ("Teams", "groups", "admin:routing_team_changelist", "routing.view_team"),
                ("Limits", "speed", "admin:routing_ratelimit_changelist", "routing.view_ratelimit"),
                ("Budgets", "savings", "admin:routing_budget_changelist", "routing.view_budget"),
                ("Users", "person", "admin:auth_user_changelist", "auth.view_user"),
                ("Roles", "badge", "admin:auth_group_changelist", "auth.view_group"),
                ("Audit", "history", "admin:providers_auditentry_changelist", "providers.view_auditentry"),
            ],
        ),
    ]
    return [
        {"title": title, "separator": bool(title), "items": [_item(*item) for item in items]}
        for title, items in groups
        if any(permission is None or request.user.has_perm(permission) for *_, permission in items)
    ]


def _item(title: str, icon: str, url_name: str, permission: str | None) -> dict[str, Any]:
    item: dict[str, Any] = {"title": title, "icon": icon, "link": reverse_lazy(url_name)}
    if permission is not None:
        item["permission"] = lambda request: request.user.has_perm(permission)
    return item
