"""The list of providers: its columns, read for a whole page at once, and what can be done to a row."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as lazy
from unfold.views import ChangeList

from providers import cells, provider_cells
from providers.models import Provider
from providers.provider_filters import label_of
from providers.provider_rows import Standing, standings


class ProviderChangeList(ChangeList):
    """Reads how the providers of the page stand."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        rows = list(self.result_list)
        known = standings(rows)
        for row in rows:
            row.known = known[row.pk]
            row.may_change = self.model_admin.has_change_permission(request, row)
        self.result_list = rows


class ProviderColumns:
    """The columns; mixed into the admin of providers. A cell that moves carries its name, so that it can be replaced alone."""

    list_display = (
        "name",
        "type",
        "state",
        "circuit",
        "day",
        "p95",
        "errors",
        "models_count",
        "priority_cell",
        "is_on",
        "tools",
    )

    @admin.display(description=lazy("Provider"), ordering="display_name")
    def name(self, provider: Any) -> SafeString:
        base_url = provider.known.base_url
        return format_html(
            '<span class="gw-name"><strong>{}</strong><small title="{}">{}</small></span>',
            provider.display_name or provider.provider_id,
            base_url,
            base_url or provider.provider_id,
        )

    @admin.display(description=lazy("Kind"), ordering="provider_type")
    def type(self, provider: Provider) -> SafeString:
        label = label_of(provider.provider_type)
        return format_html('<span class="gw-cut" title="{}">{}</span>', label, label.partition(" (")[0])

    @admin.display(description=lazy("Health"))
    def state(self, provider: Any) -> SafeString:
        return _live(provider, "state", provider_cells.state(provider, provider.known))

    @admin.display(description=lazy("Breaker"))
    def circuit(self, provider: Any) -> SafeString:
        return _live(provider, "circuit", provider_cells.breaker(provider.known))

    @admin.display(description=lazy("24 hours"))
    def day(self, provider: Any) -> SafeString:
        return provider_cells.strip(provider.known.figures.strip)

    @admin.display(description=lazy("p95"))
    def p95(self, provider: Any) -> SafeString:
        return _live(provider, "p95", provider_cells.p95(provider.known))

    @admin.display(description=lazy("Errors"))
    def errors(self, provider: Any) -> SafeString:
        return _live(provider, "errors", provider_cells.errors(provider.known))

    @admin.display(description=lazy("Models"))
    def models_count(self, provider: Any) -> SafeString:
        return provider_cells.models(provider.known)

    @admin.display(description=lazy("Priority"), ordering="priority")
    def priority_cell(self, provider: Provider) -> SafeString:
        return cells.number(provider.priority)

    @admin.display(description=lazy("Enabled"), ordering="enabled")
    def is_on(self, provider: Any) -> SafeString:
        return _live(provider, "is_on", provider_cells.enabled(provider, provider.known))

    @admin.display(description=lazy("Actions"))
    def tools(self, provider: Any) -> SafeString:
        if not provider.may_change:
            return mark_safe("")
        known: Standing = provider.known
        shown = [
            _link("network_check", _("Test %(name)s"), provider, "test", dialog=True),
            _link("sync", _("Compare the models of %(name)s with what it lists"), provider, "discover"),
            _link("power_settings_new", _("Disable %(name)s"), provider, "disable")
            if provider.enabled
            else _button("power_settings_new", _("Enable %(name)s"), provider, "enable"),
        ]
        if known.breaker is not None:
            shown.append(_button("restart_alt", _("Reset the breakers of %(name)s"), provider, "reset"))
        return format_html('<span class="gw-tools gw-icons">{}</span>', mark_safe("".join(shown)))


def _live(provider: Provider, cell: str, shown: SafeString) -> SafeString:
    return format_html('<span class="gw-live" data-cell="{}-{}">{}</span>', provider.pk, cell, shown)


def _link(icon: str, said: str, provider: Provider, page: str, *, dialog: bool = False) -> SafeString:
    said = said % {"name": provider}
    return format_html(
        '<a class="gw-icon" href="{}" title="{}" aria-label="{}"{}><span class="material-symbols-outlined" aria-hidden="true">{}</span></a>',
        reverse(f"admin:providers_provider_{page}", args=[provider.pk]),
        said,
        said,
        mark_safe(" data-dialog") if dialog else "",
        icon,
    )


def _button(icon: str, said: str, provider: Provider, page: str) -> SafeString:
    """It belongs to a form outside of the list's own; see `list_before.html`."""
    said = said % {"name": provider}
    return format_html(
        '<button type="submit" class="gw-icon" form="gw-row-form" formaction="{}" title="{}" aria-label="{}">'
        '<span class="material-symbols-outlined" aria-hidden="true">{}</span></button>',
        reverse(f"admin:providers_provider_{page}", args=[provider.pk]),
        said,
        said,
        icon,
    )
