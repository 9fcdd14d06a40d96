"""The audit log in the admin: who changed what, before and after, and whether the chain of entries is whole."""

from __future__ import annotations

import itertools
import json
from typing import Any

from django.contrib import admin
from django.core.cache import cache
from django.http import Http404, HttpRequest, HttpResponse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from providers import audit, cells
from providers.models import AuditEntry, AuditHead
from providers.tables import ReadOnlyAdmin

MOST_VERIFIED_AT_ONCE = 20_000
"""Entries up to which opening the audit list verifies the chain; a longer one is verified on demand."""


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnlyAdmin):
    list_display = ("when", "actor", "what", "target", "changed", "request_id")
    list_filter = ("action", "target_type")
    search_fields = ("actor", "target_id", "request_id")
    search_help_text = "Search by actor, object or request id"
    ordering = ("-id",)
    list_before_template = "admin/providers/auditentry/chain.html"
    change_form_template = "admin/providers/auditentry/entry.html"

    @admin.display(description="When", ordering="id")
    def when(self, entry: AuditEntry) -> SafeString:
        return cells.ago(entry.at)

    @admin.display(description="Action", ordering="action")
    def what(self, entry: AuditEntry) -> SafeString:
        return cells.pill(entry.action, {"create": "good", "delete": "bad"}.get(entry.action, "warn"))

    @admin.display(description="Object")
    def target(self, entry: AuditEntry) -> SafeString:
        return format_html(
            '<span class="gw-name"><strong>{}</strong><small>{}</small></span>', entry.target_id, entry.target_type
        )

    @admin.display(description="Changed")
    def changed(self, entry: AuditEntry) -> str:
        names = [name for name, _, _ in difference_of(entry)]
        return ", ".join(names[:4]) + (f" +{len(names) - 4}" if len(names) > 4 else "")

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        chain = _chain_state(asked="verify" in request.GET)
        if "verify" in request.GET:
            query = request.GET.copy()
            del query["verify"]
            request.GET = query  # type: ignore[assignment]
        return super().changelist_view(request, {"chain": chain, **(extra_context or {})})

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        entry = self.get_object(request, object_id)
        if entry is None:
            raise Http404
        shown = {"entry": entry, "difference": difference_of(entry)}
        return super().change_view(request, object_id, form_url, {**shown, **(extra_context or {})})


def difference_of(entry: AuditEntry) -> list[tuple[str, str | None, str | None]]:
    """Name, before and after of every fact that the entry says has changed."""
    before = entry.before if isinstance(entry.before, dict) else {}
    after = entry.after if isinstance(entry.after, dict) else {}
    return [
        (name, _shown(before, name), _shown(after, name))
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name) or (name in before) != (name in after)
    ]


def _shown(facts: dict[str, Any], name: str) -> str | None:
    if name not in facts:
        return None
    value = facts[name]
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)


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
