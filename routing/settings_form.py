"""The settings of routing as a form."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext as say
from django.utils.translation import gettext_lazy as _
from unfold.widgets import (
    UnfoldAdminDecimalFieldWidget,
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from routing.models import Policy, RoutingSettings
from routing.target_forms import KNOWN_NAMES


class SettingsForm(forms.ModelForm):
    """The routing settings, with a reason."""

    use_required_attribute = False
    unknown_model = forms.ChoiceField(
        label=_("A model that nobody has"),
        required=False,
        choices=[("refuse", _("is refused (404)")), ("default", _("is served by the default policy, which says so"))],
        widget=UnfoldAdminSelectWidget,
    )
    reason = forms.CharField(
        label=_("Reason"),
        required=False,
        max_length=500,
        widget=UnfoldAdminTextInputWidget(
            attrs={"autocomplete": "off", "placeholder": _("Why; kept in the audit log")}
        ),
    )

    class Meta:
        model = RoutingSettings
        fields = (
            "default_policy",
            "unknown_model",
            "max_cost_per_request",
            "fallback_enabled",
            "retries",
            "retry_delay_seconds",
        )
        labels = {
            "default_policy": _("Default policy"),
            "max_cost_per_request": _("Cost of a request, at most, in USD"),
            "fallback_enabled": _("Fall back to the next candidate"),
            "retries": _("Retries"),
            "retry_delay_seconds": _("Pause before a retry, in seconds"),
        }
        help_texts = {
            "default_policy": _("Serves requests that name no model; empty: every model, by priority."),
            "max_cost_per_request": _("Of the estimate; the lower of this and a request's own counts."),
            "fallback_enabled": _("Off: the first candidate is the only one that is asked."),
            "retries": _("How often the last candidate is asked again."),
        }
        widgets = {
            "default_policy": UnfoldAdminTextInputWidget(attrs={"list": KNOWN_NAMES, "autocomplete": "off"}),
            "max_cost_per_request": UnfoldAdminDecimalFieldWidget(attrs={"step": "any"}),
            "fallback_enabled": UnfoldBooleanSwitchWidget,
            "retries": UnfoldAdminIntegerFieldWidget,
            "retry_delay_seconds": UnfoldAdminDecimalFieldWidget(attrs={"step": "any"}),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if (most := self.instance.max_cost_per_request) is not None:
            self.initial["max_cost_per_request"] = f"{most.normalize():f}"

    def clean_default_policy(self) -> str:
        name = self.cleaned_data["default_policy"]
        if name and not Policy.objects.filter(name=name, enabled=True).exists():
            raise forms.ValidationError(say("No enabled policy is named %r.") % name)
        return name
