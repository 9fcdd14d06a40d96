"""Usage in the admin: what was spent, asked and waited for, over time, by whom and on what. Each user sees that of the user's teams.

What is asked for stands in the address, every group leads deeper, and every count leads to the requests behind it. All of it is
read from sums by hour, so it stays when the traces are gone.
"""

from __future__ import annotations

import shlex
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse, StreamingHttpResponse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from inference import (
    report_files,
    saved_view_tabs,
    savings_reports,
    spend_reports,
    usage_charts,
    usage_looks,
    usage_measures,
    usage_times,
)
from inference.spend_forms import BY, FILTERS, SpendForm
from inference.spend_reports import TAG, BadReport, Line, Question, Sight
from inference.usage_links import Links
from inference.usage_looks import CURRENCY, MOST_SHOWN
from inference.usage_measures import MEASURES, TIMED
from providers import cells, pages
from providers.charts import APART
from routing import snapshot, visibility
from routing.models import ClientKey
from routing.types import Snapshot

MAY_SEE = "inference.view_usagerecord"
MAY_SEE_PRICES = "providers.view_providermodel"
_MOST_DRAWN = 100_000
MOST_OFFERED = 200
"""Names that a field offers while it is filled in."""


@never_cache
@require_safe
def spend_view(request: HttpRequest) -> HttpResponse:
    sight = _sight(request)
    if begin := saved_view_tabs.where_to_begin(request, "usage"):
        return HttpResponseRedirect(begin)
    form, now, view = SpendForm(request.user, request.GET), timezone.now(), request.GET.get("view", "")
    held = snapshot.refresh()
    context: dict[str, Any] = {
        "title": _("Usage"),
        "form": form,
        "chips": form.chips(),
        "words": bool(form.words),
        "view": view,
        "views": saved_view_tabs.shown(request, "usage", urlencode(form.words)),
        **_names(held, request.user),
    }
    if form.is_valid():
        try:
            context |= _told(form, sight, now, view)
            asked = form.cleaned_data["savings"] or form.cleaned_data["against"]
            if asked and request.user.has_perm(MAY_SEE_PRICES):
                context["savings"] = _savings(form, form.question(now), sight, held)
        except BadReport as error:
            context["problem"] = str(error)
    context["may_see_savings"] = request.user.has_perm(MAY_SEE_PRICES)
    return pages.render(request, "admin/spend/page.html", context)


@never_cache
@require_safe
def file_view(request: HttpRequest) -> HttpResponse | StreamingHttpResponse:
    """What the page shows, whole, as CSV or JSON."""
    sight = _sight(request)
    form = SpendForm(request.user, request.GET)
    if not form.is_valid():
        return JsonResponse({"errors": form.errors}, status=400)
    try:
        asked = form.question(timezone.now())
        question = replace(asked, group_by=(*form.groups, form.step_of(asked)))
        if form.told_measure.timed and not usage_measures.untimed(form.groups, question, sight):
            return JsonResponse(usage_times.document(question), json_dumps_params={"indent": 2})
    except BadReport as error:
        return JsonResponse({"errors": {error.field: [str(error)]}}, status=400)
    found = spend_reports.report(question, sight, most=_MOST_DRAWN)
    if request.GET.get("as") == "json":
        return JsonResponse(report_files.spend_document(found), json_dumps_params={"indent": 2})
    answer = StreamingHttpResponse(report_files.csv_lines(found), content_type="text/csv; charset=utf-8")
    answer["Content-Disposition"] = 'attachment; filename="usage.csv"'
    return answer


def _sight(request: HttpRequest) -> Sight:
    if not request.user.has_perm(MAY_SEE):
        raise PermissionDenied
    return Sight(teams=visibility.teams_of(request.user))


def _told(form: SpendForm, sight: Sight, now: datetime, view: str) -> dict[str, Any]:
    groups, measure = form.groups, form.told_measure
    question = form.question(now, *groups)
    step = form.step_of(question)
    links = Links(form, question, view)
    shown = {
        "measure": measure.label,
        "by": _and(groups),
        "group_labels": [str(BY[name]) for name in groups],
        "is_by_tag": TAG in groups,
        "begins": question.start,
        "ends": question.end,
        "step": step,
        "links": links,
        "csv": "" if measure.timed else links.file("csv"),
        "json": links.file("json"),
        "savings_link": links.here(savings="on") + "#savings",
        "twins": [
            *_twins(question, (*groups, step), bool(measure.timed)),
            (_("Keep it as a view"), saved_view_tabs.command("usage", urlencode(form.words))),
        ],
    }
    if measure.timed:
        return shown | _timed(form, question, step, sight, links)
    found = spend_reports.report(question, sight)
    past = form.before(question, *groups)
    before = spend_reports.report(past, sight) if past is not None else None
    in_one_currency = [line for line in found.lines if line.currency == usage_looks.main_currency(found.totals)]
    by_size = usage_looks.sorted_lines(in_one_currency, "", measure)
    if measure.kind == usage_measures.SHARE:  # of the busiest: a group with one request is either 0 or 100 %
        by_size = sorted(by_size, key=lambda line: -line.requests)
    largest = list(dict.fromkeys(usage_looks.series_name(line) for line in by_size[:APART]))
    over_time = spend_reports.over_time(replace(question, group_by=(*groups, step)), by_size[:APART], sight)
    cumulative = bool(form.cleaned_data["cumulative"]) and measure.adds_up
    chart, colours = usage_charts.drawn(over_time, step, measure, links, cumulative=cumulative, largest=largest)
    sort = form.cleaned_data["sort"]
    lines = usage_looks.sorted_lines(found.lines, sort, measure)
    were = {_place(line): line for line in before.lines} if before is not None else {}
    return shown | {
        "totals": found.totals,
        "kpis": usage_looks.kpis(found.totals, before.totals if before is not None else (), links),
        "unpriced": sum(line.unpriced for line in found.totals),
        "columns": usage_looks.columns(sort, form.cleaned_data["measure"], links),
        "name_column": usage_looks.name_column(shown["by"], sort, links),
        "rows": [
            usage_looks.row(line, were.get(_place(line)), found.totals, measure, colours, links)
            for line in lines[:MOST_SHOWN]
        ],
        "sums": [(line.currency, usage_looks.total_cells(line)) for line in found.totals],
        "cut": found.cut or len(found.lines) > MOST_SHOWN,
        "chart": chart,
        "cumulative": cumulative,
        "adds_up": measure.adds_up,
        "compared_with": (past.start, past.end) if past is not None and before is not None and before.totals else None,
    }


