"""The form of the page that explains a route: one text for the prompt or a whole request, and the wishes beside it."""

from __future__ import annotations

import json
from typing import Any

from django import forms
from django.utils.translation import gettext as say
from django.utils.translation import gettext_lazy as _
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from inference.wire.openai import CHAT, EVERY
from providers.capabilities import OPERATION_NEEDS, TASKS
from routing import strategies
from routing.models import ClientKey
from routing.visibility import visible

SEES_KEYS = "routing.view_clientkey"
KEYS_OFFERED = 500
_LONGEST = 2_000_000


def _text(label: Any, help_text: Any = "", **attrs: Any) -> forms.CharField:
    widget = UnfoldAdminTextInputWidget(attrs={"autocomplete": "off", **attrs})
    return forms.CharField(label=label, required=False, max_length=600, help_text=help_text, widget=widget)


class ExplainForm(forms.Form):
    """`body()` is what `POST /api/v1/route` would be sent."""

    name = _text(_("Model or policy"), _("Empty lets the gateway choose."), list="gw-names", placeholder=_("any model"))
    said = forms.CharField(
        label=_("Prompt, or a whole request as JSON"),
        required=False,
        max_length=_LONGEST,
        strip=False,
        widget=UnfoldAdminTextareaWidget(
            attrs={"rows": 5, "class": "gw-code", "spellcheck": "false", "placeholder": 'Hello, or {"messages": …}'}
        ),
        help_text=_("It is not stored, and goes to nobody."),
    )
    operation = forms.ChoiceField(
        label=_("Endpoint"),
        required=False,
        choices=[
            ("", _("as the request says")),
            *((name, name) for name in OPERATION_NEEDS),
        ],
        widget=UnfoldAdminSelectWidget,
    )
    task = forms.ChoiceField(
        label=_("Task"),
        required=False,
        choices=[("", _("none")), *((task, task) for task in TASKS)],
        widget=UnfoldAdminSelectWidget,
    )
    client_key = forms.ChoiceField(
        label=_("As this client key"),
        required=False,
        widget=UnfoldAdminSelectWidget,
        help_text=_("Decides what is allowed."),
    )
    strategy = forms.ChoiceField(label=_("Strategy"), required=False, widget=UnfoldAdminSelectWidget)
    preferred_model = _text(_("Preferred model"), list="gw-names")
    max_cost = _text(_("Most it may cost, USD"), inputmode="decimal", placeholder=_("no limit"))
    context_size = forms.IntegerField(
        label=_("Tokens of the prompt"),
        required=False,
        min_value=0,
        help_text=_("When it is not given above."),
        widget=UnfoldAdminIntegerFieldWidget,
    )
    max_tokens = forms.IntegerField(
        label=_("Most tokens of the answer"), required=False, min_value=1, widget=UnfoldAdminIntegerFieldWidget
    )
    session_id = _text(_("Session"), _("Decides the bucket and sticky sessions."))
    data_tags = _text(_("Data tags"), _("With commas, such as: pii, health."))
    require_vision = forms.BooleanField(label=_("Must see pictures"), required=False, widget=UnfoldBooleanSwitchWidget)
    local_only = forms.BooleanField(label=_("Only local providers"), required=False, widget=UnfoldBooleanSwitchWidget)
    wanted = forms.CharField(required=False, max_length=600, widget=forms.HiddenInput)

    beside = ("operation", "task", "client_key", "strategy", "preferred_model", "max_cost")
    beside += ("context_size", "max_tokens", "session_id", "data_tags", "require_vision", "local_only")
    """The wishes that are folded away while none is made."""

    def __init__(self, user: Any, data: Any = None) -> None:
        """The keys offered are those that the user may see."""
        super().__init__(data)
        labels = [(name, strategy.label) for name, strategy in strategies.registered().items()]
        self.fields["strategy"].choices = [("", _("the policy's own")), *labels]  # type: ignore[attr-defined]
        keys = visible(ClientKey.objects.all(), user) if user.has_perm(SEES_KEYS) else ClientKey.objects.none()
        named = keys.order_by("name").values_list("prefix", "name")[:KEYS_OFFERED]
        offered = [(prefix, f"{name} ({prefix})") for prefix, name in named]
        self.fields["client_key"].choices = [("", _("nobody: everything is allowed")), *offered]  # type: ignore[attr-defined]

    def clean_said(self) -> str | dict[str, Any]:
        said: str = self.cleaned_data["said"]
        if not said.lstrip().startswith("{"):
            return said
        try:
            request = json.loads(said)
        except ValueError as error:
            raise forms.ValidationError(say("This begins like JSON and is none: %s.") % error) from None
        return dict(request)

    def wishes(self) -> list[Any]:
        return [self[name] for name in self.beside]

    def any_wish(self) -> bool:
        return any(self[name].value() for name in self.beside) or any(self[name].errors for name in self.beside)

    def body(self) -> dict[str, Any]:
        told = self.cleaned_data
        said = told["said"]
        body: dict[str, Any] = dict(said) if isinstance(said, dict) else {}
        if isinstance(said, str) and said:
            body |= _prompt(told["operation"] or CHAT.name, said)
        if told["name"]:
            body["model"] = told["name"]
        for name in (
            "operation",
            "task",
            "client_key",
            "strategy",
            "preferred_model",
            "max_cost",
            "session_id",
            "wanted",
        ):
            if told[name]:
                body[name] = told[name]
        for name in ("context_size", "max_tokens"):
            if told[name] is not None:
                body[name] = told[name]
        for name in ("require_vision", "local_only"):
            if told[name]:
                body[name] = True
        if tags := [tag.strip() for tag in told["data_tags"].split(",") if tag.strip()]:
            body["data_tags"] = tags
        return body


def _prompt(operation: str, said: str) -> dict[str, Any]:
    """What was typed as the member that the operation reads."""
    if operation == CHAT.name:
        return {CHAT.subject: [{"role": "user", "content": said}]}
    asked = EVERY[operation]
    return {asked.subject: [said] if "string" not in asked.kinds else said}
