"""Requests in the admin: the list with its search, and one request with all that is known of it. Read only, and never counted."""

from __future__ import annotations

import json
import shlex
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote, urlencode

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from inference import (
    admin_explain,
    explaining,
    saved_view_tabs,
    trace_counts,
    trace_details,
    trace_looks,
    trace_refusals,
    trace_search,
)
from inference.models import Trace, TraceContent
from inference.trace_counts import Counts
from inference.trace_forms import SearchForm
from inference.trace_search import BadCursor, Page, Sight
from providers import cells, charts
from providers.tables import ROWS_PER_PAGE, ReadOnlyAdmin
from routing.models import ClientKey
from routing.rollout import LEGACY
from routing.team_pages import OfTeams
from routing.teams import Team
from routing.visibility import USE_PLAYGROUND, teams_of

LIST = "admin:inference_trace_changelist"
LIVE_SECONDS = 5
TABS = (
    ("summary", gettext_lazy("Summary")),
    ("timeline", gettext_lazy("Timeline")),
    ("decision", gettext_lazy("Decision")),
    ("cost", gettext_lazy("Cost")),
    ("content", gettext_lazy("Request and answer")),
    ("headers", gettext_lazy("Headers")),
)
_READS_CONTENT = "inference.view_tracecontent"
_FRAGMENT = "X-Fragment"
_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)


