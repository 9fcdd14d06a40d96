"""The forms of the import pages. Credentials go in and never come out: no form ever renders one, not even after a mistake."""

from __future__ import annotations

import zoneinfo
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as lazy
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from providers.forms import SecretInput, WordsField
from providers.import_runs import ImportRun
from providers.importers import readonly
from providers.importers.drafts import SourceError
from providers.importers.options import LARGEST_BATCH, Options
from providers.secrets import Secret

KINDS = (ImportRun.Kind.DRY_RUN, ImportRun.Kind.VERIFY, ImportRun.Kind.DELTA)
"""What the form may begin: an apply begins from a plan that somebody has seen, an undo from the run that it takes back."""


class SecretLines(UnfoldAdminTextareaWidget):
    """A text area that browsers neither check, fill nor remember, and that never renders a value."""

    def __init__(self, placeholder: str = "") -> None:
        super().__init__(
            attrs={
                "rows": 3,
                "class": "gw-code",
                "spellcheck": "false",
                "autocomplete": "off",
                "placeholder": placeholder,
            }
        )

    def format_value(self, value: Any) -> str:
        return ""


class StartForm(forms.Form):
    """Where to read from, how to read it, and what to do."""

    label = ""
    """Where the source is, without credentials; known once the form is valid."""

    kind = forms.ChoiceField(
        choices=[(kind.value, kind.label) for kind in KINDS],
        initial=ImportRun.Kind.DRY_RUN.value,
        widget=forms.HiddenInput(),
    )
    source_url = forms.CharField(
        label=lazy("Source database"),
        max_length=2000,
        widget=SecretInput("mysql+pymysql://user:password@host/bo_admin"),
        help_text=lazy(
            "mysql+pymysql://, postgresql+psycopg:// or sqlite:/// with its credentials. It is opened for reading only."
        ),
    )
    legacy_keys = forms.CharField(
        label=lazy("Legacy encryption keys"),
        required=False,
        strip=False,
        max_length=100_000,
        widget=SecretLines("one a line"),
        help_text=lazy(
            "Fernet keys or passphrases that the legacy system used over the years, one a line. "
            "Without them, encrypted keys are reported and not imported."
        ),
    )
    naive_timezone = forms.ChoiceField(
        label=lazy("Time zone of the source"),
        initial="UTC",
        widget=UnfoldAdminSelectWidget(),
        help_text=lazy("Legacy tables hold times without a zone; they are read in this one."),
    )
    environments = WordsField(
        required=False,
        widget=UnfoldAdminTextInputWidget(attrs={"placeholder": "development, staging, production"}),
        help_text=lazy("Whose keys and parameters to import, with commas. Empty is all."),
    )
    only = WordsField(
        label=lazy("Only these providers"),
        required=False,
        widget=UnfoldAdminTextInputWidget(attrs={"placeholder": "openai_prod, azure_openai_prod"}),
        help_text=lazy("Provider ids, with commas. Empty is all."),
    )
    batch_size = forms.IntegerField(
        initial=1000,
        min_value=1,
        max_value=LARGEST_BATCH,
        widget=UnfoldAdminIntegerFieldWidget(),
        help_text=lazy("Rows that are read, compared and written at a time."),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        zones = sorted(zoneinfo.available_timezones() - {"UTC", "localtime"})
        self.fields["naive_timezone"].choices = [(zone, zone) for zone in ("UTC", *zones)]  # type: ignore[attr-defined]

    def clean_source_url(self) -> str:
        given = self.cleaned_data["source_url"]
        try:
            self.label = readonly.parse(Secret(given)).label
        except SourceError as error:
            raise ValidationError(str(error)) from None
        return given

    def clean_legacy_keys(self) -> tuple[Secret, ...]:
        lines = (line.strip() for line in self.cleaned_data["legacy_keys"].splitlines())
        return tuple(Secret(line) for line in lines if line)

    def options(self) -> Options:
        given = self.cleaned_data
        return Options(
            source_url=Secret(given["source_url"]),
            legacy_keys=given["legacy_keys"],
            naive_timezone=given["naive_timezone"],
            environments=tuple(given["environments"]),
            only=tuple(given["only"]),
            batch_size=given["batch_size"],
        )


class UndoForm(forms.Form):
    """Taking a run back is asked for by its number, with a reason for the audit log."""

    confirmation = forms.CharField(max_length=20)
    reason = forms.CharField(max_length=500, error_messages={"required": lazy("Say why: the audit log keeps it.")})

    def __init__(self, run: ImportRun, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._number = str(run.pk)

    def clean_confirmation(self) -> str:
        given = self.cleaned_data["confirmation"].strip().removeprefix("#")
        if given != self._number:
            raise ValidationError(_("Type %s to confirm.") % self._number)
        return given
