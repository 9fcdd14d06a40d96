"""Choose a model: what is live, since when that is known, and one click that makes a model the default."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from providers import offers, pages
from providers.connection import flag
from providers.models import Provider
from providers.ownership import OwnedByFile
from routing import defaults, live_models, model_choices
from routing.live_models import Listing, LiveModel
from routing.models import RoutingSettings

MAY_SEE = "providers.view_providermodel"
MAY_CHANGE = "routing.change_policy"
MAY_READ_AGAIN = "providers.change_provider"
ON_A_PAGE = 50


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def select_view(request: HttpRequest) -> HttpResponse:
    if not request.user.has_perm(MAY_SEE):
        raise PermissionDenied
    if request.method == "POST":
        return _do(request)
    shown = model_choices.listed()
    asked = {name: request.GET.get(name, "").strip()[:200] for name in ("q", "capability")}
    words = {live.model.route: _words(live) for live in shown.models}
    fit = [live for live in shown.models if _fits(live, words[live.model.route], **asked)]
    number = request.GET.get("page", "")
    page = Paginator(fit, ON_A_PAGE).get_page(number if number.isascii() else 1)
    context: dict[str, Any] = {
        "title": _("Choose a model"),
        "rows": [_row(live, shown) for live in page],
        "page": page,
        "query": urlencode({name: value for name, value in asked.items() if value}),
        "asked": asked,
        "total": len(shown.models),
        "default": shown.default,
        "fallback": shown.fallback,
        "nameless": RoutingSettings.load().default_policy == live_models.DEFAULT,
        "stale": [(name, reading) for name, reading in _with_times(shown) if reading["problem"]],
        "unread": [name for name, reading in _with_times(shown) if not reading["problem"]],
        "capabilities": sorted({word for told in words.values() for word in told}),
        "may_change": request.user.has_perm(MAY_CHANGE),
        "may_read_again": request.user.has_perm(MAY_READ_AGAIN),
        "follows": any(offers.follows(provider) for provider in Provider.objects.filter(enabled=True)),
        "twins": _twins(shown),
    }
    return pages.render(request, "admin/select/page.html", context)


def _fits(live: LiveModel, words: list[str], *, q: str, capability: str) -> bool:
    return q.lower() in live.model.route.lower() and (not capability or capability in words)


def _do(request: HttpRequest) -> HttpResponse:
    if request.POST.get("do") == "read":
        if not request.user.has_perm(MAY_READ_AGAIN):
            raise PermissionDenied
        _read_again(request)
        return redirect("admin:select")
    if not request.user.has_perm(MAY_CHANGE):
        raise PermissionDenied
    live = next((one for one in model_choices.listed().models if one.model.route == request.POST.get("route")), None)
    if live is None:
        messages.error(request, _("Nothing was changed: this model is not live any more."))
        return redirect("admin:select")
    try:
        defaults.make_default(live.model.provider.provider_id, live.model.model_id)
    except OwnedByFile as error:
        messages.error(request, str(error))
    else:
        messages.success(request, _("%s is the default from the next request on.") % live.model.model_id)
    return redirect("admin:select")


def _read_again(request: HttpRequest) -> None:
    for provider in filter(offers.follows, Provider.objects.filter(enabled=True)):
        offer = offers.refresh(provider)
        if offer.stale:
            messages.error(request, f"{provider.provider_id}: {offer.problem}")
        else:
            count = len(offer.names)
            deployed = ngettext("%s model is deployed", "%s models are deployed", count) % count
            messages.success(request, f"{provider.provider_id}: {deployed}.")


def _row(live: LiveModel, shown: Listing) -> dict[str, Any]:
    model, endpoint = live.model, live_models.endpoint_of(live.model)
    return {
        "route": model.route,
        "name": model.model_id,
        "provider": model.provider.display_name or model.provider.provider_id,
        "type": model.model_type,
        "capabilities": _words(live),
        "failing": live.status != live_models.ACTIVE,
        "stale": live.reading is not None and live.reading.stale,
        "endpoint": endpoint,
        "targets": len(model.parameters.get("base_urls") or ()),
        "unverified": endpoint.startswith("https:") and not flag(model.provider.connection, "verify_tls", default=True),
        "is_default": shown.default is not None and shown.default.route == model.route,
        "is_fallback": shown.fallback is not None and shown.fallback.route == model.route,
    }


def _words(live: LiveModel) -> list[str]:
    return list(live_models.capabilities_of(live.model))


def _with_times(shown: Listing) -> list[tuple[str, dict[str, Any]]]:
    return [
        (name, {"problem": reading.problem, "at": _moment(reading.read_at)})
        for name, reading in shown.readings.items()
        if reading.stale
    ]


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _twins(shown: Listing) -> list[tuple[str, str]]:
    model = shown.models[0].model if shown.models else None
    name, provider = (model.model_id, model.provider.provider_id) if model else ("llama3", "kamiwaza")
    document = json.dumps({"document": {"targets": [{"model": name, "provider": provider}]}}, ensure_ascii=False)
    key = '-H "Authorization: Bearer $GATEWAY_KEY"'
    return [
        (_("What is live"), f"curl {key} $GATEWAY_URL/api/models"),
        (
            _("Make a model the default"),
            f"curl -X PATCH {key} -H 'Content-Type: application/json' -d '{document}' $GATEWAY_URL/api/v1/policies/default",
        ),
        (
            _("Choose one for a session"),
            f"curl {key} -H 'x-session-id: SESSION' -H 'Content-Type: application/json' "
            f"-d '{json.dumps({'model_name': name}, ensure_ascii=False)}' $GATEWAY_URL/api/models/select",
        ),
    ]


pages.register("select/", "select", select_view)
