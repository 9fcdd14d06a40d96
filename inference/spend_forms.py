"""What the page of usage can be asked: one state, all of it in the address, so that a view can be shared and kept."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, time, timedelta
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.http import QueryDict
from django.utils import timezone
from django.utils.translation import gettext as _now
from django.utils.translation import gettext_lazy as _

from inference import spend_reports
from inference.spend_reports import DAY, HOUR, MONTH, WEEK, BadReport, Question
from inference.trace_forms import Chip
from inference.usage_measures import MEASURES, Measure
from providers.capabilities import OPERATION_NEEDS
from routing import visibility
from routing.models import Team

SPANS = {
    "24h": _("last 24 hours"),
    "7d": _("last 7 days"),
    "30d": _("last 30 days"),
    "month": _("this month"),
    "last_month": _("last month"),
    "90d": _("last 90 days"),
    "365d": _("last 365 days"),
    "custom": _("from … until …"),
}
USUAL = {"span": "30d", "by": spend_reports.MODEL, "measure": "cost"}
BY = {
    spend_reports.MODEL: _("model"),
    spend_reports.PROVIDER: _("provider"),
    spend_reports.KEY: _("client key"),
    spend_reports.TEAM: _("team"),
    spend_reports.POLICY: _("policy"),
    spend_reports.TAG: _("tag"),
    spend_reports.OPERATION: _("operation"),
}
STEPS = {"": _("as it fits"), HOUR: _("hour"), DAY: _("day"), WEEK: _("week"), MONTH: _("month")}
FILTERS = ("key", "team", "model", "provider", "policy", "tag", "operation")
LONGEST_BY_HOUR = timedelta(days=14)
"""More hours than that cannot be told apart in a chart."""
_DAYS = {"24h": 1, "7d": 7, "30d": 30, "90d": 90, "365d": 365}


def _text(label: Any, most: int, hint: Any = "", options: str = "") -> forms.CharField:
    told = {"class": "gw-input", "placeholder": hint, "spellcheck": "false"} | ({"list": options} if options else {})
    return forms.CharField(label=label, max_length=most, required=False, widget=forms.TextInput(attrs=told))


def _choice(label: Any, choices: Any) -> forms.ChoiceField:
    select = forms.Select(attrs={"class": "gw-input"})
    return forms.ChoiceField(label=label, choices=list(choices), required=False, widget=select)


def _day(label: Any) -> forms.DateField:
    widget = forms.DateInput(attrs={"class": "gw-input", "type": "date"}, format="%Y-%m-%d")
    return forms.DateField(label=label, required=False, widget=widget, input_formats=["%Y-%m-%d"])


class SpendForm(forms.Form):
    measure = _choice(_("Measure"), [(name, one.label) for name, one in MEASURES.items()])
    by = _choice(_("By"), BY.items())
    then = _choice(_("And by"), [("", _("nothing else")), *BY.items()])
    span = _choice(_("When"), SPANS.items())
    since = _day(_("From"))
    until = _day(_("Until"))
    step = _choice(_("Step"), STEPS.items())
    cumulative = forms.BooleanField(label=_("Cumulative"), required=False)
    key = _text(_("Client key"), 32, "gw-…", "gw-keys")
    team = _choice(_("Team"), ())
    model = _text(_("Model"), 512, "provider/model", "gw-models")
    provider = _text(_("Provider"), 255, "", "gw-providers")
    policy = _text(_("Policy"), 255, "", "gw-policies")
    tag = _text(_("Tag"), 64)
    operation = _choice(
        _("Operation"),
        [("", _("any")), *((name, name) for name in OPERATION_NEEDS)],
    )
    savings = forms.BooleanField(label=_("What routing saved"), required=False, widget=forms.HiddenInput())
    against = _text(_("Savings against"), 600, _("each model of the policy"), "gw-models")
    sort = forms.RegexField("^-?[a-z_0-9]{1,16}$", required=False, widget=forms.HiddenInput())

    def __init__(self, user: Any, told: Mapping[str, Any]) -> None:
        """For the eyes of `user`; None takes any team that there is."""
        words = {name: told[name] for name in self.base_fields if told.get(name)}
        super().__init__({**USUAL, **words})
        self.words: dict[str, str] = {name: value for name, value in words.items() if USUAL.get(name) != value}
        """What was asked for beside the usual, as the address has it."""
        teams = Team.objects.all() if user is None else visibility.visible(Team.objects.all(), user, "pk")
        names = [(str(pk), name) for pk, name in teams.values_list("pk", "name")[:500]]
        self.fields["team"].choices = [("", _("any")), *names]  # type: ignore[attr-defined]

    def clean(self) -> dict[str, Any]:
        told = super().clean() or {}
        if told.get("span") == "custom":
            for name in ("since", "until"):
                if not told.get(name) and name not in self.errors:
                    self.add_error(name, _now("Say which day."))
            if told.get("since") and told.get("until") and told["since"] > told["until"]:
                self.add_error("until", _now("This is before the first day."))
        if told.get("then") and told.get("then") == told.get("by"):
            told["then"] = ""
        if told.get("step") == HOUR and not self.errors:
            since, until = self._bounds(timezone.now())
            if until - since > LONGEST_BY_HOUR:
                self.add_error("step", _now("Hours are drawn for 14 days at most: choose days or weeks."))
        return told

    @property
    def groups(self) -> tuple[str, ...]:
        told = self.cleaned_data
        return (told["by"], told["then"]) if told["then"] else (told["by"],)

    @property
    def told_measure(self) -> Measure:
        return MEASURES[self.cleaned_data["measure"]]

    def question(self, now: datetime, *group_by: str) -> Question:
        """Raises `BadReport`."""
        since, until = self._bounds(now)
        return self._asked(since, until, group_by)

    def before(self, question: Question, *group_by: str) -> Question | None:
        """The same of the span before, as long as this one; None where there is none to be told."""
        try:
            return self._asked(question.start - (question.end - question.start), question.start, group_by)
        except (BadReport, OverflowError):
            return None

    def step_of(self, question: Question) -> str:
        span = question.end - question.start
        fitting = HOUR if span <= timedelta(hours=50) else DAY if span <= timedelta(days=100) else MONTH
        return self.cleaned_data["step"] or fitting

    def first(self) -> list[forms.BoundField]:
        days = ["since", "until"] if self["span"].value() == "custom" else []
        return [self[name] for name in ("measure", "by", "then", "span", *days, "step")]

    def more(self) -> list[forms.BoundField]:
        savings = ["against"] if self.words.get("savings") or self.words.get("against") else []
        return [self[name] for name in (*FILTERS, *savings)]

    @property
    def more_is_wrong(self) -> bool:
        return any(self[name].errors for name in FILTERS)

    @property
    def more_is_asked(self) -> int:
        return sum(1 for name in FILTERS if self.words.get(name))

    def chips(self) -> list[Chip]:
        """The filters in use; what is drawn and how is no filter."""
        found = []
        for name in FILTERS:
            if value := self.words.get(name):
                shown = dict(getattr(self.fields[name], "choices", ())).get(value, value)
                rest = {one: other for one, other in self.words.items() if one != name}
                found.append(Chip(str(self.fields[name].label), str(shown), urlencode(rest)))
        return found

    def _asked(self, since: datetime, until: datetime, group_by: tuple[str, ...]) -> Question:
        told = self.cleaned_data
        filters = {name: told[name] for name in FILTERS if told[name]}
        if "team" in filters:
            filters["team"] = int(filters["team"])
        return Question(since, until, group_by=group_by, time_zone=timezone.get_current_timezone_name(), **filters)

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


def cleaned(query: str) -> str:
    """The query with what this form knows and no more. Raises `ValueError` where some of it makes no sense."""
    form = SpendForm(None, QueryDict(query).dict())
    if not form.is_valid():
        raise ValueError("; ".join(f"{name}: {told[0]}" for name, told in form.errors.items()))
    return urlencode(form.words)


def _begin(day: Any) -> datetime:
    return timezone.make_aware(datetime.combine(day, time.min))
