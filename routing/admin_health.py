"""How routes fare, in the admin: what is out of service and until when, and the ways back. The page moves by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext as say
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_POST

from providers import actor, pages
from providers.models import ProviderModel
from routing import health, health_actions, route_health
from routing.route_health import AUTO_DISABLED, KEYS_EXHAUSTED, RouteHealth

HOME = "admin:health"
VIEW, CHANGE = "providers.view_providermodel", "providers.change_providermodel"
LIVE_SECONDS = 2
ON_A_PAGE = 50
TONES = {AUTO_DISABLED: "bad", "open": "bad", KEYS_EXHAUSTED: "warn", "half_open": "warn", "closed": "good"}
WORDS = {
    AUTO_DISABLED: _("disabled itself"),
    "open": _("open"),
    KEYS_EXHAUSTED: _("keys exhausted"),
    "half_open": _("half-open"),
    "closed": _("closed"),
}
FILTERS = ("out", "half_open", "failing", "well")
TWINS: Sequence[tuple[Any, str]] = (
    (_("This list"), "manage.py breakers    # --json for programs"),
    (_("Reset one, or a provider with its keys"), 'manage.py breakers --reset openai/gpt-4o --reason "mended"'),
    (_("Open one, or switch it off"), 'manage.py breakers --open openai/gpt-4o --reason "why"    # --off, --on'),
    (_("Enable again"), "manage.py breakers --enable openai/gpt-4o"),
    (_("The list over REST"), 'curl "$GATEWAY/api/v1/breakers" -H "Authorization: Bearer $ADMIN_KEY"'),
    (
        _("Reset over REST"),
        'curl -X POST "$GATEWAY/api/v1/breakers/reset" -H "Authorization: Bearer $ADMIN_KEY" \\\n'
        '     -H "Content-Type: application/json" -d \'{"provider_id": "openai", "model_id": "gpt-4o"}\'',
    ),
    (
        _("Enable again over REST"),
        'curl -X POST "$GATEWAY/api/v1/breakers/enable" -H "Authorization: Bearer $ADMIN_KEY" \\\n'
        '     -H "Content-Type: application/json" -d \'{"provider_id": "openai", "model_id": "gpt-4o"}\'',
    ),
)


def health_view(request: HttpRequest) -> HttpResponse:
    context = _state(request)
    return pages.render(
        request,
        "admin/routing/health/page.html",
        {
            "title": say("Health"),
            "live": f"{reverse('admin:health_live')}?{_query(context['asked'], page=context['page'])}",
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
    """Of one model, or without `model_id` of all of a provider with its keys."""
    _need(request, CHANGE)
    provider_id, model_id = request.POST.get("provider_id", ""), request.POST.get("model_id") or None
    try:
        with actor.giving_reason(request.POST.get("reason", "")[:500]):
            done = health_actions.reset(provider_id, model_id)
    except (ProviderModel.DoesNotExist, health.NotShared) as error:
        messages.error(request, say("Nothing was reset: %s.") % error)
        return redirect(_home(request))
    said = [*done.routes, *([ngettext("%s key", "%s keys", len(done.keys)) % len(done.keys)] if done.keys else [])]
    messages.success(
        request, say("Reset in every process: %s.") % (", ".join(said) or say("nothing, all was well already"))
    )
    return redirect(_home(request))


@require_POST
def enable_view(request: HttpRequest) -> HttpResponse:
    _need(request, CHANGE)
    pk = request.POST.get("pk", "")
    rows = ProviderModel.objects.filter(pk=int(pk) if pk.isdecimal() and len(pk) < 19 else 0).select_related("provider")
    with actor.giving_reason(request.POST.get("reason", "")[:500]):
        back = health_actions.enable_again(rows)
    messages.success(request, say("In service again: %s.") % (", ".join(back) or say("nothing was out")))
    return redirect(_home(request))


def _state(request: HttpRequest) -> dict[str, Any]:
    """Of everything that is known the counts; of that which was asked for one page."""
    _need(request, VIEW)
    seen = health.look()
    rows = route_health.routes(seen)
    asked = {"state": request.GET.get("state", ""), "q": request.GET.get("q", "").strip()[:200]}
    keys = route_health.resting_keys(seen)
    groups = {name: [row for row in rows if _is(name, row)] for name in FILTERS}
    chosen = [row for name in ([asked["state"]] if asked["state"] in FILTERS else FILTERS) for row in groups[name]]
    if asked["q"]:
        chosen = [row for row in chosen if asked["q"].lower() in row.route.lower()]
    page = _page_of(request, len(chosen))
    shown = chosen[(page - 1) * ON_A_PAGE : page * ON_A_PAGE]
    return {
        "asked": asked,
        "may_change": request.user.has_perm(CHANGE),
        "away": seen is health.current(),
        "tiles": _tiles(groups, len(keys), asked["state"]),
        "unwell": _shown([row for row in shown if row.state != "closed"]),
        "keys": keys if not asked["state"] and not asked["q"] else [],
        "well": [_figures(row) for row in shown if row.state == "closed"],
        "nothing": not rows,
        "none_found": bool(rows) and not shown,
        "page": page,
        "pages": -(-len(chosen) // ON_A_PAGE) or 1,
        "before": _query(asked, page=page - 1) if page > 1 else "",
        "after": _query(asked, page=page + 1) if page * ON_A_PAGE < len(chosen) else "",
        "count": len(chosen),
    }


def _is(name: str, row: RouteHealth) -> bool:
    if name == "out":
        return row.is_out
    if name == "half_open":
        return row.state == "half_open"
    if row.state != "closed" or not row.enabled:
        return False
    return bool(row.condition.failures) is (name == "failing")


def _tiles(groups: Mapping[str, Sequence[RouteHealth]], resting: int, chosen: str) -> list[dict[str, Any]]:
    told = (
        ("out", say("Out of service"), "bad", say("breaker open, keys exhausted, or disabled itself")),
        ("half_open", say("Half-open"), "warn", say("a few calls are let through to find out")),
        ("failing", say("Failing"), "warn", say("the last call failed; still asked")),
        ("well", say("In service"), "good", say("called in the last seven days, and served")),
    )
    tiles = [
        {
            "label": label,
            "count": len(groups[name]),
            "tone": tone,
            "hint": hint,
            "query": "" if chosen == name else _query({"state": name}),
            "chosen": chosen == name,
        }
        for name, label, tone, hint in told
    ]
    keys = {"label": say("Resting keys"), "count": resting, "tone": "warn", "query": None}
    return [*tiles, keys | {"hint": say("refused by their provider for now"), "chosen": False}]


def _page_of(request: HttpRequest, count: int) -> int:
    asked = request.GET.get("page", "")
    last = max(1, -(-count // ON_A_PAGE))
    return min(last, max(1, int(asked))) if asked.isascii() and asked.isdigit() and len(asked) < 9 else 1


def _query(asked: Mapping[str, Any], page: int = 1) -> str:
    return urlencode({name: value for name, value in (*asked.items(), ("page", page if page > 1 else "")) if value})


def _shown(unwell: Sequence[RouteHealth]) -> list[dict[str, Any]]:
    """Without keys, one line for all models of a provider."""
    lines: list[dict[str, Any]] = []
    by_provider: dict[str, dict[str, Any]] = {}
    for row in unwell:
        if row.state == KEYS_EXHAUSTED and row.provider_id in by_provider:
            by_provider[row.provider_id]["others"] += 1
            continue
        _row, _word, _tone, success, latency = _figures(row)
        line = {"row": row, "word": WORDS[row.state], "tone": TONES[row.state], "success": success, "others": 0}
        lines.append(line | {"latency": latency})
        if row.state == KEYS_EXHAUSTED:
            by_provider[row.provider_id] = lines[-1]
    return lines


def _figures(row: RouteHealth) -> tuple[RouteHealth, str, str, str, float | None]:
    known = row.condition
    word, tone = (say("failing"), "warn") if known.failures else (WORDS["closed"], TONES["closed"])
    success = "–" if known.success_rate is None else f"{100 * known.success_rate:.1f}\u202f%"
    return row, word, tone, success, None if known.latency_seconds is None else 1000 * known.latency_seconds


def _home(request: HttpRequest) -> str:
    """The list as it was filtered."""
    asked = {name: request.POST.get(name, "")[:200] for name in ("state", "q")}
    query = _query(asked)
    return f"{reverse(HOME)}?{query}" if query else reverse(HOME)


def _need(request: HttpRequest, permission: str) -> None:
    if not request.user.has_perm(permission):
        raise PermissionDenied


pages.register("health/", "health", health_view)
pages.register("health/live/", "health_live", live_view)
pages.register("health/reset/", "health_reset", reset_view)
pages.register("health/enable/", "health_enable", enable_view)
