"""What ran, to look at: requests with what they used, and background jobs. Prompts and answers are not shown here."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import F, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString

from inference import (
    admin_alerts,  # noqa: F401  (registers its pages)
    admin_cutover,  # noqa: F401  (registers its page)
    admin_explain,  # noqa: F401  (registers its page)
    admin_playground,  # noqa: F401  (registers its pages)
    admin_rating,  # noqa: F401  (registers its pages)
    admin_replay,  # noqa: F401  (registers its page)
    admin_saved_views,  # noqa: F401  (registers its page)
    admin_spend,  # noqa: F401  (registers its pages)
    admin_traces,  # noqa: F401  (registers its pages)
    admin_workers,  # noqa: F401  (registers its page)
)
from inference.models import Job
from providers import cells
from providers.tables import ReadOnlyAdmin
from routing import visibility
from routing.models import ClientKey


@admin.register(Job)
class JobAdmin(ReadOnlyAdmin):
    list_display = ("title", "state_cell", "model", "provider_id", "owner", "attempts", "created", "took")
    list_filter = ("state", "operation")
    search_fields = ("=owner", "=model")
    search_help_text = "Owner's key prefix or model, exactly"
    ordering = ("-created_at",)
    fields = (
        "id",
        "state",
        "operation",
        "model",
        "provider_id",
        "owner",
        "attempts",
        "failure",
        "cancel_requested",
        "created_at",
        "started_at",
        "finished_at",
        "leased_until",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        # Prompts and answers may be megabytes each and are nobody's business here.
        jobs = super().get_queryset(request).defer("request", "result").annotate(ran=F("finished_at") - F("started_at"))
        if visibility.sees_everything(request.user):
            return jobs
        return jobs.filter(owner__in=visibility.visible(ClientKey.objects.all(), request.user).values("prefix"))

    @admin.display(description="Job")
    def title(self, job: Job) -> SafeString:
        return format_html('<code class="gw-code" title="{}">{}</code>', job.pk, str(job.pk)[:8])

    @admin.display(description="State")
    def state_cell(self, job: Job) -> SafeString:
        tone = {"succeeded": "good", "failed": "bad", "running": "warn"}.get(job.state, "")
        return cells.pill(job.state, tone, self.failure(job))

    @admin.display(description="Error")
    def failure(self, job: Job) -> str:
        """Its code and status: an upstream's sentence may quote the prompt."""
        if not isinstance(job.error, dict):
            return ""
        details = job.error.get("details")
        status = details.get("status") if isinstance(details, dict) else None
        return " ".join([str(job.error.get("code", "")), *([f"(status {status})"] if status else [])])

    @admin.display(description="Created", ordering="created_at")
    def created(self, job: Job) -> SafeString:
        return cells.ago(job.created_at)

    @admin.display(description="Took")
    def took(self, job: Any) -> SafeString:
        return cells.milliseconds(job.ran.total_seconds() * 1000 if job.ran is not None else None)
