"""Background jobs in the admin: how they stand, what became of each, and the ways to end one or to ask again.

What was asked and answered is shown on a page of its own, to those who may read it.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.decorators import method_decorator
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST

from inference import events, job_lists, jobs, live_lists
from inference.errors import GatewayError
from inference.models import Job, Trace
from providers import audit, cells, pages
from providers.tables import ReadOnlyAdmin
from routing import visibility
from routing.models import ClientKey

LIST = "admin:inference_job_changelist"
MAY_ACT = "inference.change_job"
_READS_CONTENT = "inference.view_tracecontent"
STATES = (
    ("", gettext_lazy("All")),
    ("queued", gettext_lazy("Waiting")),
    ("running", gettext_lazy("Running")),
    ("succeeded", gettext_lazy("Succeeded")),
    ("failed", gettext_lazy("Failed")),
    ("cancelled", gettext_lazy("Cancelled")),
)
_TONES = {"succeeded": "good", "failed": "bad", "running": "info"}


@admin.register(Job)
class JobAdmin(ReadOnlyAdmin):
    """Its pages are its own, as those of requests are."""

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        return job_lists.visible(request.user)

    def get_urls(self) -> list[Any]:
        own = [
            path("<uuid:job_id>/cancel/", self.admin_site.admin_view(self.cancel), name="inference_job_cancel"),
            path("<uuid:job_id>/retry/", self.admin_site.admin_view(self.retry), name="inference_job_retry"),
        ]
        return own + super().get_urls()

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        asked = {name: request.GET.get(name, "").replace("\0", "").strip() for name in ("state", "key", "model")}
        words = {name: told for name, told in asked.items() if told}
        cursor, problem = request.GET.get("cursor", ""), ""
        if words.get("state") not in dict(STATES):
            words.pop("state", None)
        try:
            found = job_lists.page(self.get_queryset(request), cursor=cursor, **words)
        except job_lists.BadCursor:
            found, problem = job_lists.Page([], {}, {}), _("This address leads to no page of the list any more.")
        context = {
            "rows": [_row(job, found) for job in found.rows],
            "searched": bool(words),
            "problem": problem,
        }
        if "X-Fragment" in request.headers:
            return TemplateResponse(request, "admin/jobs/rows.html", context)
        return self._shown(
            request,
            "admin/jobs/list.html",
            {
                "title": _("Jobs"),
                **context,
                **live_lists.ways(reverse(LIST), STATES, words, cursor=cursor, older=found.cursor),
                "twins": [
                    ("REST", f'curl "$GATEWAY/api/v1/jobs?{urlencode(words)}" -H "Authorization: Bearer $ADMIN_KEY"'),
                    (_("Command"), " ".join(["manage.py jobs", *_options(words)])),
                ],
                **(extra_context or {}),
            },
        )

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        job, reads = self._job(request, object_id), request.user.has_perm(_READS_CONTENT)  # type: ignore[union-attr]
        here = reverse("admin:inference_job_change", args=[job.pk])
        tab = "content" if request.GET.get("tab") == "content" else "timeline"
        noted, pieces = events.summary(settings.REDIS_URL, job.pk)
        request_id = jobs.request_id(job.pk)
        return self._shown(
            request,
            "admin/jobs/detail.html",
            {
                "title": _("Job"),
                "above": [(_("Jobs"), reverse(LIST))],
                "crumb": str(job.pk),
                "job": job,
                "key": ClientKey.objects.filter(prefix=job.owner).first(),
                "state": _state(job),
                "failure": failure(job),
                "created": cells.ago(job.created_at),
                "took": _took(job),
                "waited": _waited(job),
                "pieces": pieces,
                "happened": _happened(job, noted),
                "trace": Trace.objects.filter(request_id=request_id).exists() and request_id,
                "may_act": request.user.has_perm(MAY_ACT),  # type: ignore[union-attr]
                "workers": reverse("admin:workers") if visibility.sees_everything(request.user) else "",
                "tab": tab,
                "tabs": [
                    ("timeline", _("Timeline"), here),
                    ("content", _("Request and answer"), f"{here}?tab=content"),
                ],
                "may_read": reads,
                "said": _said(job.pk) if tab == "content" and reads else None,
                "live": "" if job.is_over or tab == "content" else here,
                "live_seconds": live_lists.SECONDS,
                "twins": _twins(job),
                **(extra_context or {}),
            },
        )

    # Acts

    @method_decorator(require_POST)
    def cancel(self, request: HttpRequest, job_id: Any) -> HttpResponse:
        job = self._acted_on(request, job_id)
        if job.is_over:
            messages.info(request, _("The job was over already."))
        else:
            audit.record("cancel", "job", str(job.pk), before={"state": job.state}, after=None)
            over = jobs.cancel(job).is_over
            messages.success(request, _("The job is cancelled.") if over else _("The job ends within a second or two."))
        return HttpResponseRedirect(reverse("admin:inference_job_change", args=[job.pk]))

    @method_decorator(require_POST)
    def retry(self, request: HttpRequest, job_id: Any) -> HttpResponse:
        job = self._acted_on(request, job_id)
        try:
            again = jobs.retry(Job.objects.get(pk=job.pk))
        except GatewayError as error:
            messages.error(request, error.message)
        except ValueError:
            messages.error(request, _("The job is not over yet."))
        else:
            audit.record("retry", "job", str(job.pk), before=None, after={"job": str(again.pk)})
            messages.success(request, _("This is a new job that asks the same, in the name of the same key."))
            return HttpResponseRedirect(reverse("admin:inference_job_change", args=[again.pk]))
        return HttpResponseRedirect(reverse("admin:inference_job_change", args=[job.pk]))

    def _acted_on(self, request: HttpRequest, job_id: Any) -> Job:
        if not request.user.has_perm(MAY_ACT):  # type: ignore[union-attr]
            raise PermissionDenied
        return self._job(request, job_id)

    def _job(self, request: HttpRequest, job_id: Any) -> Job:
        try:
            job = self.get_queryset(request).filter(pk=job_id).first()
        except ValidationError:
            job = None
        if job is None:
            raise Http404("There is no such job.")
        return job

    def _shown(self, request: HttpRequest, template: str, context: dict[str, Any]) -> HttpResponse:
        return pages.render(request, template, context)


def _options(words: Mapping[str, str]) -> list[str]:
    return [f"--{name} {shlex.quote(value)}" for name, value in words.items()]


def failure(job: Job) -> str:
    """Its code and status: an upstream's sentence may quote the prompt."""
    if not isinstance(job.error, dict):
        return ""
    details = job.error.get("details")
    status = details.get("status") if isinstance(details, dict) else None
    return " ".join([str(job.error.get("code", "")), *([f"(status {status})"] if status else [])])


