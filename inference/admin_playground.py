"""The playground: a chat with any name that a client key may send, in up to four columns, each with what it took and why.

The page asks the data plane itself, by the path at which permits are taken (`routing.permits`); what is here lets it in and tells it
what is recorded. A conversation stays in the browser's tab.
"""

from __future__ import annotations

import json
import shlex
from datetime import timedelta
from typing import Any

from django.core.exceptions import PermissionDenied
from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST, require_safe

from inference import admin_explain, explaining, offered, playground_looks, trace_details, trace_search
from inference.models import Trace, TraceContent
from inference.playground_texts import texts
from inference.trace_search import Sight
from providers import pages
from routing import permits, playground_keys, snapshot, visibility
from routing.models import ClientKey
from routing.playground_keys import OWN, NotYours
from routing.types import Identity

NAMES_OF_A_GROUP = 60
KEYS_LISTED = 50
MOST_COLUMNS = 4
_LONGEST_WORDS = 200
_RECENT = timedelta(hours=24)
_ANYBODY = Identity(0, "", "", frozenset({"generate"}))
"""Who a person is before their own key is made: nothing limits it."""
_READS_CONTENT = "inference.view_tracecontent"
_READS_TRACES = "inference.view_trace"


@never_cache
@require_safe
def playground_view(request: HttpRequest) -> HttpResponse:
    user = _person(request)
    own = playground_keys.may_ask_in_own_name(user)
    keys = _keys(user, "")
    key = OWN if own else keys[0]["prefix"] if keys else ""
    context = {
        "title": _("Playground"),
        "config": {
            "chat": permits.TAKEN_AT,
            "permit": reverse("admin:playground-permit"),
            "names": reverse("admin:playground-names"),
            "keys": reverse("admin:playground-keys"),
            "told": reverse("admin:playground-told"),
            "decision": reverse("admin:playground-decision"),
            "api": request.build_absolute_uri("/v1"),
            "person": user.pk,
            "own": own,
            "key": key,
            "first": _first(user, key),
            "keyList": keys,
            "columns": MOST_COLUMNS,
            "prefill": _prefill(request),
            "texts": texts(),
        },
        "nobody": not own and not keys,
        "may_issue": user.has_perm("routing.add_clientkey"),
        "twins": _twins(request),
    }
    return pages.render(request, "admin/playground/page.html", context)


@never_cache
@require_POST
def permit_view(request: HttpRequest) -> HttpResponse:
    """A permit for minutes; with `key=own` the person's own key is made first."""
    user = _person(request)
    try:
        text, permit, key = playground_keys.permit(user, request.POST.get("key", OWN))
    except NotYours:
        return _problem(403, "not_your_key", _("You may not ask with this client key."))
    return JsonResponse({"permit": text, "until": permit.until, "key": playground_looks.key(key)})


@never_cache
@require_GET
def names_view(request: HttpRequest) -> HttpResponse:
    """What may be asked with a key and holds the words `q`; with `name`, what that one name stands for."""
    identity, held = _identity(_person(request), request.GET.get("key", OWN)), snapshot.refresh()
    if name := request.GET.get("name"):
        found = offered.named(name[:_LONGEST_WORDS], identity, held)
        return JsonResponse({"name": None if found is None else playground_looks.name(found)})
    words = request.GET.get("q", "")[:_LONGEST_WORDS]
    return JsonResponse(playground_looks.offer(offered.for_chat(identity, held, words, NAMES_OF_A_GROUP)))


@never_cache
@require_GET
def keys_view(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"keys": _keys(_person(request), request.GET.get("q", "")[:_LONGEST_WORDS])})


@never_cache
@require_GET
def told_view(request: HttpRequest) -> HttpResponse:
    """The figures of a request that was asked here; 404 until its row is written, which takes less than a second."""
    user = _person(request)
    row = _own_trace(user, request.GET.get("request", ""))
    return JsonResponse(playground_looks.figures(row, may_open=user.has_perm(_READS_TRACES) and _sees(user, row)))


@never_cache
@require_GET
def decision_view(request: HttpRequest) -> HttpResponse:
    """Why it was served so, as a fragment."""
    past = explaining.past_of(_own_trace(_person(request), request.GET.get("request", "")))
    return TemplateResponse(request, "admin/playground/decision.html", {"past": admin_explain.shown_past(past)})


def _person(request: HttpRequest) -> Any:
    if not request.user.has_perm(visibility.USE_PLAYGROUND):
        raise PermissionDenied
    return request.user


