"""What the page of requests can be searched by. All of it stands in the address, so that a search can be shared."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django import forms

from inference import trace_search
from inference.trace_search import Search

PERIODS = (("", "any time"), ("1", "last hour"), ("6", "last 6 hours"), ("24", "last 24 hours"), ("72", "last 3 days"))
_OUTCOMES = (
    ("", "any outcome"),
    ("answered", "answered"),
    ("failed", "failed"),
    ("rescued", "rescued by another try"),
    ("cut", "broken off"),
)


def _text(label: str, most: int = 255, hint: str = "") -> forms.CharField:
    return forms.CharField(
        label=label,
        max_length=most,
        required=False,
        widget=forms.TextInput(attrs={"class": "gw-input", "placeholder": hint, "spellcheck": "false"}),
    )


def _choice(label: str, choices: Any) -> forms.ChoiceField:
    return forms.ChoiceField(
        label=label, choices=choices, required=False, widget=forms.Select(attrs={"class": "gw-input"})
    )


def _time(label: str) -> forms.DateTimeField:
    widget = forms.DateTimeInput(attrs={"class": "gw-input", "type": "datetime-local"}, format="%Y-%m-%dT%H:%M")
    return forms.DateTimeField(
        label=label, required=False, widget=widget, input_formats=["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d"]
    )


def _number(label: str, field: type[forms.IntegerField] = forms.IntegerField, **bounds: Any) -> forms.IntegerField:
    return field(label=label, required=False, widget=forms.NumberInput(attrs={"class": "gw-input"}), **bounds)


class SearchForm(forms.Form):
    id = _text("Id of the request or its trace", 128, "x-gateway-request-id or x-trace-id")
    hours = _choice("When", PERIODS)
    outcome = _choice("Outcome", _OUTCOMES)
    model = _text("Asked for", hint="model, policy or node")
    served_by = _text("Served by", 512, "provider/model")
    key = _text("Client key", 32, "gw-…")
    session = _text("Session")
    tag = _text("Tag", 64)
    provider = _text("Provider")
    policy = _text("Policy")
    error = _text("Error", 64, "such as upstream_timeout")
    owner = _choice("Whose fault", (("", "anybody's"), *((one, f"the {one}'s") for one in trace_search.OWNERS)))
    status = _number("Status", min_value=100, max_value=599)
    slower_than_ms = _number("Slower than (ms)", forms.FloatField, min_value=0)
    operation = _choice(
        "Operation", (("", "any"), ("chat", "chat"), ("completions", "completions"), ("embeddings", "embeddings"))
    )
    side = _choice(
        "Side of the parallel run",
        (("", "any"), ("gateway", "this gateway"), ("legacy", "the legacy side"), ("shadow", "copies for comparison")),
    )
    team = _number("Team's number", min_value=1, max_value=2**62)
    since = _time("From")
    until = _time("Until")

    def first(self) -> list[forms.BoundField]:
        return [self[name] for name in ("id", "model", "outcome", "hours")]

    def more(self) -> list[forms.BoundField]:
        return [self[name] for name in self.fields if name not in ("id", "model", "outcome", "hours")]

    def more_is_asked(self) -> bool:
        """Some of the further filters is in use, or wrong."""
        return any(self.errors.get(one.name) or self.data.get(one.name) for one in self.more())

    def search(self, now: datetime) -> Search:
        """Of a form that is valid."""
        told = {name: value for name, value in self.cleaned_data.items() if value not in ("", None)}
        hours = told.pop("hours", "")
        if hours and "since" not in told:
            told["since"] = now - timedelta(hours=int(hours))
        return Search(**told)
