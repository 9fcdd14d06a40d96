"""How routes fare, in the admin: what is out of service and until when, and the ways back. The page moves by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.views.decorators.http import require_POST

from providers import actor, pages
from providers.models import ProviderModel
from routing import health, health_actions, route_health
from routing.route_health import AUTO_DISABLED, KEYS_EXHAUSTED, RouteHealth

HOME = "admin:health"
VIEW, CHANGE = "providers.view_providermodel", "providers.change_providermodel"
LIVE_SECONDS = 2
MOST_SHOWN = 200
TONES = {AUTO_DISABLED: "bad", "open": "bad", KEYS_EXHAUSTED: "warn", "half_open": "warn", "closed": "good"}
WORDS = {
    AUTO_DISABLED: "disabled itself",
    "open": "open",
    KEYS_EXHAUSTED: "keys exhausted",
    "half_open": "half-open",
    "closed": "closed",
}
TWINS: Sequence[tuple[str, str]] = (
    ("This list", "manage.py breakers    # --json for programs"),
    ("Reset one, or a provider with its keys", 'manage.py breakers --reset openai/gpt-4o --reason "mended"'),
    ("Enable again", "manage.py breakers --enable openai/gpt-4o"),
    ("The list over REST", 'curl "$GATEWAY/api/v1/breakers" -H "Authorization: Bearer $ADMIN_KEY"'),
    (
        "Reset over REST",
        'curl -X POST "$GATEWAY/api/v1/breakers/reset" -H "Authorization: Bearer $ADMIN_KEY" \\\n'
        '     -H "Content-Type: application/json" -d \'{"provider_id": "openai", "model_id": "gpt-4o"}\'',
    ),
    (
        "Enable again over REST",
        'curl -X POST "$GATEWAY/api/v1/breakers/enable" -H "Authorization: Bearer $ADMIN_KEY" \\\n'
        '     -H "Content-Type: application/json" -d \'{"provider_id": "openai", "model_id": "gpt-4o"}\'',
    ),
)


def health_view(request: HttpRequest) -> HttpResponse:
    context = _state(request)
    request.current_app = admin.site.name  # type: ignore[attr-defined]
    return TemplateResponse(
        request,
        "admin/routing/health/page.html",
        {
            **admin.site.each_context(request),
            "title": "Health",
            "live": reverse("admin:health_live"),
            "live_seconds": LIVE_SECONDS,
            "twins": TWINS,
            **context,
        },
    )


def live_view(request: HttpRequest) -> HttpResponse:
    """The part of the page that moves."""
    return TemplateResponse(request, "admin/routing/health/routes.html", _state(request))


@require_POST
def reset_view(request: HttpRequest) -> HttpResponse:
    """`route` is a provider's id and, unless all of it is meant, a model's."""
    _need(request, CHANGE)
    provider_id, model_id = request.POST.get("provider_id", ""), request.POST.get("model_id") or None
    try:
        with actor.giving_reason(request.POST.get("reason", "")[:500]):
            done = health_actions.reset(provider_id, model_id)
    except (ProviderModel.DoesNotExist, health.NotShared) as error:
        messages.error(request, f"Nothing was reset: {error}.")
        return redirect(HOME)
    said = [*done.routes, *(["1 key"] if len(done.keys) == 1 else [f"{len(done.keys)} keys"] if done.keys else [])]
    messages.success(request, f"Reset in every process: {', '.join(said) or 'nothing, all was well already'}.")
    return redirect(HOME)


@require_POST
def enable_view(request: HttpRequest) -> HttpResponse:
    _need(request, CHANGE)
    pk = request.POST.get("pk", "")
    rows = ProviderModel.objects.filter(pk=int(pk) if pk.isdecimal() and len(pk) < 19 else 0).select_related("provider")
    with actor.giving_reason(request.POST.get("reason", "")[:500]):
        back = health_actions.enable_again(rows)
    messages.success(request, f"In service again: {', '.join(back) or 'nothing was out'}.")
    return redirect(HOME)


def _state(request: HttpRequest) -> dict[str, Any]:
    _need(request, VIEW)
    seen = health.look()
    rows = route_health.routes(seen)
    unwell = [row for row in rows if row.state != "closed"]
    well = [row for row in rows if row.state == "closed" and row.enabled]
    keys = route_health.resting_keys(seen)
    states = [row.state for row in rows]
    return {
        "may_change": request.user.has_perm(CHANGE),
        "away": seen is health.current(),
        "tiles": [
            (
                "Out of service",
                sum(row.is_out for row in rows),
                "bad",
                "breaker open, keys exhausted, or disabled itself",
            ),
            ("Half-open", states.count("half_open"), "warn", "a few calls are let through to find out"),
            ("Resting keys", len(keys), "warn", "refused by their provider for now"),
            ("In service", len(well), "", "called in the last seven days, and served"),
        ],
        "unwell": _shown(unwell),
        "keys": keys,
        "well": [_figures(row) for row in well[:MOST_SHOWN]],
        "more": max(0, len(well) - MOST_SHOWN),
    }


def _shown(unwell: Sequence[RouteHealth]) -> list[dict[str, Any]]:
    """Without keys, one line for all models of a provider."""
    lines: list[dict[str, Any]] = []
    by_provider: dict[str, dict[str, Any]] = {}
    for row in unwell:
        if row.state == KEYS_EXHAUSTED and row.provider_id in by_provider:
            by_provider[row.provider_id]["others"] += 1
            continue
        _, _, _, success, latency = _figures(row)
        line = {"row": row, "word": WORDS[row.state], "tone": TONES[row.state], "success": success, "others": 0}
        lines.append(line | {"latency": latency})
        if row.state == KEYS_EXHAUSTED:
            by_provider[row.provider_id] = lines[-1]
    return lines[:MOST_SHOWN]


def _figures(row: RouteHealth) -> tuple[RouteHealth, str, str, str, float | None]:
    known = row.condition
    word, tone = ("failing", "warn") if known.failures else (WORDS["closed"], TONES["closed"])
    success = "–" if known.success_rate is None else f"{100 * known.success_rate:.1f}\u202f%"
    return row, word, tone, success, None if known.latency_seconds is None else 1000 * known.latency_seconds


def _need(request: HttpRequest, permission: str) -> None:
    if not request.user.has_perm(permission):
        raise PermissionDenied


pages.register("health/", "health", health_view)
pages.register("health/live/", "health_live", live_view)
pages.register("health/reset/", "health_reset", reset_view)
pages.register("health/enable/", "health_enable", enable_view)
