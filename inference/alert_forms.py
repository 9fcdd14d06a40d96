"""The forms of alerts: what a rule watches and whom it tells, and where a channel's messages go. An address goes in and never
comes out."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldAdminTimeWidget,
)

from inference.alert_models import KINDS, AlertChannel, AlertRule
from inference.alert_signals import ACTIONS, SIGNALS

TOLD_FOR = {
    "": _("what is usual for the signal"),
    "gateway": _("the gateway as a whole"),
    "provider": _("each provider by itself"),
    "model": _("each model at each provider"),
    "budget": _("each budget"),
    "key": _("each client key"),
}


class AlertRuleForm(forms.ModelForm):
    signal = forms.ChoiceField(
        choices=[(one.name, f"{one.title} ({one.unit})" if one.unit else one.title) for one in SIGNALS.values()],
        widget=UnfoldAdminSelectWidget,
    )
    told_for = forms.ChoiceField(
        choices=list(TOLD_FOR.items()),
        required=False,
        widget=UnfoldAdminSelectWidget,
        help_text=_("Each of these has incidents of its own."),
    )
    action = forms.ChoiceField(
        choices=[("", _("nothing")), *((name, text) for name, text in ACTIONS.items())],
        required=False,
        widget=UnfoldAdminSelectWidget,
        help_text=_("What else is done when it fires."),
    )
    channels = forms.MultipleChoiceField(
        required=False,
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        help_text=_("Who is told. None ticked: every channel that is switched on."),
    )

    class Meta:
        model = AlertRule
        fields = (
            *("name", "description", "enabled", "signal", "threshold", "told_for", "window_minutes", "least_requests"),
            *("recover_minutes", "remind_minutes", "channels", "action"),
        )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk:
            self.initial["threshold"] = f"{self.instance.threshold.normalize():f}"
        there = list(AlertChannel.objects.values_list("name", flat=True))
        missing = [name for name in self.instance.channels or () if name not in there]
        field = self.fields.get("channels")
        if field is not None:
            field.choices = [  # type: ignore[attr-defined]
                *((name, name) for name in there),
                *((name, gettext("%(name)s (there is no such channel yet)") % {"name": name}) for name in missing),
            ]


class AlertChannelForm(forms.ModelForm):
    kind = forms.ChoiceField(choices=list(KINDS.items()), widget=UnfoldAdminSelectWidget)
    recipients_text = forms.CharField(
        label=_("Recipients"),
        required=False,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}),
        help_text=_("Of an e-mail channel: one address a line."),
    )
    new_address = forms.CharField(
        label=_("URL"),
        required=False,
        max_length=4000,
        widget=UnfoldAdminTextInputWidget(attrs={"autocomplete": "off"}),
        help_text=_("Of a webhook or of Apprise. Stored encrypted and not shown again."),
    )
    new_signing_secret = forms.CharField(
        label=_("Signing secret"),
        required=False,
        max_length=500,
        widget=UnfoldAdminTextInputWidget(attrs={"autocomplete": "off"}),
        help_text=_("Webhooks carry a signature made with it. Stored encrypted and not shown again."),
    )

    class Meta:
        model = AlertChannel
        fields = ("name", "kind", "enabled", "allow_private", "quiet_from", "quiet_until", "time_zone")
        widgets = {"quiet_from": UnfoldAdminTimeWidget, "quiet_until": UnfoldAdminTimeWidget}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk:
            self.fields["recipients_text"].initial = "\n".join(self.instance.recipients)
            for name, stored in (
                ("new_address", self.instance.address),
                ("new_signing_secret", self.instance.signing_secret),
            ):
                if stored is not None:
                    field = self.fields[name]
                    field.help_text = f"{field.help_text} {gettext('One is stored; empty keeps it.')}"

    def _post_clean(self) -> None:
        """The row judges what was entered, and names its own fields."""
        told = self.cleaned_data
        self.instance.recipients = [
            line.strip() for line in told.get("recipients_text", "").splitlines() if line.strip()
        ]
        if told.get("new_address"):
            self.instance.address = told["new_address"]
        if told.get("new_signing_secret"):
            self.instance.signing_secret = told["new_signing_secret"]
        super()._post_clean()

    def add_error(self, field: str | None, error: Any) -> None:
        if field is None and hasattr(error, "error_dict"):
            own = {"recipients": "recipients_text", "address": "new_address", "signing_secret": "new_signing_secret"}
            for name, found in error.error_dict.items():
                super().add_error(own.get(name, name), found)
            return
        super().add_error(field, error)
