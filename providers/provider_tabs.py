"""The pages of one provider: which there are, and what those say that are only read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.db.models import Q
from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as lazy

from providers import live_figures, policy_uses, price_rows, provider_cells
from providers.audit_files import difference as difference_of
from providers.live_figures import STRIP_CELLS
from providers.models import AuditEntry, Provider
from providers.ownership import OwnedByFile
from providers.provider_cells import share
from providers.provider_filters import label_of
from providers.provider_rows import Standing, standings, verifies_nothing
from providers.provider_twins import twins_of

OVERVIEW, MODELS, KEYS, CONNECTION = "overview", "models", "keys", "connection"
SETTINGS, POLICIES, HISTORY = "settings", "policies", "history"
NAMES = {
    OVERVIEW: lazy("Overview"),
    MODELS: lazy("Models"),
    KEYS: lazy("Keys"),
    CONNECTION: lazy("Connection"),
    SETTINGS: lazy("Settings"),
    POLICIES: lazy("Policies"),
    HISTORY: lazy("History"),
}
FORMS = frozenset({KEYS, CONNECTION, SETTINGS})
MODELS_SHOWN, CHANGES_SHOWN, REQUESTS_SHOWN = 100, 50, 20


@dataclass(frozen=True, slots=True)
class Tab:
    name: str
    title: Any
    link: str
    current: bool


def chosen(request: HttpRequest) -> str:
    """The tab that the URL names; the overview for anything else."""
    name = request.GET.get("tab", OVERVIEW)
    return name if name in _open_to(request.user) else OVERVIEW


def _open_to(user: Any) -> list[str]:
    """What was changed is read from the audit log, which has a right of its own."""
    return [name for name in NAMES if name != HISTORY or user.has_perm("providers.view_auditentry")]


def link(provider: Provider, tab: str = OVERVIEW) -> str:
    url = reverse("admin:providers_provider_change", args=[provider.pk])
    return url if tab == OVERVIEW else f"{url}?tab={tab}"


def head(provider: Provider, tab: str, request: HttpRequest) -> dict[str, Any]:
    """What stands above every tab."""
    known = standings([provider])[provider.pk]
    return {
        "provider": provider,
        "known": known,
        "tab": tab,
        "tabs": [Tab(name, NAMES[name], link(provider, name), name == tab) for name in _open_to(request.user)],
        "type_label": label_of(provider.provider_type),
        "state": provider_cells.state(provider, known),
        "breaker": provider_cells.breaker(known),
        "is_on": provider_cells.enabled(provider, known),
        "unverified": verifies_nothing(provider),
        "owned": str(OwnedByFile(provider.managed_by)) if provider.managed_by else "",
        "twins": twins_of(provider, request),
    }


def of(provider: Provider, tab: str, known: Standing, user: Any) -> dict[str, Any]:
    """What a tab shows that is only read."""
    if tab == OVERVIEW:
        return _overview(provider, known, user)
    return {MODELS: _models, POLICIES: _policies, HISTORY: _history}[tab](provider)


def _overview(provider: Provider, known: Standing, user: Any) -> dict[str, Any]:
    figures = known.figures
    return {
        "last_probe": known.last_probe,
        "state_since": known.since,
        "probes": list(provider.probes.order_by("-id")[:STRIP_CELLS])[::-1],
        "figures": figures,
        "error_day": share(figures.error_rate),
        "error_now": share(figures.error_rate_now),
        "requests": live_figures.recent(user, provider.provider_id, REQUESTS_SHOWN),
        "requests_link": f"{reverse('admin:inference_trace_changelist')}?{urlencode({'provider': provider.provider_id})}",
    }


def _models(provider: Provider) -> dict[str, Any]:
    rows = list(provider.models.select_related("provider").order_by("-enabled", "model_id")[: MODELS_SHOWN + 1])
    prices, used = price_rows.of_models(rows[:MODELS_SHOWN]), live_figures.use_of([provider.provider_id])
    return {
        "models": [
            (row, prices[row.pk], used.get((provider.provider_id, row.model_id), live_figures.UNUSED))
            for row in rows[:MODELS_SHOWN]
        ],
        "more_models": len(rows) > MODELS_SHOWN,
        "models_link": f"{reverse('admin:providers_providermodel_changelist')}?provider__id__exact={provider.pk}",
    }


def _policies(provider: Provider) -> dict[str, Any]:
    return {"uses": policy_uses.of(provider.provider_id)}


def _history(provider: Provider) -> dict[str, Any]:
    name = provider.provider_id
    parts = Q(target_type__in=["providermodel", "apikey", "connectionparameter", "breaker"]) & (
        Q(target_id__startswith=f"{name}:") | Q(target_id__startswith=f"{name}/") | Q(target_id=name)
    )
    rows = AuditEntry.objects.filter(Q(target_type="provider", target_id=name) | parts).order_by("-id")
    return {
        "changes": [(entry, difference_of(entry)) for entry in rows[:CHANGES_SHOWN]],
        "audit_link": f"{reverse('admin:providers_auditentry_changelist')}?q={name}",
        "none_yet": _("Nothing was changed yet."),
    }