def _problem(status: int, code: str, message: str) -> HttpResponse:
    return JsonResponse({"error": {"code": code, "message": message}}, status=status)


def _keys(user: Any, words: str) -> list[dict[str, str]]:
    """Those that let somebody in, the latest used first."""
    rows = playground_keys.usable(user).order_by("-last_used_at", "-id").filter(revoked_at=None, enabled=True)
    for word in words.split():
        rows = rows.filter(Q(name__icontains=word) | Q(prefix__startswith=word) | Q(team__name__icontains=word))
    return [playground_looks.key(row) for row in rows[:KEYS_LISTED] if row.state == "active"]


def _first(user: Any, key: str) -> str:
    """What is asked unless the person chooses: what requests without a model get, else the first name there is."""
    if not key:
        return ""
    identity, held = _identity(user, key), snapshot.refresh()
    default = held.defaults.default_policy
    if default and offered.named(default, identity, held):
        return default
    return next((one.name for one in offered.for_chat(identity, held, "", 1).names), "")


def _identity(user: Any, prefix: str) -> Identity:
    key: ClientKey | None
    if prefix == OWN and playground_keys.may_ask_in_own_name(user):
        key = playground_keys.own(user)
        return _ANYBODY if key is None else key.identity
    key = playground_keys.usable(user).filter(prefix=prefix).first()
    if key is None:
        raise PermissionDenied
    return key.identity


def _own_trace(user: Any, request_id: str) -> Trace:
    """Raises `Http404` for what the person did not ask here, as for what nobody asked."""
    if request_id and "\0" not in request_id:
        rows = Trace.objects.filter(request_id=request_id, at__gte=timezone.now() - _RECENT)
        row = rows.first()
        if row is not None and set(permits.marks_of(user.get_username())) <= set(trace_details.tags(row)):
            return row
    raise Http404("No request of yours with this id is recorded yet.")


def _sees(user: Any, row: Trace) -> bool:
    teams = visibility.teams_of(user)
    return teams is None or row.team_id in teams


def _prefill(request: HttpRequest) -> dict[str, Any]:
    """The form as a link wants it: `model` any number of times, or `trace`, a request whose prompt was kept."""
    models = [name for name in request.GET.getlist("model") if name][:MOST_COLUMNS]
    told: dict[str, Any] = {"models": models, "messages": [], "note": ""}
    name = request.GET.get("trace", "").strip()
    if not name or not request.user.has_perm(_READS_TRACES):
        return told
    row = trace_search.one(name, Sight(teams=visibility.teams_of(request.user)), timezone.now())
    if row is None:
        return {**told, "note": _("No request %(name)s is kept.") % {"name": name}}
    told["models"] = models or [row.requested_model]
    if not request.user.has_perm(_READS_CONTENT):
        return {
            **told,
            "note": _("What request %(name)s said is not shown to you; only its model was taken.") % {"name": name},
        }
    content = TraceContent.objects.filter(request_id=row.request_id).first()
    if content is None:
        return {
            **told,
            "note": _("The prompt of request %(name)s was not kept; only its model was taken.") % {"name": name},
        }
    kept = trace_details.texts(content)
    told["messages"] = playground_looks.turns(kept["request"])
    note = _("Taken from request %(name)s: its text, without pictures and whatever was struck out as a secret.")
    if kept["cut"]:
        note = _("Taken from request %(name)s: the first part of its text, as only that was kept.")
    return {**told, "note": note % {"name": name}}


def _twins(request: HttpRequest) -> list[tuple[str, str]]:
    body = {"model": "MODEL", "messages": [{"role": "user", "content": "Hello"}], "stream": True}
    address = request.build_absolute_uri("/v1/chat/completions")
    curl = (
        f'curl -N {address} \\\n  -H "Authorization: Bearer $GATEWAY_API_KEY" -H "Content-Type: application/json" \\\n'
        f"  -d {shlex.quote(json.dumps(body))}"
    )
    return [
        (_("Over the API"), curl),
        (_("Command"), 'manage.py ask "Hello" --model MODEL --compare OTHER --key KEY_PREFIX'),
    ]


pages.register("playground/", "playground", playground_view)
pages.register("playground/permit/", "playground-permit", permit_view)
pages.register("playground/names/", "playground-names", names_view)
pages.register("playground/keys/", "playground-keys", keys_view)
pages.register("playground/told/", "playground-told", told_view)
pages.register("playground/decision/", "playground-decision", decision_view)
