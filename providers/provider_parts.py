"""What belongs to a provider and is edited with it: its keys and its parameters by environment. Secrets go in and never come out."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib import admin
from django.forms import BaseInlineFormSet
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as lazy
from unfold.admin import TabularInline

from providers import actor, breaker_states, cells, keyring, upstream
from providers.forms import ApiKeyForm, ConnectionParameterForm
from providers.models import ApiKey, ConnectionParameter
from providers.secrets import SecretError


class KeyInline(TabularInline):
    model = ApiKey
    form = ApiKeyForm
    fields = ("name", "new_secret", "stored", "environment", "weight", "expires_at", "enabled", "standing", "last_used")
    readonly_fields = ("stored", "standing", "last_used")
    extra = 0
    hide_title = True
    verbose_name = lazy("key")
    verbose_name_plural = lazy("keys")

    def get_formset(self, request: HttpRequest, obj: Any = None, **kwargs: Any) -> type[BaseInlineFormSet]:
        self.resting = breaker_states.resting()
        return super().get_formset(request, obj, **kwargs)

    @admin.display(description=lazy("Stored"))
    def stored(self, key: ApiKey) -> SafeString:
        if not key.pk:
            return cells.EMPTY
        return format_html(
            '<span class="gw-name"><code class="gw-code">{}</code><small title="{}">{}</small></span>',
            key.hint,
            _("Fingerprint: the same key has the same one everywhere."),
            key.fingerprint,
        )

    @admin.display(description=lazy("State"))
    def standing(self, key: ApiKey) -> SafeString:
        return key_state(key, self.resting)

    @admin.display(description=lazy("Last used"))
    def last_used(self, key: ApiKey) -> SafeString:
        return cells.ago(key.last_used_at)


class ParameterInline(TabularInline):
    model = ConnectionParameter
    form = ConnectionParameterForm
    fields = ("param_name", "value", "stored", "is_sensitive", "environment")
    readonly_fields = ("stored",)
    extra = 0
    verbose_name = lazy("parameter of an environment")
    verbose_name_plural = lazy("Parameters by environment")

    @admin.display(description=lazy("Stored"))
    def stored(self, parameter: ConnectionParameter) -> SafeString:
        if not parameter.pk:
            return cells.EMPTY
        if not parameter.is_sensitive:
            return format_html('<code class="gw-code">{}</code>', parameter.plain_value or "")
        try:
            value = parameter.secret_value
        except SecretError:
            return cells.pill(_("unreadable"), "bad", _("The encryption key of this value is not on the ring."))
        text = keyring.fingerprint(value.reveal()) if value is not None else ""
        return format_html('<code class="gw-code">•••• {}</code>', text)


def key_state(key: ApiKey, resting: Any) -> SafeString:
    """Why a key is used or not: held back, disabled, expired, elsewhere, unreadable, set aside for a while, or in use."""
    if not key.pk:
        return cells.EMPTY
    if key.held_for:
        why = _("It was entered for %(place)s, and the provider points elsewhere now. Enter it anew.") % {
            "place": key.held_for
        }
        shown = cells.pill(_("held back"), "bad", why)
        if not actor.current().may_handle_secrets():
            return shown
        return format_html(
            '{} <button type="submit" class="gw-link" formnovalidate formaction="{}" title="{}">{}</button>',
            shown,
            reverse("admin:providers_provider_release", args=[key.provider_id, key.pk]),
            _("Let it be shown at the address that the provider has now."),
            _("Release"),
        )
    if not key.enabled:
        return cells.pill(_("off by hand"), "", _("Disabled by hand."))
    if key.expires_at and key.expires_at <= timezone.now():
        return format_html("{} {}", cells.pill(_("expired"), "bad"), cells.ago(key.expires_at))
    if key.environment != settings.GATEWAY_ENVIRONMENT:
        why = _("This gateway uses the keys of %(environment)s.") % {"environment": settings.GATEWAY_ENVIRONMENT}
        return cells.pill(_("elsewhere"), "", why)
    if why_unreadable := upstream.why_unreadable(key):
        why = _("It is not used, as this process cannot read it: %(why)s.") % {"why": why_unreadable}
        return cells.pill(_("left out"), "bad", why)
    if rests := resting.get(key.pk):
        why = _("The upstream answered %(code)s, %(times)s times in a row.") % {
            "code": rests.code,
            "times": rests.times,
        }
        return format_html("{} {}", cells.pill(_("rests"), "warn", why), cells.ago(rests.until))
    return cells.pill(_("usable"), "good", _("Shown to the upstream by its weight among those of its environment."))
