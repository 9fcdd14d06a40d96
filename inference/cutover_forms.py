"""The forms of the cut-over page: the share, the legacy side, the copies. Header values go in and never come out."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as lazy
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminDecimalFieldWidget,
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from providers.import_forms import SecretLines
from routing.models import Rollout

REASON_LENGTH = 500


class ReasonForm(forms.Form):
    """Why, for the audit log."""

    reason = forms.CharField(required=False, max_length=REASON_LENGTH)


class ShareForm(ReasonForm):
    """A slider and a number for one share: whichever was moved from `was`, the typed one first, which may hold decimals."""

    was = forms.DecimalField(min_value=0, max_value=100)
    slider = forms.IntegerField(required=False, min_value=0, max_value=100)
    percentage = forms.DecimalField(required=False, min_value=0, max_value=100, max_digits=5, decimal_places=2)

    def share(self) -> Decimal:
        was, typed, slid = (self.cleaned_data[name] for name in ("was", "percentage", "slider"))
        if typed is not None and typed != was:
            return typed
        return was if slid is None or slid == round(was) else Decimal(slid)


class LinesField(forms.CharField):
    """A list of texts, one a line."""

    widget = UnfoldAdminTextareaWidget(attrs={"rows": 2, "class": "gw-code", "spellcheck": "false"})

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(map(str, value)) if isinstance(value, list) else value

    def to_python(self, value: Any) -> list[str]:  # type: ignore[override]
        lines = value if isinstance(value, list) else str(value or "").splitlines()
        return [line.strip() for line in lines if line.strip()]


class _RolloutForm(ReasonForm):
    """Fields of the roll-out, with its own explanations and its own checks."""

    names: tuple[str, ...] = ()

    def __init__(self, row: Rollout, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("initial", {name: getattr(row, name) for name in self.names})
        super().__init__(*args, **kwargs)
        for name in self.names:
            self.fields[name].help_text = self.fields[name].help_text or str(Rollout._meta.get_field(name).help_text)

    def values(self) -> dict[str, Any]:
        return {name: self.cleaned_data[name] for name in self.names}

    def take(self, refused: ValidationError) -> None:
        """Show what the model's own check refused, at its field where it has one here."""
        for name, sentences in refused.message_dict.items():
            for sentence in sentences:
                self.add_error(
                    _SHOWN_AT.get(name, name) if _SHOWN_AT.get(name, name) in self.fields else None, sentence
                )


_SHOWN_AT = {"legacy_headers": "headers"}


class LegacyForm(_RolloutForm):
    names = (
        "legacy_base_url",
        "extra_paths",
        "verify_tls",
        "connect_timeout_seconds",
        "reply_timeout_seconds",
        "idle_timeout_seconds",
    )

    legacy_base_url = forms.CharField(
        label=lazy("Base URL"),
        required=False,
        max_length=2000,
        widget=UnfoldAdminTextInputWidget(attrs={"placeholder": "https://legacy.example", "autocomplete": "off"}),
    )
    headers = forms.CharField(
        label=lazy("Extra headers"),
        required=False,
        widget=SecretLines("X-Api-Key: …"),
        help_text=lazy(
            "Name: value, one a line. They are added to every forwarded request, stored encrypted and never shown again."
        ),
    )
    forget_headers = forms.MultipleChoiceField(
        label=lazy("Stored headers"),
        required=False,
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        help_text=lazy("Tick those to forget."),
    )
    extra_paths = LinesField(required=False)
    verify_tls = forms.BooleanField(label=lazy("Verify TLS"), required=False, widget=UnfoldBooleanSwitchWidget())
    connect_timeout_seconds = forms.FloatField(
        label=lazy("Seconds to connect"), min_value=0.05, widget=UnfoldAdminDecimalFieldWidget()
    )
    reply_timeout_seconds = forms.FloatField(
        label=lazy("Seconds to the first byte"), min_value=0.1, widget=UnfoldAdminDecimalFieldWidget()
    )
    idle_timeout_seconds = forms.FloatField(
        label=lazy("Seconds of silence"), min_value=0.1, widget=UnfoldAdminDecimalFieldWidget()
    )

    def __init__(self, row: Rollout, *args: Any, **kwargs: Any) -> None:
        super().__init__(row, *args, **kwargs)
        self._stored = {name: value.reveal() for name, value in row.headers().items()}
        if self._stored:
            self.fields["forget_headers"].choices = [(name, name) for name in sorted(self._stored)]  # type: ignore[attr-defined]
        else:
            del self.fields["forget_headers"]

    def clean_headers(self) -> dict[str, str]:
        given = {}
        for number, line in enumerate(self.cleaned_data["headers"].splitlines(), start=1):
            name, colon, value = line.partition(":")
            if line.strip() and not colon:
                raise ValidationError(_("Line %s is not `Name: value`.") % number)
            if line.strip():
                given[name.strip()] = value.strip()
        return given

    def all_headers(self) -> dict[str, str] | None:
        """Those that are stored then; None when they stay as they are."""
        forgotten = set(self.cleaned_data.get("forget_headers") or ())
        given = self.cleaned_data["headers"]
        if not forgotten and not given:
            return None
        replaced = {name.lower() for name in given}
        kept = {
            name: value
            for name, value in self._stored.items()
            if name not in forgotten and name.lower() not in replaced
        }
        return kept | given


class ShadowForm(_RolloutForm):
    names = ("shadow_percentage", "shadow_daily_cap", "shadow_retention_hours")

    shadow_percentage = forms.DecimalField(
        label=lazy("Copied share, %"),
        min_value=0,
        max_value=100,
        max_digits=5,
        decimal_places=2,
        widget=UnfoldAdminDecimalFieldWidget(),
    )
    shadow_daily_cap = forms.DecimalField(
        label=lazy("Daily cap, USD"),
        min_value=0,
        max_digits=12,
        decimal_places=4,
        widget=UnfoldAdminDecimalFieldWidget(),
    )
    shadow_retention_hours = forms.IntegerField(
        label=lazy("Hours kept"), min_value=1, max_value=24 * 365, widget=UnfoldAdminIntegerFieldWidget()
    )
