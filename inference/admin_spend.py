"""Spend in the admin: over time, by whom and on what, and what routing saved. Each user sees the spend of the user's teams.

What is asked for stands in the address, every group leads deeper, and every count leads to the requests behind it.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from inference import report_files, savings_reports, spend_chart, spend_reports
from inference.spend_forms import BY, FILTERS, MEASURES, USUAL, SpendForm
from inference.spend_reports import DAY, HOUR, MODEL, MONTH, TAG, BadReport, Line, Question, Report, Sight
from providers import cells, pages
from routing import snapshot, visibility
from routing.models import ClientKey
from routing.types import Snapshot

MAY_SEE = "inference.view_usagerecord"
MAY_SEE_PRICES = "providers.view_providermodel"
TRACES = "admin:inference_trace_changelist"
CURRENCY = "USD"
MOST_SHOWN = 100
_MOST_DRAWN = 100_000
_OF_TRACES = {MODEL: "served_by"}
"""Where the search of requests calls a group otherwise."""
_LEADS_TO = {"provider": "model", "policy": "model", "team": "key", "tag": "model", "operation": "model"}
"""By what a group is shown that was chosen."""


@dataclass(frozen=True, slots=True)
class Row:
    """One group; links are empty where a group has no name to be searched by."""

    name: str
    hint: str
    narrower: str
    requests: Any
    failed: Any
    input: Any
    output: Any
    cost: Any
    corrected: Any
    share: float
    traces: str
    failures: str
    colour: int | None


@dataclass(frozen=True, slots=True)
class Step:
    """One bar and its line of the table."""

    column: spend_chart.Column
    label: str
    total: str
    amounts: tuple[str, ...]
    traces: str


@never_cache
@require_safe
def spend_view(request: HttpRequest) -> HttpResponse:
    sight = _sight(request)
    form, now = SpendForm(request.user, request.GET), timezone.now()
    held = snapshot.refresh()
    context: dict[str, Any] = {"title": "Spend", "form": form, "words": _words(request), **_names(held, request.user)}
    if form.is_valid():
        try:
            context |= _told(form, sight, now)
            if request.user.has_perm(MAY_SEE_PRICES):
                context["savings"] = _savings(form, form.question(now), sight, held)
        except BadReport as error:
            context["problem"] = str(error)
    request.current_app = admin.site.name  # type: ignore[attr-defined]
    return TemplateResponse(request, "admin/spend/page.html", {**admin.site.each_context(request), **context})


@never_cache
@require_safe
def file_view(request: HttpRequest) -> HttpResponse | StreamingHttpResponse:
    """What the page shows, whole, as CSV or JSON."""
    sight = _sight(request)
    form = SpendForm(request.user, request.GET)
    if not form.is_valid():
        return JsonResponse({"errors": form.errors}, status=400)
    try:
        step = _step(form.question(timezone.now()))
        question = form.question(timezone.now(), form.cleaned_data["by"], step)
    except BadReport as error:
        return JsonResponse({"errors": {error.field: [str(error)]}}, status=400)
    found = spend_reports.report(question, sight, most=_MOST_DRAWN)
    if request.GET.get("as") == "json":
        return JsonResponse(report_files.spend_document(found), json_dumps_params={"indent": 2})
    answer = StreamingHttpResponse(report_files.csv_lines(found), content_type="text/csv; charset=utf-8")
    answer["Content-Disposition"] = 'attachment; filename="spend.csv"'
    return answer


def _sight(request: HttpRequest) -> Sight:
    if not request.user.has_perm(MAY_SEE):
        raise PermissionDenied
    return Sight(teams=visibility.teams_of(request.user))


def _told(form: SpendForm, sight: Sight, now: datetime) -> dict[str, Any]:
    by, measure = form.cleaned_data["by"], form.cleaned_data["measure"]
    question = form.question(now, by)
    over_time = spend_reports.report(form.question(now, by, _step(question)), sight, most=_MOST_DRAWN)
    # Where even that is not all, the chart lacks its end, and the sums are asked for by themselves.
    found = spend_reports.report(question, sight) if over_time.cut else spend_reports.narrower(over_time, by)
    links = _Links(form, question)
    groups = [line for line in found.lines if line.currency == _main(found.totals)]
    largest = [line.names[by] for line in sorted(groups, key=lambda line: _amount(line, measure), reverse=True)]
    steps, chart = _steps(over_time, by, measure, largest, links)
    return {
        "by": BY[by],
        "is_by_tag": by == TAG,
        "is_corrected": any(line.correction for line in found.totals),
        "measure": MEASURES[measure],
        "totals": found.totals,
        "kpis": _kpis(found.totals, links),
        "rows": [_row(line, by, found.totals, largest, links) for line in found.lines[:MOST_SHOWN]],
        "cut": found.cut or len(found.lines) > MOST_SHOWN,
        "steps": steps,
        "chart": chart,
        "legend": list(enumerate(_unnamed(name) for name in chart.names)),
        "most": _amount_text(chart.most, measure, _main(found.totals)),
        "begins": question.start,
        "ends": question.end,
        "csv": f"{reverse('admin:spend-file')}?{urlencode({**links.words, 'as': 'csv'})}",
        "json": f"{reverse('admin:spend-file')}?{urlencode({**links.words, 'as': 'json'})}",
        "twins": _twins(question, by),
    }


def _main(totals: Sequence[Line]) -> str:
    """The currency that is drawn: the usual one, where anything was spent in it."""
    currencies = [line.currency for line in totals]
    return CURRENCY if CURRENCY in currencies or not currencies else currencies[0]


# --- Links ----------------------------------------------------------------------------------------------------------------------


class _Links:
    """Addresses that keep what was asked for."""

    def __init__(self, form: SpendForm, question: Question) -> None:
        self.words = {name: str(form[name].value()) for name in form.fields if form[name].value()}
        self.words = {name: value for name, value in self.words.items() if USUAL.get(name) != value}
        self._here, self._traces = reverse("admin:spend"), reverse(TRACES)
        self._filters = {name: value for name in FILTERS if (value := self.words.get(name))}
        self._zone = ZoneInfo(question.time_zone)
        self._span = (question.start, question.end)

    def narrower(self, by: str, value: Any) -> str:
        words = self.words | {by: str(value)}
        if by in _LEADS_TO:
            words["by"] = _LEADS_TO[by]
        return f"{self._here}?{urlencode(words)}"

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


# --- Figures --------------------------------------------------------------------------------------------------------------------


def _kpis(totals: Sequence[Line], links: _Links) -> list[tuple[str, Any, str, str]]:
    """Label, value, hint and where it leads to."""
    requests, failed = (sum(getattr(line, name) for line in totals) for name in ("requests", "failed"))
    unpriced, estimated = (sum(getattr(line, name) for line in totals) for name in ("unpriced", "estimated"))
    spend = [
        (
            "Spend",
            cells.money(line.cost, line.currency),
            f"{_plain(line.corrected_cost, line.currency)} after corrections of prices"
            if line.correction
            else "as charged",
            "",
        )
        for line in totals
    ] or [("Spend", cells.money(Decimal(0), CURRENCY), "", "")]
    share = f"{100 * failed / requests:.2g}\u202f% of all" if failed else ""
    tokens = [
        sum(getattr(line, name) for line in totals) for name in ("input_tokens", "output_tokens", "cached_tokens")
    ]
    return [
        *spend,
        ("Requests", cells.number(requests), _per_request(totals), links.traces()),
        ("Failed", cells.number(failed), share, links.traces({"outcome": "failed"})),
        ("Tokens in", cells.number(tokens[0]), f"{_number(tokens[2])} of them cached" if tokens[2] else "", ""),
        ("Tokens out", cells.number(tokens[1]), f"{_number(estimated)} requests estimated" if estimated else "", ""),
        ("Without a price", cells.number(unpriced), "their cost is not in the spend" if unpriced else "requests", ""),
    ]


def _per_request(totals: Sequence[Line]) -> str:
    if len(totals) != 1 or not totals[0].requests:
        return ""
    return f"{_plain(totals[0].cost / totals[0].requests, totals[0].currency)} each"


def _row(line: Line, by: str, totals: Sequence[Line], largest: Sequence[str], links: _Links) -> Row:
    name, value = line.names[by], line.by[by]
    total = next((one.cost for one in totals if one.currency == line.currency), Decimal(0))
    named = value not in ("", None)
    place = largest.index(name) if name in largest else spend_chart.APART
    return Row(
        name=_unnamed(name),
        hint=str(value) if by == "key" and value != name else "",
        narrower=links.narrower(by, value) if named else "",
        requests=cells.number(line.requests),
        failed=cells.number(line.failed),
        input=cells.number(line.input_tokens),
        output=cells.number(line.output_tokens),
        cost=cells.money(line.cost, line.currency),
        corrected=cells.money(line.corrected_cost, line.currency) if line.correction else "",
        share=float(100 * line.cost / total) if total else 0.0,
        traces=links.traces({by: value}) if named else "",
        failures=links.traces({by: value, "outcome": "failed"}) if named and line.failed else "",
        colour=min(place, spend_chart.APART),
    )


def _unnamed(name: str) -> str:
    return name or "none"


# --- Over time ------------------------------------------------------------------------------------------------------------------


def _step(question: Question) -> str:
    span = question.end - question.start
    return HOUR if span <= timedelta(hours=50) else DAY if span <= timedelta(days=100) else MONTH


def _steps(
    found: Report, by: str, measure: str, largest: Sequence[str], links: _Links
) -> tuple[list[Step], spend_chart.Chart]:
    question, currency = found.question, _main(found.totals)
    (step,) = question.times
    amounts: dict[tuple[str, datetime], Decimal] = {}
    for line in found.lines:
        if line.currency == currency:
            at = (line.names[by], datetime.fromisoformat(line.by[step]))
            amounts[at] = amounts.get(at, Decimal(0)) + _amount(line, measure)
    times = list(_times(question, step))
    chart = spend_chart.drawn(times, amounts, largest)
    steps = []
    for column, until in zip(chart.columns, [*times[1:], question.end], strict=True):
        parts = {part.name if part.colour < spend_chart.APART else spend_chart.OTHERS: part for part in column.parts}
        steps.append(
            Step(
                column,
                f"{column.at:%Y-%m}"
                if step == MONTH
                else f"{column.at:%Y-%m-%d}"
                if step == DAY
                else f"{column.at:%d %b %H:%M}",
                _amount_text(column.total, measure, currency),
                tuple(_amount_text(parts[name].amount, measure, "") if name in parts else "" for name in chart.names),
                links.traces(since=max(column.at, question.start), until=min(until, question.end)),
            )
        )
    return steps, chart


def _times(question: Question, step: str) -> Iterator[datetime]:
    """Beginnings of all steps that the report touches, also those in which nothing was asked."""
    zone = ZoneInfo(question.time_zone)
    at = question.start.astimezone(zone)
    if step != HOUR:
        at = at.replace(hour=0, day=1 if step == MONTH else at.day)
    while at < question.end:
        yield at
        if step == HOUR:
            at = (at.astimezone(ZoneInfo("UTC")) + timedelta(hours=1)).astimezone(zone)
        elif step == DAY:
            at += timedelta(days=1)
        else:
            at = (at + timedelta(days=32)).replace(day=1)


def _amount(line: Line, measure: str) -> Decimal:
    if measure == "requests":
        return Decimal(line.requests)
    return Decimal(line.input_tokens + line.output_tokens) if measure == "tokens" else line.cost


def _amount_text(amount: Decimal, measure: str, currency: str) -> str:
    return _plain(amount, currency) if measure == "cost" else _number(int(amount))


def _plain(amount: Decimal, currency: str) -> str:
    return f"{cells.amount(amount)}\u202f{currency}" if currency else cells.amount(amount)


def _number(count: int) -> str:
    return f"{count:,}".replace(",", "\u202f")


# --- Savings --------------------------------------------------------------------------------------------------------------------


def _savings(form: SpendForm, question: Question, sight: Sight, held: Snapshot) -> dict[str, Any]:
    try:
        found = savings_reports.report(question, held, against=form.cleaned_data["against"].strip(), sight=sight)
    except BadReport as error:
        return {"problem": str(error)}
    return {
        "policies": [
            {
                "saving": saving,
                "charged": cells.money(saving.charged, CURRENCY),
                "cost": cells.money(saving.cost, CURRENCY),
                "elsewhere": [
                    (
                        one.route,
                        cells.money(one.cost, CURRENCY),
                        cells.money(one.saved, CURRENCY),
                        f"{one.percent:+.0f}",
                        _tone(one),
                    )
                    for one in saving.elsewhere
                ],
            }
            for saving in found[:MOST_SHOWN]
        ]
    }


def _tone(one: savings_reports.Elsewhere) -> str:
    return "good" if one.saved > 0 else "warn" if one.saved < 0 else ""


# --- Words ----------------------------------------------------------------------------------------------------------------------


def _words(request: HttpRequest) -> bool:
    return any(value for name, value in request.GET.items() if USUAL.get(name) != value)


def _names(held: Snapshot, user: Any) -> dict[str, Any]:
    keys = visibility.visible(ClientKey.objects.all(), user).order_by("name").values_list("prefix", "name")
    if not visibility.sees_everything(user):
        return {"keys": keys[:500]}
    return {
        "keys": keys[:500],
        "models": sorted({model.route for model in held.models})[:2000],
        "provider_ids": sorted({model.provider.provider_id for model in held.models})[:500],
        "policies": sorted({policy.name for policy in held.each_policy()})[:500],
    }


def _twins(question: Question, by: str) -> list[tuple[str, str]]:
    filters = {name: getattr(question, name) for name in FILTERS if getattr(question, name)}
    words = {"group_by": by, "since": question.start.isoformat(), "until": question.end.isoformat(), **filters}
    command = ["manage.py", "spend_report", "--by", by, "--since", f"{question.start:%Y-%m-%dT%H:%M}"]
    command += ["--until", f"{question.end:%Y-%m-%dT%H:%M}"]
    for name, value in filters.items():
        command += [f"--{name}", shlex.quote(str(value))]
    return [
        ("Over REST", f'curl "$GATEWAY/api/v1/reports/spend?{urlencode(words)}" -H "Authorization: Bearer $ADMIN_KEY"'),
        ("As a command", " ".join(command)),
    ]


pages.register("spend/", "spend", spend_view)
pages.register("spend/file/", "spend-file", file_view)
