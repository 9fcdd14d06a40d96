"""What the page of spend can be narrowed to. All of it stands in the address, so that a view can be shared."""

from __future__ import annotations

from datetime import datetime, time, timedelta
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.http import QueryDict
from django.utils import timezone

from inference import spend_reports
from inference.spend_reports import Question
from routing import visibility
from routing.models import Team

SPANS = {
    "24h": "last 24 hours",
    "7d": "last 7 days",
    "30d": "last 30 days",
    "month": "this month",
    "last_month": "last month",
    "90d": "last 90 days",
    "365d": "last 365 days",
    "custom": "from … until …",
}
USUAL = {"span": "30d", "by": spend_reports.MODEL, "measure": "cost"}
MEASURES = {"cost": "money", "requests": "requests", "tokens": "tokens"}
BY = {
    spend_reports.MODEL: "model",
    spend_reports.PROVIDER: "provider",
    spend_reports.KEY: "client key",
    spend_reports.TEAM: "team",
    spend_reports.POLICY: "policy",
    spend_reports.TAG: "tag",
    spend_reports.OPERATION: "operation",
}
FILTERS = ("key", "team", "model", "provider", "policy", "tag", "operation")
_DAYS = {"24h": 1, "7d": 7, "30d": 30, "90d": 90, "365d": 365}


def _text(label: str, most: int, hint: str = "", options: str = "") -> forms.CharField:
    told = {"class": "gw-input", "placeholder": hint, "spellcheck": "false"} | ({"list": options} if options else {})
    return forms.CharField(label=label, max_length=most, required=False, widget=forms.TextInput(attrs=told))


def _choice(label: str, choices: Any) -> forms.ChoiceField:
    select = forms.Select(attrs={"class": "gw-input"})
    return forms.ChoiceField(label=label, choices=list(choices), required=False, widget=select)


def _day(label: str) -> forms.DateField:
    widget = forms.DateInput(attrs={"class": "gw-input", "type": "date"}, format="%Y-%m-%d")
    return forms.DateField(label=label, required=False, widget=widget, input_formats=["%Y-%m-%d"])


class SpendForm(forms.Form):
    span = _choice("When", SPANS.items())
    since = _day("From")
    until = _day("Until")
    by = _choice("By", BY.items())
    measure = _choice("Drawn", MEASURES.items())
    key = _text("Client key", 32, "gw-…", "gw-keys")
    team = _choice("Team", ())
    model = _text("Model", 512, "provider/model", "gw-models")
    provider = _text("Provider", 255, "", "gw-providers")
    policy = _text("Policy", 255, "", "gw-policies")
    tag = _text("Tag", 64)
    operation = _choice(
        "Operation", [("", "any"), ("chat", "chat"), ("completions", "completions"), ("embeddings", "embeddings")]
    )
    against = _text("Savings against", 600, "each model of the policy", "gw-models")

    def __init__(self, user: Any, told: Any) -> None:
        super().__init__({**USUAL, **{name: value for name, value in told.items() if value}})
        teams = visibility.visible(Team.objects.all(), user, "pk").values_list("pk", "name")
        self.fields["team"].choices = [("", "any"), *((str(pk), name) for pk, name in teams[:500])]  # type: ignore[attr-defined]

    def clean(self) -> dict[str, Any]:
        told = super().clean() or {}
        if told.get("span") == "custom":
            for name in ("since", "until"):
                if not told.get(name) and name not in self.errors:
                    self.add_error(name, "Say which day.")
            if told.get("since") and told.get("until") and told["since"] > told["until"]:
                self.add_error("until", "This is before the first day.")
        return told

    def question(self, now: datetime, *group_by: str) -> Question:
        """Raises `BadReport`."""
        told = self.cleaned_data
        since, until = self._bounds(now)
        filters = {name: told[name] for name in FILTERS if told[name]}
        if "team" in filters:
            filters["team"] = int(filters["team"])
        return Question(since, until, group_by=group_by, time_zone=timezone.get_current_timezone_name(), **filters)

    def first(self) -> list[forms.BoundField]:
        names = ["span", *(["since", "until"] if self["span"].value() == "custom" else []), "by", "measure"]
        return [self[name] for name in names]

    def more(self) -> list[forms.BoundField]:
        return [self[name] for name in (*FILTERS, "against")]

    @property
    def more_is_asked(self) -> bool:
        return any(self[name].value() or self[name].errors for name in (*FILTERS, "against"))

    def _bounds(self, now: datetime) -> tuple[datetime, datetime]:
        told, here = self.cleaned_data, timezone.localtime(now)
        first = here.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        match told["span"]:
            case "custom":
                return _begin(told["since"]), _begin(told["until"] + timedelta(days=1))
            case "month":
                return first, now
            case "last_month":
                return (first - timedelta(days=1)).replace(day=1), first
            case span:
                return now - timedelta(days=_DAYS[span]), now


def _begin(day: Any) -> datetime:
    return timezone.make_aware(datetime.combine(day, time.min))


def cleaned(query: str) -> str:
    """The query with what this form knows and no more. Raises `ValueError` where some of it makes no sense."""
    form = SpendForm(None, QueryDict(query).dict())
    if not form.is_valid():
        raise ValueError("; ".join(f"{name}: {told[0]}" for name, told in form.errors.items()))
    return urlencode({name: form.data[name] for name in form.fields if form.data.get(name)})
