"""Forms about client keys: what one is allowed, how long the key before a rotation is good, and why one is revoked."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from routing import scope_grants
from routing.budgets import ROLE_FACTORS
from routing.client_keys import SCOPES
from routing.models import ClientKey

SCOPE_MEANINGS = {
    "generate": _("call models through /v1 and the jobs API"),
    "registry:read": _("read providers, models and settings"),
    "registry:write": _("change them"),
    "secrets:read": _("read upstream keys in clear text"),
    "admin": _("everything"),
}
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
OVERLAPS = {
    0: _("none: it stops at once"),
    15 * _MINUTE: _("15 minutes"),
    _HOUR: _("1 hour"),
    _DAY: _("1 day"),
    7 * _DAY: _("7 days"),
    30 * _DAY: _("30 days"),
}


class LinesField(forms.CharField):
    """A list, one item a line; empty is None."""

    widget = UnfoldAdminTextareaWidget(attrs={"rows": 2})

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(map(str, value)) if isinstance(value, list) else value

    def to_python(self, value: Any) -> list[str] | None:  # type: ignore[override]
        lines = value if isinstance(value, list) else str(value or "").splitlines()
        return [line.strip() for line in lines if line.strip()] or None

    def has_changed(self, initial: Any, data: Any) -> bool:
        return self.to_python(initial) != self.to_python(data)


class TagsField(LinesField):
    """A list, one item a line; empty is an empty one."""

    def clean(self, value: Any) -> list[str]:
        return super().clean(value) or []


def scope_choices(user: Any) -> list[tuple[str, str]]:
    return [(scope, f"{scope} – {SCOPE_MEANINGS[scope]}") for scope in scope_grants.grantable(user)]


class ClientKeyForm(forms.ModelForm):
    scopes = forms.MultipleChoiceField(
        choices=[(scope, f"{scope} – {SCOPE_MEANINGS[scope]}") for scope in SCOPES],  # narrowed to whom it is shown
        initial=["generate"],
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
    )
    allowed_policies = LinesField(
        required=False,
        help_text=_(
            "One pattern a line, such as chat_* or node/*. Then models are for these policies to choose; empty allows every "
            "policy that leads to an allowed model."
        ),
    )
    allowed_models = LinesField(
        required=False,
        help_text=_(
            "One pattern a line, such as gpt-* or openai/*. Empty allows every model, or none by name where policies are "
            "named above."
        ),
    )
    allowed_providers = LinesField(
        required=False, help_text=_("One pattern a line. Nobody else gets its requests, whichever policy chooses.")
    )
    ip_ranges = LinesField(
        required=False,
        label=_("Addresses"),
        help_text=_("Where it may come from, one a line, such as 10.0.0.0/8 or 192.0.2.7. Empty: from anywhere."),
    )
    tags = TagsField(
        required=False, help_text=_("Put on every request of the key, for reports and budgets; one a line.")
    )
    role = forms.ChoiceField(
        required=False,
        choices=[("", _("user (as usual)")), *((role, f"{role} × {factor}") for role, factor in ROLE_FACTORS.items())],
        widget=UnfoldAdminSelectWidget,
        help_text=_("What budgets by role are multiplied by."),
    )

    class Meta:
        model = ClientKey
        fields = (
            "name",
            "team",
            "scopes",
            "allowed_policies",
            "allowed_models",
            "allowed_providers",
            "ip_ranges",
            "expires_at",
            "tags",
            "role",
            "captures_content",
        )

    def clean_expires_at(self) -> Any:
        value = self.cleaned_data["expires_at"]
        if value is not None and not self.instance.pk and value <= timezone.now():
            raise ValidationError(_("This is past already."))
        return value


class RotateForm(forms.Form):
    overlap = forms.TypedChoiceField(
        choices=list(OVERLAPS.items()),
        coerce=int,
        initial=_DAY,
        label=_("How long the key that is in use now stays good"),
        widget=UnfoldAdminSelectWidget,
    )

    @property
    def span(self) -> timedelta:
        return timedelta(seconds=self.cleaned_data["overlap"])


class RevokeForm(forms.Form):
    """There is no way back: whoever does it types the key's name."""

    confirm = forms.CharField(
        max_length=255,
        label=_("Its name, to be sure"),
        widget=UnfoldAdminTextInputWidget(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    reason = forms.CharField(
        max_length=500,
        label=_("Why"),
        help_text=_("Kept with the key and in the audit log."),
        widget=UnfoldAdminTextInputWidget,
    )

    def __init__(self, *args: Any, name: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._name = name

    def clean_confirm(self) -> str:
        if self.cleaned_data["confirm"].strip() != self._name.strip():
            raise ValidationError(_("This is not the key's name."))
        return self._name
