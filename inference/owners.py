"""Whose a row is that names the client key which asked: `owner`, the key's prefix. The row outlives the key."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from django.db.models import Model, QuerySet

from routing import visibility
from routing.models import ClientKey

M = TypeVar("M", bound=Model)


def visible(rows: QuerySet[M], user: Any) -> QuerySet[M]:
    """Those that a user of the admin sees."""
    if visibility.sees_everything(user):
        return rows
    return rows.filter(owner__in=visibility.visible(ClientKey.objects.all(), user).values("prefix"))


def names(rows: Iterable[Any]) -> dict[str, str]:
    """Of the owners, by prefix."""
    found = ClientKey.objects.filter(prefix__in={row.owner for row in rows})
    return dict(found.values_list("prefix", "name"))
