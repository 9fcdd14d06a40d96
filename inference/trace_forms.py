"""What the page of requests can be searched by. All of it stands in the address, so that a search can be shared."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from urllib.parse import urlencode

from django import forms
from django.http import QueryDict
from django.utils.translation import gettext_lazy as _

from inference import trace_search
from inference.trace_search import ALL_SIDES, Search
from providers.capabilities import OPERATION_NEEDS

PERIODS = (
    ("", _("any time")),
    ("1", _("last hour")),
    ("6", _("last 6 hours")),
    ("24", _("last 24 hours")),
    ("72", _("last 3 days")),
)
_OUTCOMES = (
    ("", _("any outcome")),
    ("answered", _("answered")),
    ("failed", _("failed")),
    ("rescued", _("rescued by another try")),
    ("cut", _("broken off")),
)
_OWNERS = {
    "caller": _("the caller's"),
    "policy": _("the policy's"),
    "provider": _("the provider's"),
    "gateway": _("the gateway's"),
}
_SIDES = (
    ("", _("all but probes")),
    ("gateway", _("this gateway")),
    ("legacy", _("the legacy side")),
    ("shadow", _("copies for comparison")),
    ("probe", _("probes")),
    (ALL_SIDES, _("all")),
)
_FORMER = {"good": "answered", "bad": "failed", "retried": "rescued"}
"""Outcomes by the words of addresses that were kept from before."""
_FIRST = ("id", "model", "outcome", "hours")


class Chip(NamedTuple):
    """A filter in use, in words; `without` is the search's query without it."""

    label: str
    value: str
    without: str


def _text(label: Any, most: int = 255, hint: Any = "", **more: str) -> forms.CharField:
    return forms.CharField(
        label=label,
        max_length=most,
        required=False,
        widget=forms.TextInput(attrs={"class": "gw-input", "placeholder": hint, "spellcheck": "false", **more}),
    )


def _choice(label: Any, choices: Any) -> forms.ChoiceField:
    return forms.ChoiceField(
        label=label, choices=choices, required=False, widget=forms.Select(attrs={"class": "gw-input"})
    )


def _time(label: Any) -> forms.DateTimeField:
    widget = forms.DateTimeInput(attrs={"class": "gw-input", "type": "datetime-local"}, format="%Y-%m-%dT%H:%M")
    return forms.DateTimeField(
        label=label, required=False, widget=widget, input_formats=["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d"]
    )


def _number(label: Any, field: type[forms.IntegerField] = forms.IntegerField, **bounds: Any) -> forms.IntegerField:
    return field(label=label, required=False, widget=forms.NumberInput(attrs={"class": "gw-input"}), **bounds)


class SearchForm(forms.Form):
    id = _text(_("Request or trace id"), 128, _("Find by request or trace id"))
    hours = _choice(_("When"), PERIODS)
    outcome = _choice(_("Outcome"), _OUTCOMES)
    model = _text(_("Asked for"), hint=_("model, policy or node"))
    served_by = _text(_("Served by"), 512, "provider/model")
    provider = _text(_("Provider"))
    policy = _text(_("Policy"))
    key = _text(_("Client key"), 32, "gw-…")
    team = _number(_("Team's number"), min_value=1, max_value=2**62)
    tag = _text(_("Tag"), 64)
    session = _text(_("Session"))
    error = _text(_("Error"), 64, "upstream_timeout")
    owner = _choice(_("Whose fault"), (("", _("anybody's")), *((one, _OWNERS[one]) for one in trace_search.OWNERS)))
    status = _number(_("Status"), min_value=100, max_value=599)
    slower_than_ms = _number(_("Slower than (ms)"), forms.FloatField, min_value=0)
    operation = _choice(
        _("Operation"),
        (("", _("any")), *((name, name) for name in OPERATION_NEEDS)),
    )
    side = _choice(_("Side of the parallel run"), _SIDES)
    since = _time(_("From"))
    until = _time(_("Until"))

    def __init__(self, told: Mapping[str, Any]) -> None:
        words = {name: told[name] for name in self.base_fields if told.get(name)}
        if words.get("outcome") in _FORMER:
            words["outcome"] = _FORMER[words["outcome"]]
        super().__init__(words)
        self.words: dict[str, str] = words
        """What was asked for, as the address has it."""

    def first(self) -> list[forms.BoundField]:
        return [self[name] for name in _FIRST]

    def more(self) -> list[forms.BoundField]:
        return [self[name] for name in self.fields if name not in _FIRST]

    def more_is_asked(self) -> int:
        """How many of the further filters are in use, or wrong."""
        return sum(1 for one in self.more() if self.errors.get(one.name) or self.words.get(one.name))

    def more_is_wrong(self) -> bool:
        return any(self.errors.get(one.name) for one in self.more())

    def chips(self) -> list[Chip]:
        found = []
        for name, value in self.words.items():
            shown = dict(getattr(self.fields[name], "choices", ())).get(value, value.replace("T", " "))
            rest = {one: other for one, other in self.words.items() if one != name}
            found.append(Chip(str(self.fields[name].label), str(shown), urlencode(rest)))
        return found

    def search(self, now: datetime) -> Search:
        """Of a form that is valid."""
        told = {name: value for name, value in self.cleaned_data.items() if value not in ("", None)}
        hours = told.pop("hours", "")
        if hours and "since" not in told:
            told["since"] = now - timedelta(hours=int(hours))
        return Search(**told)


def cleaned(query: str) -> str:
    """The query with what this form knows and no more. Raises `ValueError` where some of it makes no sense."""
    form = SearchForm(QueryDict(query).dict())
    if not form.is_valid():
        raise ValueError("; ".join(f"{name}: {told[0]}" for name, told in form.errors.items()))
    return urlencode(form.words)
