"""The first steps in the admin: what is done, what comes next, and the one click that does it."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from gateway_project import welcome
from gateway_project.welcome import KEY, MODEL, PROVIDER, REQUEST, TEST
from providers import pages
from providers.actions import AlreadyExists
from providers.models import Provider
from routing import visibility

HOME = "admin:welcome"
ADDS_PROVIDERS = ("providers.add_provider", "providers.add_providermodel")
TESTS, ADDS_KEYS = "providers.change_provider", "routing.add_clientkey"
ASKS, CONFIGURES, CONFIGURES_WITH = "admin:playground", "admin:configuration", "providers.add_importrun"
TWINS = (
    (
        gettext_lazy("Add the fake provider over REST"),
        'curl "$GATEWAY/api/v1/providers" -H "Authorization: Bearer $ADMIN_KEY" -H "Content-Type: application/json" \\\n'
        '  -d \'{"provider_id": "fake", "provider_type": "fake", "models": [{"model_id": "fake-chat", "model_type": "chat"}]}\'',
    ),
    (
        gettext_lazy("Create a client key over REST"),
        'curl "$GATEWAY/api/v1/client-keys" -H "Authorization: Bearer $ADMIN_KEY" -H "Content-Type: application/json" \\\n'
        '  -d \'{"name": "First key", "scopes": ["generate"]}\'',
    ),
    (gettext_lazy("All of it as a command, with a model of this machine"), "manage.py quickstart --setup-only"),
)


@never_cache
@require_safe
def welcome_view(request: HttpRequest) -> HttpResponse:
    _need_sight(request)
    return _page(request)


@never_cache
@require_POST
def provider_view(request: HttpRequest) -> HttpResponse:
    """Add the built-in fake provider, and test it."""
    _need(request, *ADDS_PROVIDERS)
    try:
        provider, result = welcome.add_the_fake()
    except AlreadyExists as error:
        messages.warning(request, str(error))
        return redirect(HOME)
    messages.success(request, _("%(provider)s is there, with two models.") % {"provider": provider})
    _say(request, result)
    return redirect(HOME)


@never_cache
@require_POST
def test_view(request: HttpRequest) -> HttpResponse:
    """Test the provider that is asked first."""
    _need(request, TESTS)
    result = welcome.test_the_first()
    if result is None:
        messages.warning(request, _("There is no provider to test yet."))
    else:
        _say(request, result)
    return redirect(HOME)


@never_cache
@require_POST
def key_view(request: HttpRequest) -> HttpResponse:
    """Make a client key and show it, in the answer to this one request and nowhere else."""
    _need(request, ADDS_KEYS)
    if visibility.managed_by(request.user) is not None:
        raise PermissionDenied
    key, plaintext = welcome.make_a_key()
    response = _page(request, key=key, plaintext=plaintext.reveal())
    response["Cache-Control"] = "no-store"
    return response


def playground(user: Any) -> str:
    """Its address; empty for those who may not ask there."""
    return reverse(ASKS) if user.has_perm(visibility.USE_PLAYGROUND) else ""


def actions_for(user: Any, step: welcome.Step) -> list[dict[str, Any]]:
    """What this user can do for a step, the usual one first: `post` a form to an address, or follow a `link`."""
    return [one for one in _ACTIONS[step.name](user) if one]


def _for_provider(user: Any) -> list[dict[str, Any] | None]:
    if not user.has_perms(ADDS_PROVIDERS):
        return []
    return [
        {"label": _("Add the built-in fake provider"), "post": reverse("admin:welcome_provider")},
        {"label": _("Add a real one"), "link": reverse("admin:providers_provider_add")},
    ]


def _for_test(user: Any) -> list[dict[str, Any] | None]:
    if not user.has_perm(TESTS):
        return []
    return [
        {"label": _("Test it now"), "post": reverse("admin:welcome_test")},
        {"label": _("All providers"), "link": reverse("admin:providers_provider_changelist")},
    ]


def _for_model(user: Any) -> list[dict[str, Any] | None]:
    if not user.has_perm(TESTS):
        return []
    first = Provider.objects.filter(enabled=True).order_by("priority", "pk").values_list("pk", flat=True).first()
    discover = first and reverse("admin:providers_provider_discover", args=[first])
    return [
        {"label": _("Discover its models"), "link": discover} if discover else None,
        {"label": _("All models"), "link": reverse("admin:providers_providermodel_changelist")},
    ]


def _for_key(user: Any) -> list[dict[str, Any] | None]:
    if not user.has_perm(ADDS_KEYS) or visibility.managed_by(user) is not None:
        return []
    return [
        {"label": _("Create a key"), "post": reverse("admin:welcome_key")},
        {"label": _("Create one with limits"), "link": reverse("admin:routing_clientkey_add")},
    ]


def _for_request(user: Any) -> list[dict[str, Any] | None]:
    address, model = playground(user), welcome.model_to_ask()
    if address:
        asking = f"{address}?{urlencode({'model': model})}" if model else address
        return [{"label": _("Open the playground"), "link": asking}]
    return [{"label": _("See the requests"), "link": reverse("admin:inference_trace_changelist")}]


_ACTIONS = {PROVIDER: _for_provider, TEST: _for_test, MODEL: _for_model, KEY: _for_key, REQUEST: _for_request}


def _say(request: HttpRequest, result: Any) -> None:
    (messages.success if result.healthy else messages.error)(request, welcome.in_words(result))


def _need_sight(request: HttpRequest) -> None:
    if not welcome.sees(request.user):
        raise PermissionDenied


def _need(request: HttpRequest, *permissions: str) -> None:
    _need_sight(request)
    if not request.user.has_perms(permissions):
        raise PermissionDenied


def shown(user: Any, steps: list[welcome.Step]) -> dict[str, Any]:
    """The steps with what can be done for the next one."""
    following = next((step for step in steps if not step.done), None)
    return {
        "steps": steps,
        "next_step": following,
        "next_actions": actions_for(user, following) if following else [],
        "steps_done": sum(step.done for step in steps),
        "playground": playground(user),
        "configuration": reverse(CONFIGURES) if user.has_perm(CONFIGURES_WITH) else "",
    }


def _page(request: HttpRequest, **context: Any) -> TemplateResponse:
    request.current_app = admin.site.name  # type: ignore[attr-defined]
    told = {
        **admin.site.each_context(request),
        "title": _("Welcome"),
        "base_url": request.build_absolute_uri("/v1"),
        "model": welcome.model_to_ask() or "MODEL",
        "twins": TWINS,
        **shown(request.user, welcome.steps()),
        **context,
    }
    return TemplateResponse(request, "admin/welcome/page.html", told)


pages.register("welcome/", "welcome", welcome_view)
pages.register("welcome/provider/", "welcome_provider", provider_view)
pages.register("welcome/test/", "welcome_test", test_view)
pages.register("welcome/key/", "welcome_key", key_view)
