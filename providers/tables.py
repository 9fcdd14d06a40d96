"""How the admin's tables behave: rows that are only read, and selections that are deleted, switched on or switched off."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from unfold.admin import ModelAdmin
from unfold.paginator import InfinitePaginator

from providers.ownership import OwnedByFile, owner_of_all

ROWS_PER_PAGE = 50
FULL_ROWS_PER_PAGE = 25
"""Of rows with figures and buttons, which take milliseconds each to draw."""


class ReadOnlyAdmin(ModelAdmin):
    """Rows that the product writes and people only read. They grow without end, so they are paged without a total."""

    paginator = InfinitePaginator
    show_full_result_count = False
    list_per_page = ROWS_PER_PAGE
    list_fullwidth = True

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class RegistryAdmin(ModelAdmin):
    """Deletes a selection row by row, so that every entry of the audit log holds what went with the row.

    What a configuration file owns is only shown, with the file's name, and actions pass it over.
    """

    list_per_page = FULL_ROWS_PER_PAGE
    list_fullwidth = True
    harmless_actions: frozenset[str] = frozenset()
    """Actions that change no row, so they are for owned ones too."""

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """What a form writes is held: it saves the row whole, with what it does not show, such as whether a key is revoked."""
        row = super().get_object(request, object_id, from_field)
        if row is None or request.method != "POST" or not transaction.get_connection().in_atomic_block:
            return row
        self.model._base_manager.select_for_update().order_by().filter(pk=row.pk).values_list("pk").first()
        return super().get_object(request, object_id, from_field)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_change_permission(request, obj) and not getattr(obj, "managed_by", "")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_delete_permission(request, obj) and not (obj is not None and owner_of_all(obj))

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> Any:
        if path := getattr(kwargs.get("obj"), "managed_by", ""):
            self.message_user(request, _("Read-only: %(why)s") % {"why": OwnedByFile(path)}, messages.INFO)
        return super().render_change_form(request, context, *args, **kwargs)

    def response_action(self, request: HttpRequest, queryset: QuerySet) -> Any:
        names = {field.name for field in self.model._meta.concrete_fields}
        if "managed_by" in names and request.POST.get("action") not in self.harmless_actions:
            chosen = request.POST.getlist("_selected_action")
            owned = self.model._default_manager.exclude(managed_by="")
            if request.POST.get("select_across") != "1":
                owned = owned.filter(pk__in=chosen)
            if paths := sorted(set(owned.values_list("managed_by", flat=True))):
                told = _("Rows of the selection that a configuration file owns stay as they are: %(paths)s.")
                self.message_user(request, told % {"paths": ", ".join(paths)}, messages.WARNING)
            queryset = queryset.filter(managed_by="")
        return super().response_action(request, queryset)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet) -> None:
        with transaction.atomic():
            for row in queryset:
                if path := owner_of_all(row):
                    told = _("%(row)s stays: %(why)s") % {"row": row, "why": OwnedByFile(path)}
                    self.message_user(request, told, messages.WARNING)
                else:
                    row.delete()


class SwitchableAdmin(RegistryAdmin):
    """Rows with a field `enabled`, which a selection's actions set."""

    actions = ("enable", "disable")

    @admin.action(description=_("Enable"), permissions=["change"])
    def enable(self, request: HttpRequest, queryset: QuerySet) -> None:
        self.message_user(
            request, _("%(count)s enabled.") % {"count": self.switch(queryset, on=True)}, messages.SUCCESS
        )

    @admin.action(description=_("Disable"), permissions=["change"])
    def disable(self, request: HttpRequest, queryset: QuerySet) -> None:
        self.message_user(
            request, _("%(count)s disabled.") % {"count": self.switch(queryset, on=False)}, messages.SUCCESS
        )

    def switch(self, queryset: QuerySet, *, on: bool) -> int:
        """Set the field, with an entry in the audit log for each row; returns how many were not so already."""
        with transaction.atomic():
            rows = list(queryset.filter(enabled=not on))
            for row in rows:
                row.enabled = on
                row.save(update_fields=["enabled"])
        return len(rows)
