"""A policy as a form: its document in fields, the request that is explained beside it, and what may stand over it.

The form builds the document; whether it reads is `policy_documents`' to say, and what it says is shown at the field.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django import forms
from django.utils.translation import gettext as say
from django.utils.translation import gettext_lazy as _
from unfold.widgets import (
    UnfoldAdminDecimalFieldWidget,
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from providers.capabilities import TASKS
from providers.cost_tiers import COST_TIERS
from providers.forms import WordsField
from providers.models import validate_identifier
from routing import strategies
from routing.models import Override, Policy
from routing.policy_documents import KINDS, LONGEST_CACHED_SECONDS, PolicyDocument
from routing.target_forms import KNOWN_NAMES, PLAIN
from routing.types import RequestFacts

_BESIDE = PLAIN | {"form": "gw-policy"}
"""A field that stands outside of the form it belongs to."""


class NamesField(forms.CharField):
    """A list of names, one a line, in their order."""

    widget = UnfoldAdminTextareaWidget(attrs={"rows": 3, "class": "gw-code", "spellcheck": "false"})

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(map(str, value)) if isinstance(value, list | tuple) else value

    def to_python(self, value: Any) -> list[str]:  # type: ignore[override]
        lines = value if isinstance(value, list) else str(value or "").splitlines()
        return [line.strip() for line in lines if line.strip()]


def _words(label: str, help_text: str = "") -> WordsField:
    return WordsField(label=label, required=False, help_text=help_text)


def _whole(label: str, most: int, help_text: str = "", least: int = 0) -> forms.IntegerField:
    return forms.IntegerField(
        label=label,
        required=False,
        min_value=least,
        max_value=most,
        help_text=help_text,
        widget=UnfoldAdminIntegerFieldWidget,
    )


def _number(label: str, help_text: str = "", least: float = 0.001, most: float = 86_400.0) -> forms.FloatField:
    return forms.FloatField(
        label=label,
        required=False,
        min_value=least,
        max_value=most,
        help_text=help_text,
        widget=UnfoldAdminDecimalFieldWidget(attrs={"step": "any"}),
    )


def _flag(label: str, help_text: str = "") -> forms.BooleanField:
    return forms.BooleanField(label=label, required=False, help_text=help_text, widget=UnfoldBooleanSwitchWidget)


def _choice(label: str, choices: Sequence[tuple[str, str]], help_text: str = "") -> forms.ChoiceField:
    return forms.ChoiceField(
        label=label, required=False, choices=choices, help_text=help_text, widget=UnfoldAdminSelectWidget
    )


@dataclass(frozen=True, slots=True)
class Card:
    """A part of the form; `said` is what of it is not as usual, in words."""

    title: Any
    fields: list[forms.BoundField]
    said: list[str]
    is_open: bool


_USUALLY_ON = frozenset({"enabled", "overridable"})


def _shown(value: Any) -> str:
    if isinstance(value, bool) or value == "on":
        return say("yes") if value else say("no")
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value).replace("\r\n", ", ")


class PolicyForm(forms.Form):
    """`groups` are the cards of the page."""

    use_required_attribute = False

    name = forms.CharField(
        label=_("Name"),
        max_length=255,
        validators=[validate_identifier],
        widget=UnfoldAdminTextInputWidget(attrs={"autocomplete": "off", "placeholder": _("writer")}),
        help_text=_("What clients send as model. It stays as it is once given."),
    )
    kind = _choice(
        _("Kind"), [(kind, kind) for kind in KINDS], _("A word for lists; policies of all kinds work alike.")
    )
    description = forms.CharField(
        label=_("Description"), required=False, widget=UnfoldAdminTextareaWidget(attrs={"rows": 2})
    )
    enabled = _flag(_("Enabled"), _("Off: clients are told that there is no such model."))
    strategy = _choice(_("Strategy"), [])
    capabilities = _words(_("Capabilities"), _("With commas, such as tools, json_mode. A model must have all of them."))
    preferred_capabilities = _words(
        _("Preferred capabilities"), _("Of models that fit, one with more of these is better.")
    )
    min_context_window = _whole(_("Context of at least"), 1_000_000_000, _("Tokens."))
    max_cost_tier = _choice(_("Cost tier of at most"), [("", _("any")), *((tier, tier) for tier in COST_TIERS)])
    task = _choice(_("Task"), [("", _("any")), *((task, task) for task in TASKS)])
    data_tags = _words(_("Data tags"), _("Only providers that may get data of all these kinds."))
    reasoning = _flag(_("A reasoning model"))
    vision = _flag(_("It can see pictures"))
    local_only = _flag(_("Local providers only"), _("Nothing leaves this installation."))
    fallbacks = NamesField(
        label=_("Fallbacks"),
        required=False,
        help_text=_("Models or policies, one a line, asked in this order when no target answered."),
    )
    attempts = _whole(_("Retries"), 10, _("Of a candidate that failed quickly. Empty: as the routing settings say."))
    delay_seconds = _number(_("Pause before a retry"), _("Seconds."))
    backoff = _number(_("Backoff"), _("Each pause is so many times longer than the one before."), 1.0, 10.0)
    attempt_seconds = _number(_("Timeout of an attempt"), _("Seconds until it answers."))
    total_seconds = _number(_("Timeout in all"), _("Seconds for all attempts together."))
    max_cost = forms.DecimalField(
        label=_("Cost of at most"),
        required=False,
        min_value=Decimal(0),
        max_value=Decimal(1_000_000),
        help_text=_("USD that the estimate of a request may reach."),
        widget=UnfoldAdminDecimalFieldWidget(attrs={"step": "any"}),
    )
    overridable = _flag(_("May be overridden"))
    captures_content = _flag(
        _("Keep prompts and answers"),
        _("With the traces, for hours: without secrets, encrypted, and of the share of requests that is sampled."),
    )
    ttl_seconds = _whole(
        _("Answers are given again for"),
        LONGEST_CACHED_SECONDS,
        _(
            "Seconds; empty: never. To a request that is exactly the same, from Redis, without asking or paying anybody."
        ),
    )
    scope = _choice(
        _("Again to"),
        [("", _("the same client key")), ("team", _("keys of the same team")), ("everyone", _("everyone"))],
        _("Whoever may use the policy and asks the same."),
    )
    mixed_embeddings = _flag(
        _("Mixed embeddings"),
        _("Embeddings may fall back to another model of the same dimension. Their vectors do not compare."),
    )
    note = forms.CharField(
        label=_("Note"),
        required=False,
        max_length=500,
        help_text=_("Why; kept with the version and in the audit log."),
        widget=UnfoldAdminTextInputWidget(
            attrs={"placeholder": _("Why, such as: two is quicker"), "autocomplete": "off"}
        ),
    )
    was = forms.IntegerField(required=False, widget=forms.HiddenInput)

    groups = (
        (_("What it is"), ("name", "kind", "enabled", "description")),
        (
            _("What a model must be"),
            (
                "capabilities",
                "preferred_capabilities",
                "min_context_window",
                "max_cost_tier",
                "task",
                "data_tags",
                "reasoning",
                "vision",
                "local_only",
            ),
        ),
        (
            _("When it fails"),
            (
                "fallbacks",
                "attempts",
                "delay_seconds",
                "backoff",
                "attempt_seconds",
                "total_seconds",
                "mixed_embeddings",
            ),
        ),
        (_("Cached answers"), ("ttl_seconds", "scope")),
        (_("Limits"), ("max_cost", "overridable", "captures_content")),
    )

    def __init__(self, row: Policy | None, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("initial", _initial(row) if row is not None else {"enabled": True, "overridable": True})
        super().__init__(*args, **kwargs)
        self.fields["strategy"].choices = [  # type: ignore[attr-defined]
            (name, strategy.label) for name, strategy in strategies.registered().items()
        ]
        if row is not None:
            self.fields["name"].disabled = True
            self.fields["name"].initial = row.name

    def cards(self) -> list[Card]:
        return [self._card(title, names) for title, names in self.groups]

    def _card(self, title: Any, names: Sequence[str]) -> Card:
        fields = [self[name] for name in names]
        said = [f"{field.label}: {_shown(value)}" for field in fields if (value := self._told(field)) is not None]
        return Card(title, fields, said, bool(said) or any(field.errors for field in fields))

    def _told(self, field: forms.BoundField) -> Any:
        """What a field says that is not as usual; None when it is."""
        value = field.value()
        usual = field.name in _USUALLY_ON
        if isinstance(field.field, forms.BooleanField):
            return None if bool(value) is usual else value
        return None if value in (None, "", []) else value

    def row_values(self) -> dict[str, Any]:
        values = {name: self.cleaned_data[name] for name in ("name", "description", "enabled")}
        return values | {"kind": self.cleaned_data["kind"] or KINDS[0]}

    def document(self, targets: list[dict[str, Any]]) -> dict[str, Any]:
        """What the fields say, to be read. Empty ones say nothing."""
        told = self.cleaned_data
        document = {name: told[name] for name in _SAID}
        document["requirements"] = {name: told[name] for name in _REQUIREMENTS if told[name]}
        document["retries"] = _said(told, ("attempts", "delay_seconds", "backoff"))
        document["timeouts"] = _said(told, ("attempt_seconds", "total_seconds"))
        document["cache"] = {name: told[name] for name in ("ttl_seconds", "scope") if told[name]}
        return document | {"targets": targets, "max_cost": told["max_cost"]}

    def take(self, place: str, sentence: str) -> None:
        """Show what does not read, at its field where it has one."""
        name = place.partition("[")[0].rpartition(".")[2]
        if name in self.fields:
            self.add_error(name, sentence)
        else:
            self.add_error(None, f"{place}: {sentence}" if place else sentence)


_SAID = ("strategy", "fallbacks", "overridable", "mixed_embeddings", "captures_content")
_REQUIREMENTS = (*PolicyForm.groups[1][1],)


def _said(told: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: told[name] for name in names if told[name] is not None}


def _initial(row: Policy) -> dict[str, Any]:
    document = row.document
    inner = {name: document.get(name) or {} for name in ("requirements", "retries", "timeouts", "cache")}
    return {
        "name": row.name,
        "kind": row.kind,
        "description": row.description,
        "enabled": row.enabled,
        "strategy": document.get("strategy", PolicyDocument().strategy),
        "fallbacks": document.get("fallbacks", []),
        "max_cost": document.get("max_cost"),
        "overridable": document.get("overridable", True),
        "mixed_embeddings": document.get("mixed_embeddings", False),
        "captures_content": document.get("captures_content", False),
        "was": row.version,
        **inner["requirements"],
        **inner["retries"],
        **inner["timeouts"],
        **inner["cache"],
    }


class SampleForm(forms.Form):
    """The request that is explained beside the policy."""

    use_required_attribute = False

    tokens = forms.IntegerField(
        label=_("Prompt, tokens"), required=False, min_value=0, initial=1000, widget=forms.NumberInput(attrs=_BESIDE)
    )
    answer = forms.IntegerField(
        label=_("Answer, tokens"), required=False, min_value=0, initial=500, widget=forms.NumberInput(attrs=_BESIDE)
    )
    images = forms.IntegerField(
        label=_("Pictures"), required=False, min_value=0, initial=0, widget=forms.NumberInput(attrs=_BESIDE)
    )
    operation = forms.ChoiceField(
        label=_("Operation"),
        required=False,
        choices=[(name, name) for name in ("chat", "completions", "embeddings")],
        widget=forms.Select(attrs=_BESIDE),
    )

    def facts(self, name: str) -> RequestFacts:
        told = self.cleaned_data if self.is_bound and self.is_valid() else {}
        return RequestFacts(
            model=name,
            operation=told.get("operation") or "chat",
            input_tokens=self._number(told, "tokens"),
            max_output_tokens=self._number(told, "answer"),
            images=self._number(told, "images"),
        )

    def _number(self, told: Mapping[str, Any], name: str) -> int:
        value = told.get(name)
        return self.fields[name].initial if value is None else value


SPANS = (
    ("900", _("15 minutes")),
    ("3600", _("1 hour")),
    ("28800", _("8 hours")),
    ("86400", _("1 day")),
    ("", _("until removed")),
)


class OverrideForm(forms.ModelForm):
    """Something serves first, for a while."""

    use_required_attribute = False
    span = forms.ChoiceField(
        label=_("For"), required=False, choices=SPANS, initial="3600", widget=forms.Select(attrs=PLAIN)
    )

    class Meta:
        model = Override
        fields = ("target", "reason")
        widgets = {
            "target": forms.TextInput(attrs=PLAIN | {"list": KNOWN_NAMES, "autocomplete": "off"}),
            "reason": forms.TextInput(attrs=PLAIN | {"placeholder": _("kept in the audit log"), "autocomplete": "off"}),
        }
        labels = {"target": _("Model or policy"), "reason": _("Reason")}
        help_texts = {"target": ""}

    def ttl_seconds(self) -> float | None:
        return float(self.cleaned_data["span"]) if self.cleaned_data["span"] else None
