"""Stop the bleeding: for one model, one provider or one policy, what can be done at once and what would come of it.

Pages link here with what they show (`?route=`, `?provider=`, `?policy=`), mostly as a dialog: one click opens it, one does it. Each
act names the user and the reason in the audit log and is in force everywhere within two seconds.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from providers import actor, cells, pages
from providers.models import Provider, ProviderModel
from providers.ownership import OwnedByFile
from routing import (
    breakers,
    health,
    health_actions,
    policy_actions,
    policy_cells,
    policy_standing,
    policy_traffic,
    policy_twins,
    snapshot,
)
from routing.models import Policy
from routing.policy_forms import OverrideForm
from routing.policy_standing import Effect

NAME = "admin:stop"
MODELS, PROVIDERS, POLICIES = "providers.change_providermodel", "providers.change_provider", "routing.change_policy"
EFFECTS_SHOWN = 8
NAMES_OFFERED = 500


@dataclass(frozen=True, slots=True)
class Act:
    """A button: `do` is what it sends."""

    do: str
    label: str
    hint: str
    danger: bool = False


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def stop_view(request: HttpRequest) -> HttpResponse:
    if not any(request.user.has_perm(permission) for permission in (MODELS, PROVIDERS, POLICIES)):
        raise PermissionDenied
    asked = request.POST if request.method == "POST" else request.GET
    for name, show, do in (
        ("route", _of_route, _do_to_route),
        ("provider", _of_provider, _do_to_provider),
        ("policy", _of_policy, _do_to_policy),
    ):
        if asked.get(name):
            if request.method == "POST":
                return _carry_out(request, lambda do=do, name=name: do(request, asked[name]))
            return _page(request, name, show(request, asked[name]))
    return redirect("admin:health")


# --- A model ----------------------------------------------------------------------------------------------------------------


def _of_route(request: HttpRequest, route: str) -> dict[str, Any] | None:
    _need(request, MODELS)
    row = ProviderModel.of_route(route)
    if row is None:
        return None
    known = health.read().of(row.route)
    unwell = known.breaker != breakers.CLOSED or bool(known.failures)
    pause = _("It is not asked until its pause is over; then a few calls find out how it is.")
    acts = [
        Act("open", _("Open its breaker"), pause, danger=True),
        Act("off", _("Switch the model off"), _("Until somebody switches it on again."), danger=True)
        if row.enabled
        else Act("on", _("Switch the model on"), _("It is asked again from the next request on.")),
    ]
    if unwell:
        acts.append(Act("reset", _("Reset its breaker"), _("It is asked again at once.")))
    if row.auto_disabled_at is not None:
        acts.append(Act("enable", _("Put it back in service"), _("It took itself out after too many failures.")))
    return {
        "what": row.route,
        "kind": _("model"),
        "owned_by": row.managed_by,
        "acts": acts,
        "reason": _usual_reason(known.failures),
        "facts": [
            (_("Breaker"), _breaker(known.breaker)),
            (_("Failures in a row"), cells.number(known.failures)),
            (_("Answered, 7 days"), _share(known.success_rate)),
        ],
        **_effects({row.route}),
        "twins": _route_twins(row),
    }


def _do_to_route(request: HttpRequest, route: str) -> str:
    _need(request, MODELS)
    row = ProviderModel.of_route(route)
    if row is None:
        return ""
    do, provider_id = request.POST.get("do"), row.provider.provider_id
    if do == "open":
        seconds = health_actions.open_breaker(provider_id, row.model_id)
        return _("%(route)s is not asked for %(span)s.") % {"route": route, "span": f"{seconds:g}\u202fs"}
    if do == "reset":
        health_actions.reset(provider_id, row.model_id)
        return _("%s is asked again, in every process.") % route
    if do == "enable":
        health_actions.enable_again([row])
        return _("%s is in service again.") % route
    if do in ("on", "off"):
        health_actions.switch(provider_id, row.model_id, on=do == "on")
        return (_("%s is switched on.") if do == "on" else _("%s is switched off.")) % route
    return ""


def _route_twins(row: ProviderModel) -> policy_twins.Twins:
    route, body = shlex.quote(row.route), {"provider_id": row.provider.provider_id, "model_id": row.model_id}
    return [
        (_("Open its breaker"), f'manage.py breakers --open {route} --reason "why"'),
        (_("Over REST"), policy_twins.send("POST", "/api/v1/breakers/open", {**body, "reason": "why"})),
        (_("Switch it off"), f'manage.py breakers --off {route} --reason "why"    # --on'),
        (_("Over REST"), policy_twins.send("PATCH", f"/api/v1/provider-models/{row.pk}", {"enabled": False})),
        (_("Reset its breaker"), policy_twins.send("POST", "/api/v1/breakers/reset", body)),
    ]


# --- A provider -------------------------------------------------------------------------------------------------------------


def _of_provider(request: HttpRequest, provider_id: str) -> dict[str, Any] | None:
    _need(request, PROVIDERS)
    row = Provider.objects.filter(provider_id=provider_id).first()
    if row is None:
        return None
    routes = {f"{provider_id}/{name}" for name in row.models.filter(enabled=True).values_list("model_id", flat=True)}
    known = health.read()
    unwell = [route for route in routes if known.of(route).breaker != breakers.CLOSED]
    failures = max((known.of(route).failures for route in routes), default=0)
    acts = [
        Act(
            "off",
            _("Switch the provider off"),
            _("With every model, until somebody switches it on again."),
            danger=True,
        )
        if row.enabled
        else Act("on", _("Switch the provider on"), _("It is asked again from the next request on."))
    ]
    if unwell:
        acts.append(Act("reset", _("Reset its breakers and keys"), _("Its models are asked again at once.")))
    return {
        "what": provider_id,
        "kind": _("provider"),
        "owned_by": row.managed_by,
        "acts": acts,
        "reason": _usual_reason(failures),
        "facts": [
            (_("Models that are on"), cells.number(len(routes))),
            (_("Breakers not closed"), cells.number(len(unwell))),
            (_("Failures in a row"), cells.number(failures)),
        ],
        **_effects(routes if row.enabled else set()),
        "twins": [
            (_("Switch it off"), f'manage.py breakers --off {shlex.quote(provider_id)} --reason "why"    # --on'),
            (_("Over REST"), policy_twins.send("PATCH", f"/api/v1/providers/{provider_id}", {"enabled": False})),
            (_("Reset it"), policy_twins.send("POST", "/api/v1/breakers/reset", {"provider_id": provider_id})),
        ],
    }


def _do_to_provider(request: HttpRequest, provider_id: str) -> str:
    _need(request, PROVIDERS)
    do = request.POST.get("do")
    if not Provider.objects.filter(provider_id=provider_id).exists():
        return ""
    if do == "reset":
        health_actions.reset(provider_id)
        return _("%s is asked again, in every process.") % provider_id
    if do in ("on", "off"):
        health_actions.switch(provider_id, None, on=do == "on")
        return (_("%s is switched on.") if do == "on" else _("%s is switched off.")) % provider_id
    return ""


# --- A policy ---------------------------------------------------------------------------------------------------------------


def _of_policy(request: HttpRequest, name: str) -> dict[str, Any] | None:
    _need(request, POLICIES)
    row = Policy.objects.select_related("override").filter(name=name).first()
    if row is None:
        return None
    held = snapshot.refresh()
    view, traffic = held.policies.get(name), policy_traffic.of([name])
    told = None if traffic is None else traffic.get(name, policy_traffic.NONE)
    standing = None if view is None else policy_standing.of(view, held, health.read(), now=time.time())
    overridden = getattr(row, "override", None) is not None
    hint = _("It serves first until the time is over, whatever the policy says. The policy stays as it is.")
    return {
        "what": name,
        "kind": _("policy"),
        "owned_by": "",
        "acts": [
            Act("override", _("Send it elsewhere"), hint, danger=True),
            *([Act("restore", _("Remove the override"), _("The policy decides again."))] if overridden else []),
        ],
        "override_form": OverrideForm(initial={"span": "3600"}),
        "names": list(dict.fromkeys([*held.policies, *held.by_name]))[:NAMES_OFFERED],
        "reason": _("stopped by hand"),
        "facts": [
            (_("Can serve now"), policy_cells.standing(standing)),
            (_("Requests, 24 h"), policy_cells.requests(told)),
            (_("Failed"), policy_cells.failed(told)),
            *([(_("Overridden by"), policy_cells.override_pill(row))] if overridden else []),
        ],
        "effects": [],
        "twins": policy_twins.of_override(name),
    }


def _do_to_policy(request: HttpRequest, name: str) -> str:
    _need(request, POLICIES)
    do = request.POST.get("do")
    if do == "restore":
        policy_actions.clear_override(name)
        return _("%s decides for itself again.") % name
    if do != "override":
        return ""
    form, held = OverrideForm(request.POST), snapshot.refresh()
    if not form.is_valid():
        raise ValidationError([str(one) for sentences in form.errors.values() for one in sentences])
    target = form.cleaned_data["target"]
    if target not in held.by_name and target not in held.policies:
        raise ValidationError(_("no enabled model or policy is named %s") % target)
    policy_actions.set_override(
        name, target, ttl_seconds=form.ttl_seconds(), reason=request.POST.get("reason", "")[:500]
    )
    return _("%(target)s serves %(policy)s from the next request on.") % {"target": target, "policy": name}


# --- Parts of these ---------------------------------------------------------------------------------------------------------


def _effects(routes: set[str]) -> dict[str, Any]:
    found = policy_standing.effects(snapshot.refresh(), health.read(), routes, now=time.time())
    return {
        "effects": [(one, _in_words(one)) for one in found[:EFFECTS_SHOWN]],
        "more_effects": max(0, len(found) - EFFECTS_SHOWN),
        "asks_effects": True,
    }


def _in_words(effect: Effect) -> str:
    if effect.is_fatal:
        return _("nobody could serve it any more")
    if not effect.left:
        return ngettext("only %s fallback would be left", "only %s fallbacks would be left", effect.fallbacks) % (
            effect.fallbacks
        )
    return ngettext("%s target would be left", "%s targets would be left", effect.left) % effect.left


def _usual_reason(failures: int) -> str:
    if not failures:
        return _("stopped by hand")
    return ngettext("%s failure in a row", "%s failures in a row", failures) % failures


def _breaker(state: str) -> Any:
    return cells.pill(state.replace("_", "-"), {"open": "bad", "half_open": "warn"}.get(state, "good"))


def _share(share: float | None) -> Any:
    return cells.number(None if share is None else 100 * share, "%", 1)


def _page(request: HttpRequest, name: str, told: dict[str, Any] | None) -> HttpResponse:
    if told is None:
        messages.error(request, _("There is nothing of that name any more."))
        return redirect("admin:health")
    context = {**told, "field": name, "back": _back(request, request.headers.get("Referer", ""))}
    if request.headers.get("X-Fragment"):
        return TemplateResponse(request, "admin/routing/stop/form.html", context)
    title = _("Stop the bleeding: %s") % told["what"]
    return pages.render(request, "admin/routing/stop/page.html", {"title": title, **context})


def _carry_out(request: HttpRequest, do: Callable[[], str]) -> HttpResponse:
    try:
        with actor.giving_reason(request.POST.get("reason", "").strip()[:500]):
            said = do()
    except ValidationError as error:
        messages.error(request, _("Nothing was changed: %s.") % " ".join(error.messages).rstrip("."))
    except (health.NotShared, OwnedByFile, policy_actions.NotOverridable, Policy.DoesNotExist) as error:
        messages.error(request, _("Nothing was changed: %s.") % str(error).rstrip("."))
    else:
        if said:
            messages.success(request, said)
        else:
            messages.error(request, _("Nothing was changed: there is no such thing to do."))
    return redirect(_back(request, request.POST.get("back", "")))


def _back(request: HttpRequest, url: str) -> str:
    """Where somebody came from, within this site."""
    if not url_has_allowed_host_and_scheme(url, {request.get_host()}):
        return reverse("admin:health")
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}" if parts.query else parts.path or reverse("admin:health")


def _need(request: HttpRequest, permission: str) -> None:
    if not request.user.has_perm(permission):
        raise PermissionDenied


pages.register("stop/", "stop", stop_view)
