"""Empties the database between transactional tests at the price of the tables that a test filled.

Django's own way empties every table and then makes each content type, permission and role anew, which takes longer than most
tests. Here those stay as the migrations made them, and are put back when a test changed one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission
from django.contrib.contenttypes.models import ContentType
from django.core.management.commands import flush
from django.db import DEFAULT_DB_ALIAS, connection
from django.db.models import Model

STANDING: tuple[type[Model], ...] = (ContentType, Permission, Group, Group.permissions.through)
"""In an order in which rows can be put back."""


@contextmanager
def quickly() -> Iterator[None]:
    """While this holds, `flush` works so. The database has to be as the migrations left it."""
    standing = {model: _rows(model) for model in STANDING}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flush, "sql_flush", _sql_for(standing))
        patch.setattr(flush, "emit_post_migrate_signal", lambda *_, **__: _put_back(standing))
        yield


def _sql_for(standing: dict[type[Model], list[tuple[Any, ...]]]) -> Callable[..., list[str]]:
    def sql_flush(style: Any, db: Any, **_: Any) -> list[str]:
        assert db.alias == DEFAULT_DB_ALIAS
        changed = any(_rows(model) != rows for model, rows in standing.items())
        spared = set() if changed else {model._meta.db_table for model in standing}
        return [f"DELETE FROM {db.ops.quote_name(table)}" for table in _filled() if table not in spared]

    return sql_flush


def _put_back(standing: dict[type[Model], list[tuple[Any, ...]]]) -> None:
    for model, rows in standing.items():
        if rows and not model._default_manager.exists():
            names = [field.attname for field in model._meta.concrete_fields]
            model._default_manager.bulk_create([model(**dict(zip(names, row, strict=True))) for row in rows])
    ContentType.objects.clear_cache()


def _rows(model: type[Model]) -> list[tuple[Any, ...]]:
    return list(model._default_manager.order_by("pk").values_list(*(f.attname for f in model._meta.concrete_fields)))


@cache
def _tables() -> list[str]:
    return sorted(connection.introspection.django_table_names(only_existing=True, include_views=False))


def _filled() -> list[str]:
    tables = _tables()
    asked = ", ".join(f"EXISTS(SELECT 1 FROM {connection.ops.quote_name(table)})" for table in tables)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {asked}")
        return [table for table, filled in zip(tables, cursor.fetchone(), strict=True) if filled]
