"""Explain a route: a request that is not sent, or one that was, and why it is served as it is.

The page works on what the API works on, in the same words. A prompt is sent in the form's body, never in an address; links to the
page name a policy, a model or a past request.
"""

from __future__ import annotations

import json
import shlex
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, QueryDict
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from inference import explaining, route_times
from inference.errors import GatewayError
from inference.explain_forms import ExplainForm
from inference.explain_looks import looks
from inference.explaining import Explanation, Past, Question
from inference.models import Trace
from providers import cells, pages
from routing import snapshot, visibility
from routing.types import Snapshot

MAY_EXPLAIN = "providers.view_providermodel"
MAY_SEE_REQUESTS = "inference.view_trace"

NAMES_OFFERED = 2000
LISTED = 200
"""Candidates and dropped models that the page lists; the rest is counted."""
RECENT = 12
_LONGEST_TWIN = 1500


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def explain_view(request: HttpRequest) -> HttpResponse:
    if not request.user.has_perm(MAY_EXPLAIN):
        raise PermissionDenied
    # Any request may be named here, of whatever team; a team's own are explained on their pages.
    may_see_requests = request.user.has_perm(MAY_SEE_REQUESTS) and visibility.sees_everything(request.user)
    trace = request.GET.get("trace", "").strip()
    if trace and not may_see_requests:
        raise PermissionDenied
    form = _form(request)
    told = _of_past(trace, _wanted(request.GET)) if trace else _answer(form) if form.is_bound else {}
    context = {
        "title": _("Explain a route"),
        "form": form,
        "open": form.is_bound and form.any_wish(),
        "names": names(snapshot.refresh()),
        "trace": trace,
        "may_see_requests": may_see_requests,
        "recent": _recent() if may_see_requests and not told else [],
        "asking": "gw-wanted-form" if trace else "gw-explain-form",
        "twins": _twins({"model": "gpt-4o"}),
        **told,
    }
    return pages.render(request, "admin/explain/page.html", context)


def _form(request: HttpRequest) -> ExplainForm:
    """Filled in by what was sent, or by a link's `policy` or `model`."""
    if request.method == "POST":
        return ExplainForm(request.user, {**request.POST.dict(), "wanted": _wanted(request.POST)})
    named = request.GET.get("policy") or request.GET.get("model")
    return ExplainForm(request.user, {"name": named, "wanted": _wanted(request.GET)} if named else None)


def _wanted(sent: QueryDict) -> str:
    """The model whose button was pressed, else the one that was typed."""
    return sent.get("want") or sent.get("wanted", "")


def _recent() -> list[dict[str, Any]]:
    """The newest requests, to pick one of."""
    columns = ("request_id", "at", "requested_model", "provider_id", "model_id", "status", "error_code", "fallback")
    return [
        {
            "id": row.request_id,
            "at": row.at,
            "asked": row.requested_model,
            "served_by": f"{row.provider_id}/{row.model_id}" if row.provider_id else _("nobody"),
            "status": row.status,
            "tone": _tone(row),
            "fallback": row.fallback,
        }
        for row in Trace.objects.order_by("-at").only(*columns)[:RECENT]
    ]


def _tone(usage: Trace) -> str:
    return "good" if usage.status < 400 and not usage.error_code else "bad" if usage.status >= 500 else "warn"


def names(held: Snapshot) -> list[str]:
    """What may be asked for: policies, then models, then single routes."""
    offered = dict.fromkeys([*(policy.name for policy in held.each_policy()), *held.by_name])
    return list(offered)[:NAMES_OFFERED]


def _answer(form: ExplainForm) -> dict[str, Any]:
    if not form.is_valid():
        return {}
    body = form.body()
    try:
        question = explaining.read(body, None)
        explanation = explaining.explained(question, most=LISTED)
    except GatewayError as error:
        return {"problem": error.message, "problem_field": error.param}
    return {"answer": _shown(explanation, question), "twins": _twins(body), "wanted_routes": _routes(explanation)}


def _of_past(request_id: str, wanted: str) -> dict[str, Any]:
    past = explaining.past(request_id)
    if past is None:
        return {"problem": _("No request with the id %r is recorded. Rows are written within a second.") % request_id}
    context: dict[str, Any] = {
        "past": shown_past(past),
        "twins": [(_("Command"), f"manage.py explain_route --trace {shlex.quote(request_id)}")],
    }
    if past.question is not None:
        question = Question(past.question.facts, wanted)
        explanation = explaining.explained(question, most=LISTED)
        context |= {"answer": _shown(explanation, question), "wanted_routes": _routes(explanation)}
        if past.document is not None:
            context["same"] = _order(past.document) == _order(explanation.document)
    return context


def _shown(explanation: Explanation, question: Question) -> dict[str, Any]:
    error = explanation.refusal
    route_times.tell(explanation.document)
    return {
        "looks": looks(explanation.document),
        "refusal": None if error is None else {"status": error.status, "code": error.code, "message": error.message},
        "wanted": question.wanted,
        "change": explanation.document.get("what_would_change"),
        "document": json.dumps(explanation.document, indent=2, ensure_ascii=False),
    }


def shown_past(past: Past) -> dict[str, Any]:
    """A past request for `admin/explain/past.html`."""
    usage = past.usage
    return {
        "usage": usage,
        "looks": None if past.document is None else looks(past.document),
        "document": None if past.document is None else json.dumps(past.document, indent=2, ensure_ascii=False),
        "served_by": f"{usage.provider_id}/{usage.model_id}" if usage.provider_id else _("nobody"),
        "tone": _tone(usage),
        "took": cells.milliseconds(usage.duration_ms),
        "cost": cells.money(usage.cost, usage.currency),
        "attempts": past.attempts,
        "problem": past.problem,
    }


def _order(document: dict[str, Any]) -> list[str]:
    return [one["route"] for one in document["candidates"]]


def _routes(explanation: Explanation) -> list[str]:
    """Every model that could be wanted, those that were looked at first."""
    told = explanation.document
    return [one["route"] for one in (*told["candidates"][1:], *told["dropped"])]


def _twins(body: dict[str, Any]) -> list[tuple[str, str]]:
    text = json.dumps(body, ensure_ascii=False)
    short = text if len(text) <= _LONGEST_TWIN else json.dumps({"request": "…the whole request…"}, ensure_ascii=False)
    curl = (
        'curl "$GATEWAY/api/v1/route" -H "Authorization: Bearer $KEY" -H "Content-Type: application/json" \\\n'
        f"  -d {shlex.quote(short)}"
    )
    command = f"echo {shlex.quote(short)} | manage.py explain_route --file -"
    return [(_("Over REST"), curl), (_("Command"), command)]


pages.register("explain/", "explain", explain_view)
