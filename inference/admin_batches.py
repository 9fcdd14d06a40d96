"""Batches in the admin: how far each is, what it cost so far, what holds it; and the way to end one.

What was asked and answered is a file that only those may fetch who may read it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, StreamingHttpResponse
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.decorators import method_decorator
from django.utils.http import content_disposition_header
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_GET, require_POST

from inference import batch_lists, batch_looks, batches, kept_files, live_lists
from inference.batch_models import Batch
from inference.file_models import KeptFile
from providers import audit, cells, pages
from providers.tables import ReadOnlyAdmin
from routing.models import ClientKey

LIST = "admin:inference_batch_changelist"
MAY_ACT = "inference.change_batch"
_READS_CONTENT = "inference.view_tracecontent"
STATES = (
    ("", gettext_lazy("All")),
    (batch_lists.WORKING, gettext_lazy("Working")),
    ("completed", gettext_lazy("Completed")),
    ("failed", gettext_lazy("Failed")),
    ("expired", gettext_lazy("Expired")),
    ("cancelled", gettext_lazy("Cancelled")),
)
_FILES = ("input", "output", "error")
_MOST_ERRORS_SHOWN = 50


@admin.register(Batch)
class BatchAdmin(ReadOnlyAdmin):
    """Its pages are its own, as those of jobs are."""

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        return batch_lists.visible(request.user)

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view
        own = [
            path("<str:batch_id>/cancel/", view(self.cancel), name="inference_batch_cancel"),
            path("<str:batch_id>/file/", view(self.file), name="inference_batch_file"),
        ]
        return own + super().get_urls()

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        asked = {name: request.GET.get(name, "").replace("\0", "").strip() for name in ("state", "key")}
        words = {name: told for name, told in asked.items() if told}
        if words.get("state") not in dict(STATES):
            words.pop("state", None)
        cursor = request.GET.get("cursor", "").replace("\0", "")
        found = batch_lists.page(self.get_queryset(request), cursor=cursor, **words)
        context = {"rows": [_row(batch, found.keys) for batch in found.rows], "searched": bool(words or cursor)}
        if "X-Fragment" in request.headers:
            return TemplateResponse(request, "admin/batches/rows.html", context)
        return pages.render(
            request,
            "admin/batches/list.html",
            {
                "title": _("Batches"),
                **context,
                **live_lists.ways(reverse(LIST), STATES, words, cursor=cursor, older=found.cursor),
                "twins": [
                    ("REST", 'curl "$GATEWAY/v1/batches" -H "Authorization: Bearer $CLIENT_KEY"'),
                    (_("Command"), "manage.py batches list"),
                ],
                **(extra_context or {}),
            },
        )

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        batch = self._batch(request, object_id)
        reads = request.user.has_perm(_READS_CONTENT)  # type: ignore[union-attr]
        here = reverse("admin:inference_batch_change", args=[batch.pk])
        context = {
            "batch": batch,
            "row": _row(batch, {}),
            "key": ClientKey.objects.filter(prefix=batch.owner).first(),
            "held": batch_looks.HELD.get(batch.held, ""),
            "tokens": cells.number(batch.input_tokens + batch.output_tokens),
            "errors": (batch.errors or [])[:_MOST_ERRORS_SHOWN],
            "files": _files(batch) if reads else [],
            "may_read": reads,
            "may_act": request.user.has_perm(MAY_ACT),  # type: ignore[union-attr]
            "requests": f"{reverse('admin:inference_trace_changelist')}?{urlencode({'tag': f'batch:{batch.pk}'})}",
        }
        if "X-Fragment" in request.headers:
            return TemplateResponse(request, "admin/batches/standing.html", context)
        auth = '-H "Authorization: Bearer $CLIENT_KEY"'
        return pages.render(
            request,
            "admin/batches/detail.html",
            {
                "title": _("Batch"),
                "above": [(_("Batches"), reverse(LIST))],
                "crumb": batch.pk,
                **context,
                "live": "" if batch.is_over else here,
                "live_seconds": live_lists.SECONDS,
                "twins": [
                    ("REST", f'curl "$GATEWAY/v1/batches/{batch.pk}" {auth}'),
                    (_("Cancel"), f'curl -X POST "$GATEWAY/v1/batches/{batch.pk}/cancel" {auth}'),
                    (_("Command"), f"manage.py batches show {batch.pk}   # or cancel"),
                ],
                **(extra_context or {}),
            },
        )

    @method_decorator(require_POST)
    def cancel(self, request: HttpRequest, batch_id: str) -> HttpResponse:
        if not request.user.has_perm(MAY_ACT):  # type: ignore[union-attr]
            raise PermissionDenied
        batch = self._batch(request, batch_id)
        if batch.is_over:
            messages.info(request, _("The batch was over already."))
        else:
            if batch.state in Batch.CANCELLABLE:
                audit.record("cancel", "batch", batch.pk, before={"state": batch.state}, after=None)
            batches.cancel(batch)
            messages.success(request, _("No further line is begun. What is answered is kept in its files."))
        return HttpResponseRedirect(reverse("admin:inference_batch_change", args=[batch.pk]))

    @method_decorator(require_GET)
    def file(self, request: HttpRequest, batch_id: str) -> HttpResponse | StreamingHttpResponse:
        """Its input, output or error file."""
        if not self.has_view_permission(request) or not request.user.has_perm(_READS_CONTENT):  # type: ignore[union-attr]
            raise PermissionDenied
        batch = self._batch(request, batch_id)
        name = request.GET.get("which", "output")
        found = _file(batch, name) if name in _FILES else None
        if found is None:
            raise Http404("There is no such file.")
        response = StreamingHttpResponse(kept_files.to_send(request, found.pk), content_type="application/x-ndjson")
        response["Content-Length"] = str(found.size)
        response["Content-Disposition"] = content_disposition_header(True, found.filename)
        return response

    def _batch(self, request: HttpRequest, batch_id: str) -> Batch:
        batch = self.get_queryset(request).filter(pk=batch_id).first()
        if batch is None:
            raise Http404("There is no such batch.")
        return batch


def _file(batch: Batch, name: str) -> KeptFile | None:
    file_id = getattr(batch, f"{name}_file_id")
    return KeptFile.objects.filter(pk=file_id, ready=True).first() if file_id else None


def _files(batch: Batch) -> list[tuple[Any, KeptFile, str]]:
    labels = {"input": _("Input"), "output": _("Output"), "error": _("Errors")}
    here = reverse("admin:inference_batch_file", args=[batch.pk])
    found = ((name, _file(batch, name)) for name in _FILES)
    return [(labels[name], file, f"{here}?which={name}") for name, file in found if file is not None]


def _row(batch: Batch, names: dict[str, str]) -> dict[str, Any]:
    return {
        "batch": batch,
        "name": names.get(batch.owner, ""),
        "state": batch_looks.state(batch),
        "percent": batch_lists.percent(batch),
        "answered": batch_lists.answered(batch),
        "cost": cells.money(batch.cost, "USD"),
        "created": cells.ago(batch.created_at),
        "took": _took(batch),
        "priority": batch.get_priority_display(),
    }


def _took(batch: Batch) -> Any:
    """Since its lines began to be answered, to its end or until now."""
    end = batch.ended_at or datetime.now(UTC)
    began = batch.in_progress_at
    return cells.milliseconds(None if began is None else (end - began).total_seconds() * 1000)
