"""The audit log in the admin: who changed what, before and after, and whether the chain of entries is whole."""

from __future__ import annotations

import functools
import itertools
import shlex
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.cache import cache
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect
from django.urls import path
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from providers import audit, audit_files, cells, streaming
from providers.models import AuditEntry, AuditHead, RegistryModel
from providers.tables import ReadOnlyAdmin

MOST_VERIFIED_AT_ONCE = 20_000
"""Entries up to which opening the audit list verifies the chain; a longer one is verified on demand."""
_TONES = {"create": "good", "delete": "bad", "open": "bad", "reveal": "bad"}
_SPANS = {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(days=7), "month": timedelta(days=30)}
_NOTHING = ("", "null", "[]", "{}")
_NARROWS = ("action", "target_type", "since")


class ActionFilter(admin.SimpleListFilter):
    """Of known words: to ask a long table for the different ones in it would read all of it."""

    title = gettext_lazy("action")
    parameter_name = "action"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [
            ("create", gettext_lazy("create")),
            ("update", gettext_lazy("update")),
            ("delete", gettext_lazy("delete")),
            ("reveal", gettext_lazy("reveal")),
            ("rotate", gettext_lazy("rotate")),
            ("reset", gettext_lazy("reset")),
            ("import", gettext_lazy("import")),
            ("undo import", gettext_lazy("undo import")),
            ("acknowledge", gettext_lazy("acknowledge")),
            ("open", gettext_lazy("open")),
            ("cancel", gettext_lazy("cancel")),
            ("retry", gettext_lazy("retry")),
            ("drop", gettext_lazy("drop")),
            ("unload", gettext_lazy("unload")),
            ("invite", gettext_lazy("invite")),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        return queryset.filter(action=self.value()) if self.value() else queryset


class KindFilter(admin.SimpleListFilter):
    title = gettext_lazy("kind of object")
    parameter_name = "target_type"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return sorted(_kinds().items(), key=lambda told: str(told[1]))

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        return queryset.filter(target_type=self.value()) if self.value() else queryset


class SinceFilter(admin.SimpleListFilter):
    title = gettext_lazy("time")
    parameter_name = "since"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [
            ("hour", gettext_lazy("the last hour")),
            ("day", gettext_lazy("the last day")),
            ("week", gettext_lazy("the last seven days")),
            ("month", gettext_lazy("the last thirty days")),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        span = _SPANS.get(self.value() or "")
        return queryset.filter(at__gte=timezone.now() - span) if span is not None else queryset


def _audited(model: type) -> list[Any]:
    found = []
    for below in model.__subclasses__():
        found += _audited(below) if below._meta.abstract else [below]
    return found


@functools.cache
def _kinds() -> dict[str, Any]:
    """What people call each kind of row that entries are about."""
    rows = {model._meta.model_name: model._meta.verbose_name for model in _audited(RegistryModel)}
    return {**rows, "user": gettext_lazy("user")}


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnlyAdmin):
    list_display = ("when", "who", "what", "target", "changed", "why", "request_cell")
    list_filter = (ActionFilter, KindFilter, SinceFilter)
    search_fields = ("actor", "target_id", "request_id")
    search_help_text = gettext_lazy("Search by actor, object or request id")
    ordering = ("-id",)
    list_before_template = "admin/providers/auditentry/chain.html"
    list_after_template = "gateway/twins.html"
    change_form_template = "admin/providers/auditentry/entry.html"

    @admin.display(description=gettext_lazy("When"), ordering="id")
    def when(self, entry: AuditEntry) -> SafeString:
        return cells.ago(entry.at)

    @admin.display(description=gettext_lazy("Who"), ordering="actor")
    def who(self, entry: AuditEntry) -> SafeString:
        kind, colon, name = entry.actor.partition(":")
        if not colon:
            return format_html("{}", entry.actor)
        return format_html('<span class="gw-name"><strong>{}</strong><small>{}</small></span>', name, kind)

    @admin.display(description=gettext_lazy("Action"), ordering="action")
    def what(self, entry: AuditEntry) -> SafeString:
        return cells.pill(entry.action, _TONES.get(entry.action, "warn"))

    @admin.display(description=gettext_lazy("Object"))
    def target(self, entry: AuditEntry) -> SafeString:
        return format_html(
            '<span class="gw-name"><strong>{}</strong><small>{}</small></span>',
            entry.target_id,
            _kinds().get(entry.target_type, entry.target_type),
        )

    @admin.display(description=gettext_lazy("Changed"))
    def changed(self, entry: AuditEntry) -> SafeString:
        """The one value that changed as before and after, of several their names."""
        found = audit_files.difference(entry)
        if entry.action == "update" and len(found) == 1:
            name, before, after = found[0]
            return format_html(
                '<span class="gw-audit-one" title="{0}">{0}: <del>{1}</del> <ins>{2}</ins></span>',
                name,
                (before or "–")[:40],
                (after or "–")[:40],
            )
        if entry.action in ("create", "delete"):
            count = sum(told[2 if entry.action == "create" else 1] not in (None, *_NOTHING) for told in found)
            told = ngettext("%(count)d fact", "%(count)d facts", count) % {"count": count}
            return format_html('<span class="gw-quiet">{}</span>', told)
        names = [name for name, *_ in found]
        return format_html(
            '<span title="{}">{}{}</span>',
            ", ".join(names),
            ", ".join(names[:3]),
            f" +{len(names) - 3}" if len(names) > 3 else "",
        )

    @admin.display(description=gettext_lazy("Why"))
    def why(self, entry: AuditEntry) -> Any:
        if not entry.reason:
            return cells.EMPTY
        return format_html('<span class="gw-audit-why" title="{0}">{0}</span>', entry.reason)

    @admin.display(description=gettext_lazy("Request"), ordering="request_id")
    def request_cell(self, entry: AuditEntry) -> Any:
        if not entry.request_id:
            return cells.EMPTY
        return format_html('<code class="gw-code" title="{}">{}</code>', entry.request_id, entry.request_id[-8:])

    def get_urls(self) -> list[Any]:
        own = [
            path("export/", self.admin_site.admin_view(self.export_view), name="providers_auditentry_export"),
        ]
        return own + super().get_urls()

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        chain = _chain_state(asked="verify" in request.GET)
        if "verify" in request.GET:
            query = request.GET.copy()
            del query["verify"]
            request.GET = query  # type: ignore[assignment]
        shown = {"chain": chain, "filters": request.GET.urlencode(), "twins": _twins(request)}
        return super().changelist_view(request, {**shown, **(extra_context or {})})

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        entry = self.get_object(request, object_id)
        if entry is None:
            raise Http404
        found = audit_files.difference(entry)
        same = AuditEntry.objects.filter(target_type=entry.target_type, target_id=entry.target_id)
        shown = {
            "entry": entry,
            "title": f"{entry.action} {entry.target_type} {entry.target_id}",
            "tone": _TONES.get(entry.action, "warn"),
            "difference": [told for told in found if entry.before is not None or told[2] not in _NOTHING],
            "empty": sum(entry.before is None and told[2] in _NOTHING for told in found),
            "whole": audit.stands_as_written(entry),
            "before": same.filter(pk__lt=entry.pk).order_by("-pk").first(),
            "after": same.filter(pk__gt=entry.pk).order_by("pk").first(),
        }
        return super().change_view(request, object_id, form_url, {**shown, **(extra_context or {})})

    def export_view(self, request: HttpRequest) -> HttpResponse | StreamingHttpResponse:
        """What the list shows, by the same filters, as a file; what the list does not understand leads back to it."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        file_format = "json" if request.GET.get("format") == "json" else "csv"
        query = request.GET.copy()
        query.pop("format", None)
        request.GET = query  # type: ignore[assignment]
        try:
            rows = self.get_changelist_instance(request).queryset.order_by("-id")
        except IncorrectLookupParameters:
            return redirect("admin:providers_auditentry_changelist")
        parts = streaming.parts_for(request, streaming.together(audit_files.lines(rows, file_format)))
        kinds = {"csv": "text/csv; charset=utf-8", "json": "application/x-ndjson; charset=utf-8"}
        response = StreamingHttpResponse(parts, content_type=kinds[file_format])
        response["Content-Disposition"] = f'attachment; filename="audit.{file_format}"'
        return response


def _chain_state(*, asked: bool) -> dict[str, Any]:
    """Whether the chain of entries is whole. A long one is only walked when somebody asks; the finding is kept a minute."""
    head = AuditHead.objects.filter(pk=1).first()
    length = head.last_id if head else 0
    kept = f"audit-chain:{length}:{head.last_hash if head else ''}"
    found = None if asked else cache.get(kept)
    if found is None and (asked or length <= MOST_VERIFIED_AT_ONCE):
        found = [finding.finding for finding in itertools.islice(audit.verify(), 5)]
        cache.set(kept, found, 60)
    return {"length": length, "checked": found is not None, "findings": found or []}


def _twins(request: HttpRequest) -> list[tuple[str, str]]:
    base, key = request.build_absolute_uri("/api/v1/audit"), '-H "Authorization: Bearer $ADMIN_KEY"'
    asked = {name: request.GET[name] for name in _NARROWS[:2] if request.GET.get(name)}
    flags = "".join(f" --{name.replace('target_type', 'type')} {shlex.quote(value)}" for name, value in asked.items())
    query = f"&{urlencode(asked)}" if asked else ""
    http = _("The same over HTTP")
    return [
        (_("These entries"), f"python manage.py audit list{flags}"),
        (http, f'curl {key} "{base}?limit=50{query}"'),
        (_("As a file"), f"python manage.py audit export{flags} > audit.csv"),
        (http, f'curl {key} "{base}/export?format=csv{query}" > audit.csv'),
        (_("Verify the chain"), "python manage.py audit verify"),
    ]
