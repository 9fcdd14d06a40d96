"""Addresses of the page of usage, and of the requests behind its numbers, that keep what was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from django.urls import reverse

from inference.spend_forms import FILTERS, USUAL, SpendForm
from inference.spend_reports import MODEL, Question

TRACES = "admin:inference_trace_changelist"
_OF_TRACES = {MODEL: "served_by"}
"""Where the search of requests calls a group otherwise."""
_LEADS_TO = {"provider": "model", "policy": "model", "team": "key", "tag": "model", "operation": "model"}
"""By what a group is shown that was chosen."""


class Links:
    def __init__(self, form: SpendForm, question: Question, view: str = "") -> None:
        self.words = dict(form.words)
        self._view = {"view": view} if view else {}
        self._here, self._traces, self._file = reverse("admin:spend"), reverse(TRACES), reverse("admin:spend-file")
        self._filters = {name: value for name in FILTERS if (value := self.words.get(name))}
        self._zone = ZoneInfo(question.time_zone)
        self._span = (question.start, question.end)

    def here(self, **changed: str) -> str:
        """This page with some words changed; an empty one is taken away."""
        words = {name: value for name, value in {**self.words, **changed}.items() if value}
        words = {name: value for name, value in words.items() if USUAL.get(name) != value}
        return f"{self._here}?{urlencode({**words, **(self._view or {'view': 'all'})})}"

    def narrower(self, by: Mapping[str, Any]) -> str:
        """The page about these groups alone."""
        changed = {name: str(value) for name, value in by.items()}
        last = list(by)[-1]
        return self.here(**changed, by=_LEADS_TO.get(last, self.words.get("by", USUAL["by"])), then="", sort="")

    def file(self, kind: str) -> str:
        return f"{self._file}?{urlencode({**self.words, 'as': kind})}"

    def traces(
        self, narrowed: Mapping[str, Any] | None = None, since: datetime | None = None, until: datetime | None = None
    ) -> str:
        """The requests behind a number, as far as they are still kept."""
        told = {**self._filters, **(narrowed or {})}
        words = {_OF_TRACES.get(name, name): value for name, value in told.items()}
        words["side"] = "gateway"
        words["since"], words["until"] = self._moment(since or self._span[0]), self._moment(until or self._span[1])
        return f"{self._traces}?{urlencode(words)}"

    def _moment(self, at: datetime) -> str:
        return f"{at.astimezone(self._zone):%Y-%m-%dT%H:%M}"
