"""A policy as a form: its document in fields, a row for each target, and the request that is explained beside it.

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
from routing.models import Override, Policy, RoutingSettings
from routing.policy_documents import KINDS, PolicyDocument
from routing.types import RequestFacts

KNOWN_NAMES = "gw-names"
"""The page's list of names that a target may have."""

EMPTY_ROWS = 2
_PLAIN = {"class": "gw-input"}
_BESIDE = _PLAIN | {"form": "gw-policy"}
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
    inner = {name: document.get(name) or {} for name in ("requirements", "retries", "timeouts")}
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
    }


class TargetForm(forms.Form):
    """One row; an empty one is no target."""

    use_required_attribute = False

    order = forms.IntegerField(
        required=False, min_value=0, widget=forms.NumberInput(attrs=_PLAIN | {"aria-label": _("Place")})
    )
    model = forms.CharField(
        required=False,
        max_length=600,
        widget=forms.TextInput(
            attrs=_PLAIN | {"list": KNOWN_NAMES, "aria-label": _("Model or policy"), "autocomplete": "off"}
        ),
    )
    kind = forms.ChoiceField(
        required=False,
        choices=[("", "–"), *((kind, kind) for kind in KINDS)],
        widget=forms.Select(attrs=_PLAIN | {"aria-label": _("Or every policy of a kind")}),
    )
    provider = forms.CharField(
        required=False,
        max_length=255,
        widget=forms.TextInput(
            attrs=_PLAIN | {"list": "gw-providers", "aria-label": _("Only at this provider"), "autocomplete": "off"}
        ),
    )
    weight = forms.IntegerField(
        required=False,
        min_value=0,
        max_value=1_000_000,
        widget=forms.NumberInput(attrs=_PLAIN | {"aria-label": _("Share"), "inputmode": "numeric"}),
    )


class _Targets(forms.BaseFormSet):
    def told(self) -> list[dict[str, Any]]:
        """The targets in their order; a row without a place comes after those that have one."""
        rows = [
            form.cleaned_data
            for form in self.forms
            if not form.cleaned_data.get("DELETE") and (form.cleaned_data.get("model") or form.cleaned_data.get("kind"))
        ]
        rows.sort(key=lambda row: (row["order"] is None, row["order"]))
        return [_target(row) for row in rows]

    def check_shares(self, strategy: str, stored: Sequence[Mapping[str, Any]]) -> bool:
        """Whether the shares add up to 100, which only `weighted` asks for; says so here when they do not.

        Weights of another sum that are stored already stay good as they are.
        """
        told = self.told()
        weights = [target.get("weight") for target in told]
        if strategy != "weighted" or len(told) < 2 or any("kind" in target for target in told):
            return True
        if not any(weights) or _weighed(told) == _weighed(stored):
            return True  # none at all: all are alike, or validation says that nobody has any
        if None in weights:
            self._non_form_errors.append(
                say("Each target needs a share; 0 is for one that is only asked when the others failed.")
            )
            return False
        total = sum(weights)
        if total == WHOLE:
            return True
        self._non_form_errors.append(
            say("The shares add up to %(total)s, not to 100. In the same proportion: %(shares)s.")
            % {"total": total, "shares": ", ".join(map(str, in_hundredths(weights)))}
        )
        return False


WHOLE = 100


def in_hundredths(weights: Sequence[int]) -> list[int]:
    """Whole numbers in the proportion of the weights that add up to 100; the largest remainders are rounded up."""
    total = sum(weights)
    exact = [WHOLE * weight / total for weight in weights]
    found = [int(share) for share in exact]
    ahead = sorted(range(len(exact)), key=lambda place: found[place] - exact[place])
    for place in ahead[: WHOLE - sum(found)]:
        found[place] += 1
    return found


def _weighed(targets: Sequence[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    return [(one.get("model"), one.get("provider"), one.get("kind"), one.get("weight", 1)) for one in targets]


def _target(row: Mapping[str, Any]) -> dict[str, Any]:
    told = {name: row[name] for name in ("model", "kind", "provider") if row[name]}
    return told if row["weight"] is None else told | {"weight": row["weight"]}


_TargetSet = forms.formset_factory(TargetForm, formset=_Targets, extra=EMPTY_ROWS, can_delete=True, max_num=1000)


def targets_of(row: Policy | None, data: Any = None, *, spare: bool = True) -> Any:
    """The rows of a policy's targets, and with `spare` some for more."""
    told = row.document.get("targets", []) if row is not None else []
    initial = [{"weight": 1, **target, "order": place} for place, target in enumerate(told, 1)]
    rows = _TargetSet(data, prefix="targets", initial=initial)
    rows.extra = EMPTY_ROWS if spare else 0
    return rows


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
        label=_("For"), required=False, choices=SPANS, initial="3600", widget=forms.Select(attrs=_PLAIN)
    )

    class Meta:
        model = Override
        fields = ("target", "reason")
        widgets = {
            "target": forms.TextInput(attrs=_PLAIN | {"list": KNOWN_NAMES, "autocomplete": "off"}),
            "reason": forms.TextInput(
                attrs=_PLAIN | {"placeholder": _("kept in the audit log"), "autocomplete": "off"}
            ),
        }
        labels = {"target": _("Model or policy"), "reason": _("Reason")}
        help_texts = {"target": ""}

    def ttl_seconds(self) -> float | None:
        return float(self.cleaned_data["span"]) if self.cleaned_data["span"] else None


class SettingsForm(forms.ModelForm):
    """The routing settings, with a reason."""

    use_required_attribute = False
    unknown_model = _choice(
        _("A model that nobody has"),
        [("refuse", _("is refused (404)")), ("default", _("is served by the default policy, which says so"))],
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
