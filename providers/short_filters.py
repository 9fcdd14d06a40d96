"""A filter by another row that stays short: of a thousand providers nobody picks one from a list, the search finds it."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Field
from django.http import HttpRequest

MOST = 100


class ShortRelatedFilter(admin.RelatedFieldListFilter):
    """Lists the other rows as long as they are few; beyond that only the one that was chosen, by a link from elsewhere."""

    def field_choices(self, field: Field, request: HttpRequest, model_admin: Any) -> list[tuple[Any, str]]:
        ordering = self.field_admin_ordering(field, request, model_admin)
        rows = field.related_model._default_manager.order_by(*ordering)
        some = list(rows[: MOST + 1])
        if len(some) > MOST:
            chosen = [value for value in self.lookup_val or () if str(value).isdigit()]
            some = list(rows.filter(pk__in=chosen))
        return [(row.pk, str(row)) for row in some]

    def has_output(self) -> bool:
        return bool(self.lookup_choices)
