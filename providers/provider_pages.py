"""What is done to a provider from its row and its page: the staged test, discovery, switching, breakers, keys that are held back.

Mixed into the admin of providers. Each page checks the right to change its provider; what is done is written down with its reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.html import format_html_join
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_GET, require_POST

from providers import (
    actor,
    breaker_states,
    discovery,
    holding,
    pages,
    policy_uses,
    probes,
    provider_cells,
    provider_tabs,
    provider_types,
)
from providers.models import Provider
from providers.offer_prices import filled, priced
from providers.provider_rows import losing_their_only_provider, standings
from providers.provider_switching import switch

MOST_LIVE = 200
"""Rows whose cells one answer brings."""


class ProviderPages:
    """Views and their addresses; needs a `ModelAdmin` around it."""

    admin_site: Any
    media: Any
    message_user: Any
    has_change_permission: Any

    def get_urls(self) -> list:
        wrap = self.admin_site.admin_view

        def one(action: str, view: Any) -> Any:
            return path(f"<int:pk>/{action}/", wrap(view), name=f"providers_provider_{action}")

        own = [
            path("live/", wrap(require_GET(self.live_view)), name="providers_provider_live"),
            one("test", self.test_view),
            one("discover", self.discover_view),
            one("disable", self.disable_view),
            one("enable", require_POST(self.enable_view)),
            one("reset", require_POST(self.reset_view)),
            path(
                "<int:pk>/keys/<int:key_pk>/release/",
                wrap(require_POST(self.release_view)),
                name="providers_provider_release",
            ),
        ]
        return own + super().get_urls()  # type: ignore[misc]

    def live_view(self, request: HttpRequest) -> HttpResponse:
        """The cells of a list that move, for the rows that it shows now."""
        if not self.has_view_permission(request):  # type: ignore[attr-defined]
            raise PermissionDenied
        pks = [int(pk) for pk in request.GET.get("ids", "").split(",") if pk.isdecimal()][:MOST_LIVE]
        rows = list(Provider.objects.filter(pk__in=pks))
        known = standings(rows)
        for row in rows:
            row.known = known[row.pk]  # type: ignore[attr-defined]
        cells = ((getattr(self, name)(row),) for row in rows for name in provider_cells.LIVE)
        return HttpResponse(format_html_join("\n", "<div>{}</div>", cells))

    def test_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """The staged test: a page of its own, or the fragment that a dialog shows."""
        provider = self._changeable(request, pk)
        result = None
        if request.method == "POST":
            wish = True if request.POST.get("generate") else None
            result = probes.probe(provider, trigger="admin", generate=wish)
        kind = provider_types.find(provider.provider_type)
        context = {
            "provider": provider,
            "result": result,
            "last": None if result else provider.probes.order_by("-id").first(),
            "may_be_billed": kind is not None and not kind.free and not provider.allow_paid_probes,
            "generate": bool(request.POST.get("generate")),
        }
        if request.headers.get("X-Fragment"):
            return TemplateResponse(request, "admin/providers/provider/test_fragment.html", context)
        title = _("Test %(provider)s") % {"provider": provider}
        return self._page(request, "admin/providers/provider/test.html", title, **context)

    def discover_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """What is new, told otherwise, gone and unchanged; a tick takes it over."""
        provider = self._changeable(request, pk)
        shown: dict[str, Any] = {"provider": provider}
        try:
            offers = discovery.offered(provider)
        except discovery.DiscoveryFailed as error:
            shown["failure"] = error
        else:
            if request.method == "POST":
                return self._apply(request, provider, offers)
            difference = discovery.compare(provider, offers)
            shown |= {
                "difference": difference,
                "new": priced(provider, difference.new),
                "tick_new": len(difference.new) <= 25,
            }
        title = _("Models of %(provider)s") % {"provider": provider}
        return self._page(request, "admin/providers/provider/discover.html", title, **shown)

    def _apply(self, request: HttpRequest, provider: Provider, offers: list[discovery.Offered]) -> HttpResponse:
        wanted = set(request.POST.getlist("add"))
        applied = discovery.apply(
            provider,
            add=filled(provider, [offer for offer in offers if offer.model_id in wanted]),
            disable=request.POST.getlist("disable"),
            refresh=[
                one
                for one in discovery.compare(provider, offers).retold
                if one.row.model_id in request.POST.getlist("refresh")
            ],
        )
        said = []
        if applied.added:
            said.append(
                ngettext("%(n)s model added", "%(n)s models added", len(applied.added)) % {"n": len(applied.added)}
            )
        if applied.disabled:
            count = len(applied.disabled)
            said.append(ngettext("%(n)s model disabled", "%(n)s models disabled", count) % {"n": count})
        if applied.refreshed:
            count = len(applied.refreshed)
            said.append(ngettext("%(n)s model refreshed", "%(n)s models refreshed", count) % {"n": count})
        self.message_user(request, f"{', '.join(said) or _('Nothing was changed')}.", messages.SUCCESS)
        return redirect(provider_tabs.link(provider, provider_tabs.MODELS))

    def disable_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """What would be lost, and the switch."""
        provider = self._changeable(request, pk)
        if request.method != "POST":
            return self._ask_to_disable(request, [provider], reverse("admin:providers_provider_disable", args=[pk]))
        self._switched(request, [provider], on=False)
        return self._back(request)

    def enable_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        self._switched(request, [self._changeable(request, pk)], on=True)
        return self._back(request)

    def reset_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        self._reset(request, [self._changeable(request, pk)])
        return self._back(request)

    def release_view(self, request: HttpRequest, pk: int, key_pk: int) -> HttpResponse:
        """Let a key that is held back be shown at the provider's new address: for who may handle secrets."""
        provider = self._changeable(request, pk)
        if not request.user.has_perm(holding.PERMISSION):
            raise PermissionDenied
        released = holding.release(provider.api_keys.filter(pk=key_pk))
        told = _("Released: it is shown at the new address from now on.") if released else _("It was not held back.")
        self.message_user(request, told, messages.SUCCESS)
        return redirect(provider_tabs.link(provider, provider_tabs.KEYS))

    # Parts of these

    def _ask_to_disable(self, request: HttpRequest, chosen: Sequence[Provider], action: str) -> HttpResponse:
        return self._page(
            request,
            "admin/providers/provider/disable.html",
            ngettext("Disable a provider", "Disable providers", len(chosen)),
            providers=chosen,
            form_action=action,
            lost=losing_their_only_provider([provider.pk for provider in chosen]),
            policies=policy_uses.lost_without([provider.provider_id for provider in chosen if provider.enabled]),
        )

    def _switched(self, request: HttpRequest, providers: Iterable[Provider], *, on: bool) -> None:
        with actor.giving_reason(request.POST.get("reason", "")[:500]):
            changed = ", ".join(map(str, switch(providers, on=on)))
        if not changed:
            told = _("All were on already.") if on else _("All were off already.")
        else:
            told = (_("Enabled: %(names)s.") if on else _("Disabled: %(names)s.")) % {"names": changed}
        self.message_user(request, told, messages.SUCCESS)

    def _reset(self, request: HttpRequest, providers: Iterable[Provider]) -> None:
        try:
            done = [route for provider in providers for route in breaker_states.reset(provider.provider_id)]
        except breaker_states.CannotReset as error:
            self.message_user(request, _("Not reset: %(why)s.") % {"why": error}, messages.ERROR)
            return
        told = _("Reset: %(routes)s.") % {"routes": ", ".join(done)} if done else _("Every breaker was well.")
        self.message_user(request, told, messages.SUCCESS)

    def _back(self, request: HttpRequest) -> HttpResponse:
        """To where it was asked for: a page of the list or of the provider."""
        listed = reverse("admin:providers_provider_changelist")
        came = request.POST.get("next", "") or listed
        return redirect(came if came.startswith(listed) else listed)

    def _changeable(self, request: HttpRequest, pk: int) -> Provider:
        provider = get_object_or_404(Provider, pk=pk)
        if not self.has_change_permission(request, provider):
            raise PermissionDenied
        return provider

    def _page(self, request: HttpRequest, template: str, title: str, **context: Any) -> TemplateResponse:
        frame = {"opts": Provider._meta, "original": context.get("provider"), "title": title, "media": self.media}
        if context.get("provider") is None:
            frame["above"] = [(_("Providers"), reverse("admin:providers_provider_changelist"))]
        return pages.render(request, template, {**frame, **context})
