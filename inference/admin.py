"""What ran, to look at: requests with what they used, and background jobs. Prompts and answers are not shown here."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.db.models import F, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from inference import (
    admin_cutover,  # noqa: F401  (registers its page)
    admin_explain,
    admin_replay,  # noqa: F401  (registers its page)
    explaining,
)
from inference.models import Job, Trace
from providers import cells
from providers.tables import ReadOnlyAdmin
from routing.rollout import GATEWAY, LEGACY


class StatusFilter(admin.SimpleListFilter):
    title = "outcome"
    parameter_name = "outcome"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("good", "answered"), ("bad", "failed"), ("retried", "rescued by another try")]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        if self.value() == "good":
            return queryset.filter(status__lt=400, error_code="")
        if self.value() == "bad":
            return queryset.exclude(status__lt=400, error_code="")
        if self.value() == "retried":
            return queryset.filter(status__lt=400, attempts__gt=1)
        return queryset


class SideFilter(admin.SimpleListFilter):
    title = "side of the parallel run"
    parameter_name = "side"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(GATEWAY, "this gateway"), (LEGACY, "the legacy side")]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        return queryset.filter(side=self.value()) if self.value() else queryset


@admin.register(Trace)
class UsageRecordAdmin(ReadOnlyAdmin):
    list_display = (
        "when",
        "what",
        "served_by",
        "outcome",
        "tries",
        "first_byte",
        "took",
        "overhead",
        "tokens_in",
        "tokens_out",
        "cost_cell",
        "key",
    )
    list_filter = (StatusFilter, "operation", "stream", SideFilter)
    search_fields = ("=request_id", "=requested_model", "=client_key_prefix")
    search_help_text = "Request id, model or key prefix, exactly"
    ordering = ("-id",)
    change_form_outer_before_template = "admin/explain/record.html"

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The row, below why it was served so."""
        row = Trace.objects.filter(pk=object_id).first() if object_id.isdigit() else None
        past = explaining.past_of(row) if row is not None and row.side != LEGACY else None
        shown = {"past": admin_explain.shown_past(past)} if past is not None else {}
        return super().change_view(request, object_id, form_url, {**shown, **(extra_context or {})})

    @admin.display(description="When", ordering="id")
    def when(self, row: Trace) -> SafeString:
        return cells.ago(row.at)

    @admin.display(description="Request")
    def what(self, row: Trace) -> SafeString:
        stream = ", streamed" if row.stream else ""
        return format_html(
            '<span class="gw-name"><strong>{}</strong><small title="{}">{}{}</small></span>',
            row.requested_model,
            row.request_id,
            row.operation,
            stream,
        )

    @admin.display(description="Served by")
    def served_by(self, row: Trace) -> Any:
        if row.side == LEGACY:
            return "the legacy side"
        name = f"{row.provider_id}/{row.model_id}" if row.provider_id else "nobody"
        link = f"{reverse('admin:explain')}?{urlencode({'trace': row.request_id})}"
        return format_html('<a class="gw-link" href="{}" title="Why it was served so">{}</a>', link, name)

    @admin.display(description="Outcome")
    def outcome(self, row: Trace) -> SafeString:
        if row.status < 400 and not row.error_code:
            return cells.pill(str(row.status), "good")
        return cells.pill(f"{row.status} {row.error_code}".strip(), "bad" if row.status >= 500 else "warn")

    @admin.display(description="Tries")
    def tries(self, row: Trace) -> SafeString:
        return cells.number(row.attempts)

    @admin.display(description="First byte")
    def first_byte(self, row: Trace) -> SafeString:
        return cells.milliseconds(row.first_byte_ms)

    @admin.display(description="Took")
    def took(self, row: Trace) -> SafeString:
        return cells.milliseconds(row.duration_ms)

    @admin.display(description="Overhead")
    def overhead(self, row: Trace) -> SafeString:
        return cells.milliseconds(row.overhead_ms)

    @admin.display(description="In")
    def tokens_in(self, row: Trace) -> SafeString:
        return cells.number(row.input_tokens)

    @admin.display(description="Out")
    def tokens_out(self, row: Trace) -> SafeString:
        return cells.number(row.output_tokens)

    @admin.display(description="Cost")
    def cost_cell(self, row: Trace) -> SafeString:
        return cells.money(row.cost, row.currency)

    @admin.display(description="Key")
    def key(self, row: Trace) -> Any:
        return row.client_key_prefix or cells.EMPTY


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
        "error",
        "cancel_requested",
        "created_at",
        "started_at",
        "finished_at",
        "leased_until",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        # Prompts and answers may be megabytes each and are nobody's business here.
        return super().get_queryset(request).defer("request", "result").annotate(ran=F("finished_at") - F("started_at"))

    @admin.display(description="Job")
    def title(self, job: Job) -> SafeString:
        return format_html('<code class="gw-code" title="{}">{}</code>', job.pk, str(job.pk)[:8])

    @admin.display(description="State")
    def state_cell(self, job: Job) -> SafeString:
        tone = {"succeeded": "good", "failed": "bad", "running": "warn"}.get(job.state, "")
        why = str((job.error or {}).get("message", "")) if isinstance(job.error, dict) else ""
        return cells.pill(job.state, tone, why)

    @admin.display(description="Created", ordering="created_at")
    def created(self, job: Job) -> SafeString:
        return cells.ago(job.created_at)

    @admin.display(description="Took")
    def took(self, job: Any) -> SafeString:
        return cells.milliseconds(job.ran.total_seconds() * 1000 if job.ran is not None else None)
