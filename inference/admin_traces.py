"""Requests in the admin: the list with its search, and one request with all that is known of it. Read only, and never counted."""

from __future__ import annotations

import shlex
from typing import Any
from urllib.parse import quote, urlencode

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone

from inference import admin_explain, explaining, trace_details, trace_looks, trace_search
from inference.models import Trace, TraceContent
from inference.trace_forms import SearchForm
from inference.trace_search import BadCursor, Page, Sight
from providers.tables import ROWS_PER_PAGE, ReadOnlyAdmin
from routing.models import ClientKey
from routing.rollout import LEGACY
from routing.team_pages import OfTeams
from routing.teams import Team
from routing.visibility import teams_of

LIST = "admin:inference_trace_changelist"
TABS = (
    ("summary", "Summary"),
    ("timeline", "Timeline"),
    ("decision", "Decision"),
    ("cost", "Cost"),
    ("content", "Content"),
    ("headers", "Headers"),
)
_READS_CONTENT = "inference.view_tracecontent"
_FORMER = {"good": "answered", "bad": "failed", "retried": "rescued"}
"""Outcomes by the words of addresses that were kept from before."""


@admin.register(Trace)
class TraceAdmin(OfTeams, ReadOnlyAdmin):
    """Its pages are its own: the usual ones would count, sort by anything and look rows up by a number that has no index."""

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        asked = request.GET.copy()
        cursor = "".join(asked.pop("cursor", [])[:1])
        if (former := asked.get("outcome")) in _FORMER:
            asked["outcome"] = _FORMER[former]
        form, now = SearchForm(asked), timezone.now()
        page, problem = Page([]), ""
        if form.is_valid():
            try:
                page = trace_search.find(form.search(now), _sight(request), now=now, limit=ROWS_PER_PAGE, cursor=cursor)
            except BadCursor:
                problem = "This address leads to no page of the list any more. Begin again with the newest."
        words = {name: value for name, value in asked.items() if value}
        here = reverse(LIST)
        return self._shown(
            request,
            "admin/traces/list.html",
            {
                "title": "Requests",
                "form": form,
                "problem": problem,
                "rows": [trace_looks.row(one) for one in page.rows],
                "looked_back_to": page.looked_back_to,
                "newest": f"{here}?{urlencode(words)}" if cursor else "",
                "older": f"{here}?{urlencode({**words, 'cursor': page.cursor})}" if page.cursor else "",
                "searched": bool(words),
                "query": f"?{urlencode(words)}" if words else "",
                "twins": [("Over REST", _curl("/api/v1/traces", words))],
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
        tab = request.GET.get("tab", "summary")
        if tab not in dict(TABS):
            tab = "summary"
        here = reverse("admin:inference_trace_change", args=[trace.request_id])
        path = f"/api/v1/traces/{quote(trace.request_id, safe='')}"
        return self._shown(
            request,
            "admin/traces/detail.html",
            {
                "title": "Request",
                "trace": trace,
                "tab": tab,
                "tabs": [(name, label, f"{here}?tab={name}") for name, label in TABS],
                "list": reverse(LIST),
                "link": request.build_absolute_uri(here),
                "served_by": trace_looks.served_by(trace),
                "outcome": trace_looks.outcome(trace),
                "flags": trace_looks.flags(trace),
                "bars": trace_looks.waterfall(trace),
                "twins": [("Over REST", _curl(path, {}))],
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
        return {"key": key, "team": team, "trace_tags": trace_details.tags(trace)}

    def _timeline(self, request: HttpRequest, trace: Trace) -> dict[str, Any]:
        return {"attempts": trace_details.attempts(trace)}

    def _decision(self, request: HttpRequest, trace: Trace) -> dict[str, Any]:
        if trace.side == LEGACY:
            return {}
        return {"past": admin_explain.shown_past(explaining.past_of(trace))}

    def _cost(self, request: HttpRequest, trace: Trace) -> dict[str, Any]:
        lines = trace_details.lines(trace)
        return {
            "lines": [(line, ", ".join(f"{name} {value}" for name, value in line.prices.items())) for line in lines],
            "paid_tries": len(lines) > 1,
        }

    def _content(self, request: HttpRequest, trace: Trace) -> dict[str, Any]:
        if not request.user.has_perm(_READS_CONTENT):  # type: ignore[union-attr]
            return {"may_not_read": True}
        content = TraceContent.objects.filter(request_id=trace.request_id).first()
        return {"content": None if content is None else trace_details.texts(content)}

    def _headers(self, request: HttpRequest, trace: Trace) -> dict[str, Any]:
        return {"headers": trace_looks.headers(trace)}


def _sight(request: HttpRequest) -> Sight:
    return Sight(teams=teams_of(request.user))


def _curl(path: str, words: dict[str, Any]) -> str:
    sent = f"?{urlencode(words)}" if words else ""
    return f'curl {shlex.quote(path + sent).replace(path, "$GATEWAY" + path, 1)} -H "Authorization: Bearer $ADMIN_KEY"'
