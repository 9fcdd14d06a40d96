"""The admin's forms: a provider's is made from what its type declares; secrets go in and never come out.

Declared parameters become fields named `param__NAME`; what the type does not declare stands in one JSON object. A stored
secret is never put into a page: an empty password field keeps it, and a tick forgets it.
"""

from __future__ import annotations

import json
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _
from unfold.widgets import (
    INPUT_CLASSES,
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminDecimalFieldWidget,
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminNullBooleanSelectWidget,
    UnfoldAdminPasswordWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from providers import allowed_references, breaker_settings, connection, engine_options, keyring, storable_json
from providers.addresses import AddressRefused, check_url
from providers.locality import LOCAL, REMOTE
from providers.models import ApiKey, ConnectionParameter, Provider, ProviderModel
from providers.ownership import OwnedByFile
from providers.provider_types import Parameter, ProviderType
from providers.secrets import SecretError, hint

PREFIX = "param__"
_REFERENCE_HELP = "Stored encrypted and never shown again. A value of env:NAME or file:PATH refers to a secret that is kept elsewhere."


class SecretInput(UnfoldAdminPasswordWidget):
    """A password field that browsers neither fill nor remember, and that never renders a value."""

    def __init__(self, placeholder: str = "") -> None:
        super().__init__(attrs={"autocomplete": "new-password", "placeholder": placeholder}, render_value=False)


class YesNoOrUnsaid(UnfoldAdminNullBooleanSelectWidget):
    """For a flag without a default of its own, where the installation decides."""

    def __init__(self) -> None:
        super().__init__()
        self.choices = [("unknown", "as the installation says"), ("true", "yes"), ("false", "no")]


class MomentInput(forms.DateTimeInput):
    """Date and time in one field, so that a row of a table has room for it. In the installation's time zone."""

    input_type = "datetime-local"

    def __init__(self) -> None:
        super().__init__(attrs={"class": " ".join(INPUT_CLASSES), "step": "1"}, format="%Y-%m-%dT%H:%M:%S")


class WordsField(forms.CharField):
    """A list of words, written with commas."""

    widget = UnfoldAdminTextInputWidget

    def prepare_value(self, value: Any) -> Any:
        return ", ".join(map(str, value)) if isinstance(value, list) else value

    def to_python(self, value: Any) -> list[str]:  # type: ignore[override]
        words = value if isinstance(value, list) else str(value or "").split(",")
        return [word.strip() for word in words if word.strip()]

    def has_changed(self, initial: Any, data: Any) -> bool:
        return self.to_python(initial) != self.to_python(data)


class ObjectField(forms.JSONField):
    """A JSON object, pretty in its text area."""

    def __init__(self, **kwargs: Any) -> None:
        widget = UnfoldAdminTextareaWidget(attrs={"rows": 3, "class": "gw-code", "spellcheck": "false"})
        super().__init__(widget=widget, required=kwargs.pop("required", False), **kwargs)

    def prepare_value(self, value: Any) -> Any:
        if isinstance(value, dict):
            return json.dumps(value, indent=2, ensure_ascii=False) if value else ""
        return value

    def clean(self, value: Any) -> dict[str, Any]:
        value = super().clean(value)
        if value in (None, ""):
            return {}
        if not isinstance(value, dict):
            raise ValidationError('A JSON object is needed, such as {"name": "value"}.')
        if why := storable_json.why_not(value):
            raise ValidationError(why)
        return value

    def to_python(self, value: Any) -> Any:
        try:
            return super().to_python(value)
        except RecursionError:
            raise ValidationError(storable_json.TOO_DEEP) from None

    def bound_data(self, data: Any, initial: Any) -> Any:
        """What cannot be stored is shown again as it was typed."""
        try:
            value = super().bound_data(data, initial)
        except RecursionError:
            return forms.fields.InvalidJSONInput(data)
        return forms.fields.InvalidJSONInput(data) if storable_json.why_not(value) else value

    def has_changed(self, initial: Any, data: Any) -> bool:
        return super().has_changed(initial or {}, data or "{}")


TIMEOUTS = ("connect_timeout_seconds", "first_byte_timeout_seconds", "idle_timeout_seconds", "timeout_seconds")
"""Members of request_settings that have a field of their own."""


def _timeout(label: Any, help_text: Any) -> forms.FloatField:
    return forms.FloatField(
        label=label,
        help_text=help_text,
        required=False,
        min_value=0.1,
        max_value=86_400,
        widget=UnfoldAdminDecimalFieldWidget(attrs={"placeholder": _("the usual"), "step": "any"}),
    )


class ProviderForm(forms.ModelForm):
    """The fields that every provider has. `form_of` adds those of its type."""

    kind: ProviderType | None = None

    connect_timeout_seconds = _timeout(_("Connect within"), _("Seconds until a connection stands."))
    first_byte_timeout_seconds = _timeout(_("First byte within"), _("Seconds until the answer begins."))
    idle_timeout_seconds = _timeout(_("Silence of at most"), _("Seconds between two pieces of an answer."))
    timeout_seconds = _timeout(_("Whole answer within"), _("Seconds from the call to its end."))

    new_key = forms.CharField(
        label=_("API key"), required=False, strip=True, widget=SecretInput(), help_text=_REFERENCE_HELP
    )
    extra_params = ObjectField(
        label=_("Other parameters"),
        help_text=_(
            "Connection parameters that this type does not declare, as a JSON object. Secrets in it are moved to encrypted storage."
        ),
    )
    forget_secrets = forms.MultipleChoiceField(
        label=_("Stored secrets"),
        required=False,
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        help_text=_("Tick those to forget. Their values are never shown."),
    )
    request_settings = ObjectField(help_text=_("Timeouts and behaviour of calls to this provider, as a JSON object."))
    locality = forms.ChoiceField(
        required=False,
        choices=[("", _("as its type and address tell")), (LOCAL, LOCAL), (REMOTE, REMOTE)],
        widget=UnfoldAdminSelectWidget(),
        help_text=_("Policies that are local only ask no remote provider."),
    )
    data_tags = WordsField(
        required=False, help_text=_("Kinds of data that this provider may get, such as eu or medical, with commas.")
    )
    breaker = ObjectField(
        help_text=format_lazy(
            _("What differs from the routing settings, as a JSON object: {names}."),
            names=", ".join(breaker_settings.NAMES),
        )
    )

    class Meta:
        model = Provider
        widgets = {"description": UnfoldAdminTextareaWidget(attrs={"rows": 2})}
        fields = (
            "provider_id",
            "display_name",
            "description",
            "enabled",
            "priority",
            "locality",
            "data_tags",
            "breaker",
            "probe_interval_seconds",
            "allow_paid_probes",
            "request_settings",
        )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.kind is not None and not self.instance.provider_type:
            self.instance.provider_type = self.kind.name
        stored = connection.canonical(self.instance.connection_params or {})
        for parameter in self._parameters():
            if not parameter.sensitive:
                self.initial.setdefault(PREFIX + parameter.name, stored.pop(parameter.name, parameter.default))
        self.initial.setdefault("extra_params", stored)
        self._take_timeouts_apart()
        self._offer_to_forget()
        if "display_name" in self.fields:
            self.fields["display_name"].help_text = "Empty takes the provider id."

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        self._refuse_references(cleaned)
        if "request_settings" in cleaned:
            told = {name: cleaned.get(name) for name in TIMEOUTS if cleaned.get(name) is not None}
            cleaned["request_settings"] = {**cleaned["request_settings"], **told}
        self._check_options()
        return cleaned

    def _check_options(self) -> None:
        before = self.instance.wrong_options() if self.instance.pk else {}
        wrong = engine_options.problems(self.instance.provider_type, self._connection_params())
        for name, why in engine_options.new_problems(wrong, before).items():
            if PREFIX + name in self.fields:
                self.add_error(PREFIX + name, why)
            else:
                self.add_error("extra_params" if "extra_params" in self.fields else None, f"{name}: {why}")

    def full_clean(self) -> None:
        super().full_clean()
        if self.errors and self.data.get(self.add_prefix("new_key")) and "new_key" in self.fields:
            self.add_error("new_key", _("Enter the key once more: what was typed is not sent back."))

    def clean_provider_id(self) -> str:
        told = str(self.cleaned_data["provider_id"])
        if "/" in told and told != self.instance.provider_id:
            raise ValidationError(_("A provider's id must not hold a slash: it is one step of a path."))
        return told

    def clean_new_key(self) -> str:
        return _allowed(self.cleaned_data["new_key"])

    def clean_param__base_url(self) -> str:
        value = self.cleaned_data[f"{PREFIX}base_url"]
        if value:
            try:
                check_url(value)
            except AddressRefused as error:
                raise ValidationError(str(error)) from error
        return value

    def save(self, commit: bool = True) -> Provider:
        if any(name.startswith(PREFIX) or name == "extra_params" for name in self.changed_data) or not self.instance.pk:
            self.instance.connection_params = self._connection_params()
        forgotten = set(self.cleaned_data.get("forget_secrets") or ())
        if forgotten:
            stored = self.instance.stored_secrets()
            self.instance.set_stored_secrets({path: stored[path] for path in stored.keys() - forgotten})
        return super().save(commit)

    def _refuse_references(self, cleaned: dict[str, Any]) -> None:
        stored = connection.canonical(self.instance.connection_params or {})
        declared = {PREFIX + parameter.name: {parameter.name} for parameter in self._parameters()}
        for field in self.changed_data:
            extra = cleaned.get(field) or {} if field == "extra_params" else {}
            for name in declared.get(field, extra):
                value = extra[name] if name in extra else cleaned.get(field)
                if why := allowed_references.why_not_parameter(name, value, stored.get(name)):
                    self.add_error(field, why)

    def _take_timeouts_apart(self) -> None:
        stored = self.initial.get("request_settings")
        if not isinstance(stored, dict):
            return
        numbers = {name: stored[name] for name in TIMEOUTS if type(stored.get(name)) in (int, float)}
        for name, value in numbers.items():
            self.initial.setdefault(name, value)
        self.initial["request_settings"] = {name: stored[name] for name in stored if name not in numbers}

    def _parameters(self) -> tuple[Parameter, ...]:
        return self.kind.parameters if self.kind is not None else ()

    def _connection_params(self) -> dict[str, Any]:
        """What differs from the type's defaults, so that a better default of a later release arrives by itself."""
        params = dict(self.cleaned_data.get("extra_params") or {})
        for parameter in self._parameters():
            value = self.cleaned_data.get(PREFIX + parameter.name)
            empty = value in (None, "", {})
            if value == parameter.default or (empty and not isinstance(value, bool) and parameter.default is None):
                continue
            if parameter.sensitive and empty:
                continue
            params[parameter.name] = value
        return params

    def _offer_to_forget(self) -> None:
        field = self.fields.get("forget_secrets")
        if field is None:
            return
        stored = _secrets_shown(self.instance)
        if stored:
            field.choices = stored
        else:
            del self.fields["forget_secrets"]


def form_of(kind: ProviderType | None) -> type[ProviderForm]:
    """The form of a provider of that type."""
    fields = {PREFIX + parameter.name: _field(parameter) for parameter in (kind.parameters if kind else ())}
    return type("TypedProviderForm", (ProviderForm,), {**fields, "kind": kind})


def _allowed(secret: str) -> str:
    if why := allowed_references.why_not(secret):
        raise ValidationError(why)
    return secret


def _secrets_shown(provider: Provider) -> list[tuple[str, str]]:
    """The secrets inside connection_params: their path, and what may be said of each."""
    if provider.pk is None:
        return []
    try:
        stored = provider.stored_secrets()
    except SecretError:
        return []
    return [
        (path, f"{'.'.join(map(str, json.loads(path)))} · {hint(value)} · {keyring.fingerprint(value)}")
        for path, value in stored.items()
    ]


def _field(parameter: Parameter) -> forms.Field:
    common: dict[str, Any] = {"label": parameter.label, "help_text": parameter.help, "required": parameter.required}
    if parameter.sensitive:
        return forms.CharField(**(common | {"required": False}), widget=SecretInput("stored values stay hidden"))
    if parameter.kind == "flag" and parameter.default is None:
        return forms.NullBooleanField(**(common | {"required": False}), widget=YesNoOrUnsaid())
    if parameter.kind == "flag":
        return forms.BooleanField(**(common | {"required": False}), widget=UnfoldBooleanSwitchWidget())
    if parameter.kind == "integer":
        return forms.IntegerField(**common, widget=UnfoldAdminIntegerFieldWidget())
    if parameter.kind == "number":
        return forms.FloatField(**common, widget=UnfoldAdminDecimalFieldWidget())
    if parameter.kind == "choice":
        choices = [("", "—"), *((choice, choice) for choice in parameter.choices)]
        return forms.ChoiceField(**common, choices=choices, widget=UnfoldAdminSelectWidget())
    if parameter.kind == "object":
        return ObjectField(**common)
    placeholder = str(parameter.default) if parameter.default not in (None, "") else ""
    return forms.CharField(**common, widget=UnfoldAdminTextInputWidget(attrs={"placeholder": placeholder}))


class ApiKeyForm(forms.ModelForm):
    """A key of a provider: its secret can be given and replaced, never read."""

    new_secret = forms.CharField(label=_("Secret"), required=False, strip=True, widget=SecretInput())

    expires_at = forms.DateTimeField(required=False, widget=MomentInput())

    class Meta:
        model = ApiKey
        fields = ("name", "environment", "weight", "expires_at", "enabled")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields.get("new_secret")
        if field is not None:
            field.widget.attrs["placeholder"] = "empty keeps it" if self.instance.pk else "the key itself"

    def clean_new_secret(self) -> str:
        value = self.cleaned_data["new_secret"]
        if not value and not self.instance.pk:
            raise ValidationError("A key needs its secret.")
        return _allowed(value)

    def save(self, commit: bool = True) -> ApiKey:
        if self.cleaned_data.get("new_secret"):
            self.instance.secret = self.cleaned_data["new_secret"]
        return super().save(commit)


class ConnectionParameterForm(forms.ModelForm):
    """A named value of one environment; a sensitive one can be replaced, never read."""

    value = forms.CharField(required=False, widget=UnfoldAdminTextInputWidget(attrs={"autocomplete": "off"}))

    class Meta:
        model = ConnectionParameter
        fields = ("param_name", "environment", "is_sensitive")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields.get("value")
        if field is None:
            return
        if self.instance.is_sensitive:
            field.widget = SecretInput("empty keeps it")
        else:
            self.initial["value"] = self.instance.plain_value or ""

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        unsealed = self.initial.get("is_sensitive") and not cleaned.get("is_sensitive")
        if unsealed and not cleaned.get("value"):
            self.add_error("value", "Give the value again: a sensitive one cannot be read back.")
        if {"value", "param_name", "is_sensitive"} & set(self.changed_data):
            told = cleaned.get("param_name", ""), cleaned.get("value") or ""
            if why := allowed_references.why_not_parameter(*told):
                self.add_error("value", why)
        if self.instance.provider_id is not None and not cleaned.get("is_sensitive"):
            named = {cleaned.get("param_name", ""): cleaned.get("value") or ""}
            wrong = engine_options.problems(self.instance.provider.provider_type, named)
            before = self.instance.wrong_options() if self.instance.pk else {}
            for why in engine_options.new_problems(wrong, before).values():
                self.add_error("value", why)
        return cleaned

    def save(self, commit: bool = True) -> ConnectionParameter:
        value, sensitive = self.cleaned_data.get("value") or "", self.cleaned_data["is_sensitive"]
        if value or not self.instance.pk or not sensitive:
            self.instance.set_value(value, is_sensitive=sensitive)
        elif sensitive and self.instance.plain_value is not None:
            self.instance.set_value(self.instance.plain_value, is_sensitive=True)
        return super().save(commit)


class ProviderModelForm(forms.ModelForm):
    """One model; its lists are written with commas."""

    capabilities = WordsField(required=False, help_text=_("Such as chat, tools, vision, json_mode, embedding."))
    tasks = WordsField(required=False)
    parameters = ObjectField(
        help_text=_("Defaults and engine options as a JSON object, such as model_path or upstream_model_id.")
    )

    class Meta:
        model = ProviderModel
        fields = "__all__"  # noqa: DJ007  (the admin's fieldsets choose)

    def clean(self) -> dict[str, Any]:
        if self.instance.managed_by and self.has_changed():
            raise forms.ValidationError(str(OwnedByFile(self.instance.managed_by)))
        return super().clean()
