"""Workers in the admin: who lives, what runs and what waits, which models are held, and whether every process knows the registry."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from inference import process_beats, process_list, worker_actions
from inference.models import Job
from inference.process_list import RedisAway, Seen, moment
from inference.worker_actions import NoSuchWorker, NotTold
from providers import cells, pages
from routing import visibility

MAY_SEE, MAY_ACT = "inference.view_job", "inference.change_job"
LIVE_SECONDS = 4
_CLOCK_LATE_SECONDS = 30
"""Something is due every five seconds."""
_REVISION_LATE = timedelta(seconds=10)
_MEGABYTE = 1024 * 1024


@never_cache
@require_safe
def workers_view(request: HttpRequest) -> HttpResponse:
    _need(request, MAY_SEE)
    context = {"title": _("Workers"), **_seen(request)}
    if "X-Fragment" in request.headers:
        return TemplateResponse(request, "admin/workers/live.html", context)
    context |= {"live": reverse("admin:workers"), "live_seconds": LIVE_SECONDS, "twins": _twins()}
    return pages.render(request, "admin/workers/page.html", context)


@require_POST
def ask_view(request: HttpRequest) -> HttpResponse:
    """Ask a worker for something: `do` is unload, pause or resume."""
    _need(request, MAY_ACT)
    what, worker = request.POST.get("do", ""), request.POST.get("worker", "")
    try:
        messages.success(request, _asked(what, worker, request.POST))
    except (NoSuchWorker, NotTold) as error:
        messages.error(request, str(error))
    return HttpResponseRedirect(reverse("admin:workers"))


def _need(request: HttpRequest, permission: str) -> None:
    """Workers work for all teams together."""
    if not (request.user.has_perm(permission) and visibility.sees_everything(request.user)):
        raise PermissionDenied


def _asked(what: str, worker: str, told: Any) -> str:
    if what == "unload":
        name = worker_actions.unload(worker, told.get("model", ""))
        return _("%(worker)s was asked to unload %(model)s; how that went is told below in a few seconds.") % {
            "worker": worker,
            "model": name,
        }
    if what not in ("pause", "resume"):
        raise NoSuchWorker(f"Workers can unload, pause and resume, not {what!r}.")
    queues = (worker_actions.pause if what == "pause" else worker_actions.resume)(worker, told.get("queue", ""))
    words = {"worker": worker, "queues": ", ".join(queues)}
    if not queues:
        return _("There was nothing to change.")
    if what == "pause":
        return _("%(worker)s takes no more from %(queues)s; what runs ends by itself.") % words
    return _("%(worker)s takes from %(queues)s again.") % words


def _seen(request: HttpRequest) -> dict[str, Any]:
    try:
        seen = process_list.look()
    except RedisAway as error:
        return {"away": str(error)}
    alive = [one for one in seen.workers if one["alive"]]
    return {
        "kpis": _kpis(seen, alive),
        "queues": [_queue(one) for one in seen.queues],
        "workers": [_worker(one) for one in seen.workers],
        "web": [_web(one, seen) for one in seen.web],
        "clock": _clock(seen),
        "revision": seen.revision,
        "may_act": request.user.has_perm(MAY_ACT),
    }


def _kpis(seen: Seen, alive: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    tasks, waiting = sum(len(one["tasks"]) for one in alive), sum(one.waiting for one in seen.queues)
    models, web = seen.models, [one for one in seen.web if one["alive"]]
    held = sum(one["memory_bytes"] for one in models)
    gone = len(seen.workers) - len(alive)
    queued = Job.objects.filter(state__in=(Job.State.QUEUED, Job.State.RUNNING)).count()
    inflight = sum(one["inflight"] for one in web)
    return [
        (
            _("Workers"),
            str(len(alive)),
            _("%(n)s gone in the last hour") % {"n": gone} if gone else _("all answer") if alive else _("none is seen"),
        ),
        (_("At work"), str(tasks), ngettext("task", "tasks", tasks)),
        (_("Waiting"), str(waiting), _("messages in %(n)s queues") % {"n": len(seen.queues)}),
        (_("Jobs not over"), str(queued), _("waiting or running")),
        (_("Models loaded"), str(len(models)), _("%(size)s of memory") % {"size": size(held)} if held else ""),
        (_("Web processes"), str(len(web)), _("%(n)s requests under way") % {"n": inflight}),
    ]


def _queue(one: process_list.Queue) -> dict[str, Any]:
    means = {
        "generation": _("background jobs at providers"),
        "llama_cpp": _("everything that local models answer"),
        "probes": _("probes of providers and their lists of models"),
        "housekeeping": _("roll-ups, alerts, imports, retention"),
    }
    if not one.takers:
        state = cells.pill(_("paused"), "warn") if one.paused else cells.pill(_("nobody takes it"), "bad")
    else:
        state = cells.pill(_("partly paused"), "warn") if one.paused else cells.pill(_("served"), "good")
    return {"queue": one, "means": means.get(one.name, ""), "state": state}


def _worker(one: dict[str, Any]) -> dict[str, Any]:
    budget = one.get("memory_budget_bytes")
    used = sum(model["memory_bytes"] for model in one["models"])
    return {
        "facts": one,
        "state": _state(one),
        "seen": cells.ago(moment(one["at"])),
        "started": cells.ago(moment(one["started_at"])),
        "queues": [(name, name in one["takes"]) for name in one["serves"]],
        "is_drained": not one["takes"],
        "is_paused": set(one["serves"]) != set(one["takes"]),
        "share": round(100 * len(one["tasks"]) / one["concurrency"]) if one["concurrency"] else 0,
        "tasks": [{**task, "name": _task_name(task["task"]), "took": _took(task["seconds"])} for task in one["tasks"]],
        "models": [_model(model) for model in one["models"]],
        "memory": f"{size(used)} / {size(budget)}" if budget else size(used),
        "memory_share": min(100, round(100 * used / budget)) if budget else 0,
        "said": [(cells.ago(moment(word["at"])), word["text"]) for word in one["said"]],
    }


def _state(one: dict[str, Any]) -> Any:
    if not one["alive"]:
        return cells.pill(_("gone"), "bad", _("No word for %(n)d seconds.") % {"n": process_beats.MISSED_SECONDS})
    if not one["takes"]:
        return cells.pill(_("drained"), "warn", _("It takes nothing new."))
    return cells.pill(_("alive"), "good")


def _model(one: dict[str, Any]) -> dict[str, Any]:
    layers = one["gpu_layers"]
    return {
        **one,
        "memory": size(one["memory_bytes"]),
        "used": cells.ago(moment(one["last_used_at"])),
        "layers": _("all") if layers < 0 else str(layers) if layers else _("none, on the CPU"),
        "loaded_in": cells.milliseconds(1000 * one["load_seconds"]),
    }


def _web(one: dict[str, Any], seen: Seen) -> dict[str, Any]:
    behind = one["revision"] is not None and one["revision"] < seen.revision
    if not one["alive"]:
        state = cells.pill(_("gone"), "bad")
    elif one["problem"]:
        state = cells.pill(_("cannot read the registry"), "bad", one["problem"])
    elif behind:
        state = cells.pill(_("behind"), "warn", _("It follows within a second, or with its next word here."))
    else:
        state = cells.pill(_("up to date"), "good")
    return {
        "facts": one,
        "state": state,
        "seen": cells.ago(moment(one["at"])),
        "started": cells.ago(moment(one["started_at"])),
        "read": cells.ago(moment(one["read_at"])),
    }


def _clock(seen: Seen) -> dict[str, Any]:
    if seen.clock is None:
        return {"state": cells.pill(_("not seen"), "bad"), "why": _("Nothing that is due is sent: start celery beat.")}
    sent = moment(seen.clock["sent_at"])
    late = sent is None or timezone.now() - sent > timedelta(seconds=_CLOCK_LATE_SECONDS)
    tone = "bad" if late or not seen.clock["alive"] else "good"
    word = _("gone") if not seen.clock["alive"] else _("late") if late else _("ticks")
    return {"state": cells.pill(word, tone), "sent": cells.ago(sent), "task": _task_name(seen.clock["task"])}


def _task_name(name: str) -> str:
    return name.rsplit(".", 1)[-1].replace("_", " ")


def _took(seconds: float) -> str:
    return f"{seconds:.0f}\u202fs" if seconds < 120 else f"{seconds / 60:.0f}\u202fmin"


def size(count: float) -> str:
    """`96 MB`, `4.0 GB`."""
    megabytes = count / _MEGABYTE
    return f"{megabytes / 1024:.1f}\u202fGB" if megabytes >= 1024 else f"{megabytes:.0f}\u202fMB"


def _twins() -> list[tuple[str, str]]:
    return [
        ("REST", 'curl "$GATEWAY/api/v1/workers" -H "Authorization: Bearer $ADMIN_KEY"'),
        (
            _("Pause a worker over REST"),
            'curl -X POST "$GATEWAY/api/v1/workers/$WORKER/pause" -H "Authorization: Bearer $ADMIN_KEY" \\\n'
            '  -H "Content-Type: application/json" -d \'{"queue": "generation"}\'',
        ),
        (_("Command"), "manage.py workers\nmanage.py workers --pause worker1@host --queue generation"),
    ]


pages.register("workers/", "workers", workers_view)
pages.register("workers/ask/", "workers-ask", ask_view)
