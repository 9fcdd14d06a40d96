"""Client keys in the admin: issued once, shown once, switched off and on, never readable again."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget, UnfoldAdminTextareaWidget

from providers import cells
from providers.tables import SwitchableAdmin
from routing import (
    admin_health,  # noqa: F401  (registers its page)
    admin_policies,  # noqa: F401  (registers its pages)
    admin_select,  # noqa: F401  (registers its page)
    admin_teams,  # noqa: F401  (registers its pages)
    admin_trials,  # noqa: F401
    issuing,
    scope_grants,
    visibility,
)
from routing.client_keys import SCOPES
from routing.models import ClientKey
from routing.team_pages import ManagedByTeams, TeamFilter

SCOPE_MEANINGS = {
    "generate": "call models through /v1 and the jobs API",
    "registry:read": "read providers, models and settings",
    "registry:write": "change them",
    "secrets:read": "read upstream keys in clear text",
    "admin": "everything",
}


class LinesField(forms.CharField):
    """A list, one item a line; empty is None."""

    widget = UnfoldAdminTextareaWidget(attrs={"rows": 3})

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(map(str, value)) if isinstance(value, list) else value

    def to_python(self, value: Any) -> list[str] | None:  # type: ignore[override]
        lines = value if isinstance(value, list) else str(value or "").splitlines()
        return [line.strip() for line in lines if line.strip()] or None

    def has_changed(self, initial: Any, data: Any) -> bool:
        return self.to_python(initial) != self.to_python(data)


def scope_choices(user: Any) -> list[tuple[str, str]]:
    return [(scope, f"{scope} – {SCOPE_MEANINGS[scope]}") for scope in scope_grants.grantable(user)]


class ClientKeyForm(forms.ModelForm):
    scopes = forms.MultipleChoiceField(
        choices=[(scope, f"{scope} – {SCOPE_MEANINGS[scope]}") for scope in SCOPES],  # narrowed to whom it is shown
        initial=["generate"],
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
    )
    allowed_models = LinesField(
        required=False, help_text="One pattern a line, such as gpt-* or openai/*. Empty allows every model."
    )

    class Meta:
        model = ClientKey
        fields = ("name", "team", "scopes", "allowed_models", "expires_at", "enabled")

    def clean_expires_at(self) -> Any:
        value = self.cleaned_data["expires_at"]
        if value is not None and not self.instance.pk and value <= timezone.now():
            raise ValidationError("This is past already.")
        return value


@admin.register(ClientKey)
class ClientKeyAdmin(ManagedByTeams, SwitchableAdmin):
    form = ClientKeyForm
    list_display = ("title", "scopes_cell", "models_cell", "expires", "last_used", "created", "state")
    list_filter = ("enabled", TeamFilter)
    search_fields = ("name", "prefix")
    search_help_text = "Search by name or prefix"
    ordering = ("-created_at",)
    list_before_template = "admin/routing/clientkey/list_before.html"
    readonly_fields = ("prefix", "created", "last_used")

    def may_write(self, request: HttpRequest, row: ClientKey | None = None) -> bool:
        """A key with scopes that the user may not give is out of the user's hands: to rotate it would be to have it."""
        return super().may_write(request, row) and (row is None or scope_grants.may_handle(request.user, row.scopes))

    def get_form(self, request: HttpRequest, obj: ClientKey | None = None, change: bool = False, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, change=change, **kwargs)
        if "scopes" in form.base_fields:
            form.base_fields["scopes"].choices = scope_choices(request.user)
        if "team" in form.base_fields:
            form.base_fields["team"].required = visibility.managed_by(request.user) is not None
        return form

    def get_fieldsets(self, request: HttpRequest, obj: ClientKey | None = None) -> list[tuple[str | None, dict]]:
        fields = ["name", "team", "scopes", "allowed_models", "expires_at"]
        return [(None, {"fields": [*fields, "enabled", "prefix", "created", "last_used"] if obj else fields})]

    @admin.display(description="Key", ordering="name")
    def title(self, key: ClientKey) -> SafeString:
        return format_html('<span class="gw-name"><strong>{}</strong><small>{}…</small></span>', key.name, key.prefix)

    @admin.display(description="Scopes")
    def scopes_cell(self, key: ClientKey) -> str:
        return ", ".join(key.scopes)

    @admin.display(description="Models")
    def models_cell(self, key: ClientKey) -> str:
        patterns = key.allowed_models
        if patterns is None:
            return "all"
        return ", ".join(patterns[:3]) + (f" +{len(patterns) - 3}" if len(patterns) > 3 else "")

    @admin.display(description="Expires", ordering="expires_at")
    def expires(self, key: ClientKey) -> Any:
        return cells.ago(key.expires_at) if key.expires_at else "never"

    @admin.display(description="Last used", ordering="last_used_at")
    def last_used(self, key: ClientKey) -> SafeString:
        return cells.ago(key.last_used_at)

    @admin.display(description="Created", ordering="created_at")
    def created(self, key: ClientKey) -> SafeString:
        by = f" by {key.created_by}" if key.created_by else ""
        return format_html("{}{}", cells.ago(key.created_at), by)

    @admin.display(description="State", ordering="enabled")
    def state(self, key: ClientKey) -> SafeString:
        if not key.enabled:
            return cells.pill("disabled", "", f"since {key.updated_at:%Y-%m-%d %H:%M:%S}")
        if key.expires_at and key.expires_at <= timezone.now():
            return cells.pill("expired", "warn", f"since {key.expires_at:%Y-%m-%d %H:%M:%S}")
        return cells.pill("active", "good")

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        """Issue a key and show it, in the answer to this one request and nowhere else."""
        # A key is shown in the answer to its creation: there is no other page to go on to.
        extra_context = {"show_save_and_add_another": False, "show_save_and_continue": False, **(extra_context or {})}
        if request.method != "POST":
            return super().add_view(request, form_url, extra_context)
        if not self.has_add_permission(request):
            raise PermissionDenied
        form = self.get_form(request)(request.POST)
        if not form.is_valid():
            return super().add_view(request, form_url, extra_context)
        with transaction.atomic():
            key, plaintext = issuing.issue(
                form.cleaned_data["name"],
                form.cleaned_data["scopes"],
                allowed_models=form.cleaned_data["allowed_models"],
                expires_at=form.cleaned_data["expires_at"],
            )
            key.team = form.cleaned_data["team"]
            key.save(update_fields=["team"])
            self.log_addition(request, key, [{"added": {}}])
        request.current_app = self.admin_site.name  # type: ignore[attr-defined]
        response = TemplateResponse(
            request,
            "admin/routing/clientkey/issued.html",
            {
                **self.admin_site.each_context(request),
                "title": "Client key created",
                "key": key,
                "plaintext": plaintext.reveal(),
                "base_url": request.build_absolute_uri("/v1"),
            },
        )
        response["Cache-Control"] = "no-store"
        return response