def _place(line: Line) -> tuple[Any, ...]:
    return (line.currency, *line.by.values())


def _and(groups: tuple[str, ...]) -> str:
    names = [str(BY[name]) for name in groups]
    return _("%(first)s and %(second)s") % {"first": names[0], "second": names[1]} if len(names) > 1 else names[0]


# --- How long it took -----------------------------------------------------------------------------------------------------------


def _timed(form: SpendForm, question: Question, step: str, sight: Sight, links: Links) -> dict[str, Any]:
    """Of the measures that are percentiles; where no sums are kept of what was asked, what can be asked instead."""
    groups, measure = form.groups, form.told_measure
    if missing := usage_measures.untimed(groups, question, sight):
        filters = dict.fromkeys(("key", "team", "policy", "tag"), "")
        return {
            "untimed": [str(BY[name]) for name in missing],
            "instead": [(str(BY[name]), links.here(**filters, by=name, then="", sort="")) for name in TIMED]
            if sight.teams is None
            else [],
        }
    told = usage_times.histograms(replace(question, group_by=(*groups, step)), measure.timed)
    whole = usage_times.over_groups(told)
    order = sorted(whole, key=lambda names: (-whole[names].requests, names))
    chart, colours = usage_charts.drawn_times(told, question, step, measure, links, order)
    past = form.before(question, *groups)
    were = usage_times.over_groups(usage_times.histograms(past, measure.timed)) if past is not None else {}
    rows = []
    for names in order[:MOST_SHOWN]:
        times, before = whole[names], were.get(names)
        by = dict(zip(groups, names, strict=True))
        behind = links.traces(by) if all(names) else ""
        value, earlier = (one.percentile(measure.percent) if one is not None else None for one in (times, before))
        rows.append(
            {
                "names": [usage_looks.unnamed(name) for name in names],
                "colour": colours.get(" · ".join(names), "quiet"),
                "narrower": links.narrower(by) if all(names) else "",
                "traces": behind,
                "requests": cells.number(times.requests),
                "figures": [
                    cells.milliseconds(one) for one in (times.mean_ms, *map(times.percentile, usage_times.PERCENTS))
                ],
                "change": usage_looks.change(_exact(value), _exact(earlier), measure, ""),
            }
        )
    return {
        "timed": rows,
        "chart": chart,
        "percents": usage_times.PERCENTS,
        "of_streams": measure is MEASURES["ttft"],
        "compared_with": (past.start, past.end) if past is not None and were else None,
    }


def _exact(value: float | None) -> Any:
    return None if value is None else Decimal(str(value))


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


def _names(held: Snapshot, user: Any) -> dict[str, Any]:
    keys = visibility.visible(ClientKey.objects.all(), user).order_by("name").values_list("prefix", "name")
    if not visibility.sees_everything(user):
        return {"keys": keys[:MOST_OFFERED]}
    return {
        "keys": keys[:MOST_OFFERED],
        "models": sorted({model.route for model in held.models})[:MOST_OFFERED],
        "provider_ids": sorted({model.provider.provider_id for model in held.models})[:MOST_OFFERED],
        "policies": sorted({policy.name for policy in held.each_policy()})[:MOST_OFFERED],
    }


def _twins(question: Question, groups: tuple[str, ...], timed: bool) -> list[tuple[str, str]]:
    filters = {name: getattr(question, name) for name in FILTERS if getattr(question, name)}
    by = ",".join(groups)
    words = {"group_by": by, "since": question.start.isoformat(), "until": question.end.isoformat(), **filters}
    command = ["manage.py", "spend_report", "--by", by, "--since", f"{question.start:%Y-%m-%dT%H:%M}"]
    command += ["--until", f"{question.end:%Y-%m-%dT%H:%M}", *(["--latency"] if timed else [])]
    for name, value in filters.items():
        command += [f"--{name}", shlex.quote(str(value))]
    path = f"/api/v1/reports/{'latency' if timed else 'spend'}"
    return [
        ("REST", f'curl "$GATEWAY{path}?{urlencode(words)}" -H "Authorization: Bearer $ADMIN_KEY"'),
        (_("Command"), " ".join(command)),
    ]


pages.register("spend/", "spend", spend_view)
pages.register("spend/file/", "spend-file", file_view)
