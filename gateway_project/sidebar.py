"""The menu: what this user may see, in the order in which people need it; and the same found by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest
from django.urls import reverse, reverse_lazy
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from unfold.dataclasses import SearchResult

from routing import visibility


@dataclass(frozen=True, slots=True)
class Item:
    """`permission` None is everybody's who may come in. A page `of_all` tells of all teams together."""

    title: str | Promise
    icon: str
    url_name: str
    permission: str | None = None
    of_all: bool = False

    def is_for(self, request: HttpRequest) -> bool:
        may = self.permission is None or request.user.has_perm(self.permission)
        return may and (not self.of_all or visibility.sees_everything(request.user))


GROUPS: tuple[tuple[str | Promise, tuple[Item, ...]], ...] = (
    (
        "",
        (
            Item(_("Overview"), "space_dashboard", "admin:index"),
            Item(_("Playground"), "forum", "admin:playground", "routing.use_playground"),
        ),
    ),
    (
        _("Traffic"),
        (
            Item(_("Requests"), "receipt_long", "admin:inference_trace_changelist", "inference.view_trace"),
            Item(_("Usage"), "bar_chart", "admin:spend", "inference.view_usagerecord"),
            Item(
                _("Alerts"), "notifications", "admin:inference_alertincident_changelist", "inference.view_alertincident"
            ),
            Item(_("Jobs"), "pending_actions", "admin:inference_job_changelist", "inference.view_job"),
            Item(_("Batches"), "stacks", "admin:inference_batch_changelist", "inference.view_batch"),
            Item(_("Workers"), "memory", "admin:workers", "inference.view_job", of_all=True),
        ),
    ),
    (
        _("Routing"),
        (
            Item(_("Policies"), "alt_route", "admin:routing_policy_changelist", "routing.view_policy"),
            Item(_("Explain a route"), "troubleshoot", "admin:explain", "providers.view_providermodel"),
            Item(_("Health"), "monitor_heart", "admin:health", "providers.view_providermodel"),
            Item(_("Replay"), "history_toggle_off", "admin:replay", "routing.view_policy"),
            Item(_("Choose a model"), "touch_app", "admin:select", "providers.view_providermodel"),
            Item(_("Settings"), "tune", "admin:routing_routingsettings_changelist", "routing.view_routingsettings"),
        ),
    ),
    (
        _("Registry"),
        (
            Item(_("Providers"), "hub", "admin:providers_provider_changelist", "providers.view_provider"),
            Item(_("Models"), "neurology", "admin:providers_providermodel_changelist", "providers.view_providermodel"),
            Item(_("Prices"), "sell", "admin:providers_priceoverride_changelist", "providers.view_priceoverride"),
        ),
    ),
    (
        _("Access"),
        (
            Item(_("Client keys"), "key", "admin:routing_clientkey_changelist", "routing.view_clientkey"),
            Item(_("Teams"), "groups", "admin:routing_team_changelist", "routing.view_team"),
            Item(_("Limits"), "speed", "admin:routing_ratelimit_changelist", "routing.view_ratelimit"),
            Item(_("Budgets"), "savings", "admin:routing_budget_changelist", "routing.view_budget"),
            Item(_("Users"), "person", "admin:auth_user_changelist", "auth.view_user"),
            Item(_("Roles"), "badge", "admin:auth_group_changelist", "auth.view_group"),
        ),
    ),
    (
        _("System"),
        (
            Item(_("Doctor"), "stethoscope", "admin:doctor", "providers.view_provider", of_all=True),
            Item(_("Configuration"), "data_object", "admin:configuration", "providers.add_importrun"),
            Item(_("Audit"), "history", "admin:providers_auditentry_changelist", "providers.view_auditentry"),
            Item(_("Import"), "move_to_inbox", "admin:providers_importrun_changelist", "providers.view_importrun"),
            Item(_("Cut-over"), "swap_horiz", "admin:routing_rollout_changelist", "routing.view_rollout"),
            Item(
                _("Price corrections"),
                "price_change",
                "admin:inference_ratingrun_changelist",
                "inference.view_ratingrun",
            ),
        ),
    ),
)


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    return [
        {"title": title, "separator": bool(title), "items": [_entry(item) for item in items]}
        for title, items in GROUPS
        if any(item.is_for(request) for item in items)
    ]


def titles() -> dict[str, str | Promise]:
    """What each page is called, by its URL's name."""
    return {item.url_name: item.title for _, items in GROUPS for item in items}


def pages_named(request: HttpRequest, words: str) -> list[SearchResult]:
    """Pages whose name or group holds the words, for the search box."""
    return [
        SearchResult(str(item.title), str(title) or str(_("Page")), reverse(item.url_name), item.icon)
        for title, items in GROUPS
        for item in items
        if words.lower() in f"{title} {item.title}".lower() and item.is_for(request)
    ]


def _entry(item: Item) -> dict[str, Any]:
    return {"title": item.title, "icon": item.icon, "link": reverse_lazy(item.url_name), "permission": item.is_for}