def _state(job: Job) -> Any:
    words = {str(state): str(label).lower() for state, label in STATES if state}
    if job.state == Job.State.RUNNING and job.cancel_requested:
        return cells.pill(_("Ending"), "warn", _("Somebody cancelled it; its worker stops within a second."))
    return cells.pill(words.get(job.state, job.state), _TONES.get(job.state, ""), failure(job))


def _row(job: Any, page: job_lists.Page) -> dict[str, Any]:
    return {
        "job": job,
        "name": page.keys.get(job.owner, ""),
        "state": _state(job),
        "failure": failure(job),
        "created": cells.ago(job.created_at),
        "took": _took(job),
        "waited": _waited(job),
        "pieces": page.pieces.get(job.pk),
        "size": _size(job.result_size) if job.state == Job.State.SUCCEEDED else "",
    }


def _took(job: Job) -> Any:
    """From its start to its end, or until now."""
    end = job.finished_at or (datetime.now(UTC) if job.state == Job.State.RUNNING else None)
    return cells.milliseconds((end - job.started_at).total_seconds() * 1000 if end and job.started_at else None)


def _waited(job: Job) -> Any:
    until = job.started_at or job.finished_at or datetime.now(UTC)
    return cells.milliseconds(max(0.0, (until - job.created_at).total_seconds() * 1000))


def _size(characters: int | None) -> str:
    if not characters:
        return ""
    return f"{characters / 1024:.1f}\u202fkB" if characters >= 1024 else f"{characters}\u202fB"


def _happened(job: Job, noted: list[events.Event]) -> list[tuple[datetime, str, str]]:
    """When, what, and more about it; from the row, and from the log while that is kept."""
    told: list[tuple[datetime, str, str]] = [(job.created_at, _("asked for"), "")]
    for event in noted:
        at = datetime.fromtimestamp(int(event.id.partition("-")[0]) / 1000, UTC)
        if event.kind in ("running", "restarted"):
            attempt = json.loads(event.data or b"{}").get("attempt", "")
            words = _("a worker took it") if event.kind == "running" else _("another worker took it anew")
            told.append((at, words, _("attempt %(n)s") % {"n": attempt}))
    if job.started_at is not None and not any(event.kind in ("running", "restarted") for event in noted):
        told.append((job.started_at, _("a worker took it"), ""))
    if job.finished_at is not None:
        words = dict(STATES)[job.state]
        told.append((job.finished_at, str(words).lower(), failure(job)))
    return [(at, what, more) for at, what, more in sorted(told, key=lambda one: one[0])]


def _said(job_id: Any) -> dict[str, str]:
    job = Job.objects.get(pk=job_id)
    asked = {name: value for name, value in job.request.items() if name != "extensions"}
    shown = {"request": asked, "result": job.result, "error": job.error}
    return {
        name: json.dumps(value, indent=2, ensure_ascii=False) if value is not None else ""
        for name, value in shown.items()
    }


def _twins(job: Job) -> list[tuple[str, str]]:
    auth = '-H "Authorization: Bearer $ADMIN_KEY"'
    return [
        ("REST", f'curl "$GATEWAY/api/v1/jobs/{job.pk}" {auth}'),
        (_("Cancel, or ask again"), f'curl -X POST "$GATEWAY/api/v1/jobs/{job.pk}/cancel" {auth}   # or /retry'),
        (_("Command"), f"manage.py jobs --cancel {job.pk}   # or --retry"),
    ]