@admin.register(Trace)
class TraceAdmin(OfTeams, ReadOnlyAdmin):
    """Its pages are its own: the usual ones would count, sort by anything and look rows up by a number that has no index."""

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        if begin := saved_view_tabs.where_to_begin(request, "requests"):
            return HttpResponseRedirect(begin)
        form, now = SearchForm(request.GET), timezone.now()
        cursor = request.GET.get("cursor", "")
        live = request.GET.get("live") == "1" and not cursor
        page, problem, sight, counts = Page([]), "", _sight(request), None
        if form.is_valid():
            search = form.search(now)
            try:
                page = trace_search.find(search, sight, now=now, limit=ROWS_PER_PAGE, cursor=cursor)
            except BadCursor:
                problem = _("This address leads to no page of the list any more. Begin again with the newest.")
            counts = None if cursor else trace_counts.counted(search, sight, now)
        words, here = form.words, reverse(LIST)
        prefixes = {one.client_key_prefix for one in page.rows} - {""}
        names = dict(ClientKey.objects.filter(prefix__in=prefixes).values_list("prefix", "name"))
        kept = {name: request.GET[name] for name in ("view",) if request.GET.get(name)}
        query = urlencode(words)
        context = {
            "rows": [trace_looks.row(one) | {"key": names.get(one.client_key_prefix)} for one in page.rows],
            "looked_back_to": page.looked_back_to,
            "searched": bool(words),
            "query": f"?{query}" if query else "",
            "form": form,
            "problem": problem,
            "older": f"{here}?{urlencode({**words, **kept, 'cursor': page.cursor})}" if page.cursor else "",
            "live": live,
            **_drawn(counts, form),
        }
        if _FRAGMENT in request.headers:
            return TemplateResponse(request, "admin/traces/rows.html", context)
        return self._shown(
            request,
            "admin/traces/list.html",
            {
                "title": _("Requests"),
                **context,
                "views": saved_view_tabs.shown(request, "requests", query),
                "view": request.GET.get("view", ""),
                "chips": form.chips(),
                "newest": f"{here}?{urlencode({**words, **kept})}" if cursor else "",
                "live_fragment": f"{here}?{urlencode({**words, 'view': saved_view_tabs.ALL})}",
                "live_on": f"{here}?{urlencode({**words, **kept, 'live': 1})}",
                "live_off": f"{here}?{urlencode({**words, **kept})}" if words or kept else here,
                "live_seconds": LIVE_SECONDS,
                "usage": _usage_of(words),
                "twins": [
                    ("REST", _curl("/api/v1/traces", _as_rest_has_it(words, now))),
                    (_("Command"), _command(words)),
                    (_("Keep it as a view"), saved_view_tabs.command("requests", query)),
                ],
                **(extra_context or {}),
            },
        )

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """`object_id` is the request's id, or its trace's."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        trace = trace_search.one(object_id, _sight(request), timezone.now())
        if trace is None:
            raise Http404(f"No request of the id {object_id!r} is kept.")
        if _FRAGMENT in request.headers:
            glance = {"trace": trace, "trace_tags": trace_details.tags(trace), **_waterfall(trace)}
            return TemplateResponse(request, "admin/traces/glance.html", glance)
        tab = request.GET.get("tab", "summary")
        if tab not in dict(TABS):
            tab = "summary"
        form = SearchForm(request.GET)
        words = form.words if form.is_valid() else {}
        here = reverse("admin:inference_trace_change", args=[trace.request_id])
        back = f"{reverse(LIST)}?{urlencode(words) or f'view={saved_view_tabs.ALL}'}"
        return self._shown(
            request,
            "admin/traces/detail.html",
            {
                "title": _("Request"),
                "above": [(_("Requests"), back)],
                "crumb": trace.request_id,
                "trace": trace,
                "tab": tab,
                "tabs": [(name, label, f"{here}?{urlencode({'tab': name, **words})}") for name, label in TABS],
                "list": reverse(LIST),
                "link": request.build_absolute_uri(here),
                "served_by": trace_looks.served_by(trace),
                "outcome": trace_looks.outcome(trace),
                "flags": trace_looks.flags(trace),
                "saved": trace_looks.saved(trace),
                "cost": cells.money(trace.cost, trace.currency),
                **_around(request, trace, form, words, tab),
                **_waterfall(trace),
                "playground": _playground(trace, request),
                "twins": _twins(trace),
                **getattr(self, f"_{tab}")(request, trace),
                **(extra_context or {}),
            },
        )

    def _shown(self, request: HttpRequest, template: str, context: dict[str, Any]) -> HttpResponse:
        request.current_app = self.admin_site.name  # type: ignore[attr-defined]
        return TemplateResponse(request, template, {**self.admin_site.each_context(request), **context})

    # What each tab shows

    def _summary(self, request: HttpRequest, trace: Trace) -> dict[str, Any]:
        key = ClientKey.objects.filter(pk=trace.client_key_id).first() if trace.client_key_id else None
        team = Team.objects.filter(pk=trace.team_id).first() if trace.team_id else None
        return {
            "key": key,
            "team": team,
            "trace_tags": trace_details.tags(trace),
            "refusal": trace_refusals.why(trace),
            "bound": trace_refusals.is_bound(trace),
        }

    def _timeline(self, request: HttpRequest, trace: Trace) -> dict[str, Any]:
        return {"attempts": trace_details.attempts(trace)}

    def _decision(self, request: HttpRequest, trace: Trace) -> dict[str, Any]:
        if trace.side == LEGACY:
            return {}
        return {"past": admin_explain.shown_past(explaining.past_of(trace))}

    def _cost(self, request: HttpRequest, trace: Trace) -> dict[str, Any]:
        lines = [trace_looks.paid(line) for line in trace_details.lines(trace)]
        return {"lines": lines, "paid_tries": len(lines) > 1, "whole": cells.money(trace.cost, trace.currency)}

    def _content(self, request: HttpRequest, trace: Trace) -> dict[str, Any]:
        if not request.user.has_perm(_READS_CONTENT):  # type: ignore[union-attr]
            return {"may_not_read": True}
        content = TraceContent.objects.filter(request_id=trace.request_id).first()
        if content is None:
            return {"content": None}
        told = trace_details.texts(content)
        said = trace_looks.messages(told["request"])
        return {"content": told, "turns": said, "curl": _curl_of(trace, said)}

    def _headers(self, request: HttpRequest, trace: Trace) -> dict[str, Any]:
        return {"headers": trace_looks.headers(trace)}


def _sight(request: HttpRequest) -> Sight:
    return Sight(teams=teams_of(request.user))


def _waterfall(trace: Trace) -> dict[str, Any]:
    return {
        "bars": trace_looks.waterfall(trace),
        "axis": trace_looks.axis(trace),
        "first_byte_at": trace_looks.first_byte_at(trace),
        "first_byte_ms": trace.first_byte_ms,
    }


def _around(request: HttpRequest, trace: Trace, form: SearchForm, words: dict[str, str], tab: str) -> dict[str, str]:
    """The requests next to this one in the search that led here."""
    search = form.search(timezone.now()) if words else trace_search.Search()
    newer, older = trace_search.neighbours(trace, search, _sight(request))
    query = urlencode({"tab": tab, **words})

    def address(name: str) -> str:
        return f"{reverse('admin:inference_trace_change', args=[name])}?{query}" if name else ""

    return {"newer": address(newer), "older": address(older)}


def _playground(trace: Trace, request: HttpRequest) -> str:
    """Where the request can be asked again by hand; empty where it is no chat, and for those who may not ask there."""
    if trace.operation != "chat" or not trace.requested_model or not request.user.has_perm(USE_PLAYGROUND):  # type: ignore[union-attr]
        return ""
    kept = TraceContent.objects.filter(request_id=trace.request_id).exists()
    words = {"trace": trace.request_id} if kept else {"model": trace.requested_model}
    return f"{reverse('admin:playground')}?{urlencode(words)}"


def _drawn(counts: Counts | None, form: SearchForm) -> dict[str, Any]:
    """The chart above the list. Each column leads to its own requests."""
    if counts is None:
        return {"counts": None}
    words = {name: value for name, value in form.words.items() if name not in ("hours", "since", "until")}
    links = [
        f"{reverse(LIST)}?{urlencode({**words, 'since': _local(bar.since), 'until': _local(bar.until)})}"
        for bar in counts.bars
    ]
    style = "%Y-%m-%d" if counts.step >= _DAY else "%H:%M" if len(counts.bars) <= 26 else "%d %b %H:%M"
    series = [charts.Series(_("answered"), [float(bar.answered) for bar in counts.bars])]
    if counts.failed:
        series.append(charts.Series(_("failed"), [float(bar.failed) for bar in counts.bars], "bad"))
    labels = [timezone.localtime(bar.since).strftime(style) for bar in counts.bars]
    return {
        "counts": counts,
        "per": _span_in_words(counts, form),
        "chart": charts.stacked(labels, series, lambda value: f"{value:,.0f}".replace(",", "\u202f"), links),
    }


def _span_in_words(counts: Counts, form: SearchForm) -> str:
    step = _("by the minute") if counts.step < _HOUR else _("by the hour") if counts.step < _DAY else _("by the day")
    named = any(form.words.get(name) for name in ("hours", "since", "until"))
    return step if named else _("last 24 hours, %(step)s") % {"step": step}


def _local(at: Any) -> str:
    return timezone.localtime(at).strftime("%Y-%m-%dT%H:%M")


_OF_USAGE = {
    "served_by": "model",
    "key": "key",
    "team": "team",
    "provider": "provider",
    "policy": "policy",
    "tag": "tag",
    "operation": "operation",
}


def _usage_of(words: dict[str, str]) -> str:
    """The page of usage with what both pages can be narrowed to."""
    kept = {_OF_USAGE[name]: value for name, value in words.items() if name in _OF_USAGE}
    return f"{reverse('admin:spend')}?{urlencode({**kept, 'view': saved_view_tabs.ALL})}"


def _twins(trace: Trace) -> list[tuple[str, str]]:
    path = f"/api/v1/traces/{quote(trace.request_id, safe='')}"
    told = [("REST", _curl(path, {}))]
    if trace.side != LEGACY:
        told.append((_("Command"), f"manage.py explain_route --trace {shlex.quote(trace.request_id)}"))
    return told


def _as_rest_has_it(words: dict[str, str], now: datetime) -> dict[str, str]:
    """The same search: REST takes a moment where the page takes hours."""
    told = {name: value for name, value in words.items() if name != "hours"}
    if (hours := words.get("hours", "")).isdecimal() and "since" not in told:
        told["since"] = (now - timedelta(hours=int(hours))).isoformat(timespec="seconds")
    return told


def _curl(path: str, words: dict[str, Any]) -> str:
    """What is quoted for an address needs no quoting from a shell but its quotes."""
    sent = f"?{urlencode(words)}" if words else ""
    return f'curl "$GATEWAY{path}{sent}" -H "Authorization: Bearer $ADMIN_KEY"'


def _command(words: dict[str, str]) -> str:
    told = [f"--{name.replace('_', '-')} {shlex.quote(value)}" for name, value in words.items()]
    return " ".join(["manage.py traces", *told])


def _curl_of(trace: Trace, said: list[tuple[str, str]]) -> str:
    """The request as it can be sent again: with the words that were kept, which are redacted."""
    body: dict[str, Any] = {"model": trace.requested_model}
    path = {"chat": "chat/completions"}.get(trace.operation, trace.operation)
    if trace.operation == "chat":
        body["messages"] = [{"role": role or "user", "content": words} for role, words in said]
    else:
        field = "prompt" if trace.operation == "completions" else "input"
        body[field] = "\n".join(words for _role, words in said)
    if trace.stream:
        body["stream"] = True
    return (
        f'curl "$GATEWAY/v1/{path}" -H "Authorization: Bearer $GATEWAY_KEY" -H "Content-Type: application/json" \\\n'
        f"  -d {shlex.quote(json.dumps(body, ensure_ascii=False, indent=2))}"
    )
