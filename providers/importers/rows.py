"""Many rows into a table at once: COPY on PostgreSQL, one prepared statement elsewhere.

Past the registry's audit and revision on purpose: whoever calls this leaves one entry for all of it. Ids are given out
before the rows are written, so that the records of the rows can name them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

import orjson
from django.db import connection, models

from providers.fields import EncryptedField

Values = Sequence[Any]


def take_ids(model: type[models.Model], count: int) -> Sequence[int]:
    """Ids that no other writer gets. Inside the transaction of the insert."""
    table = model._meta.db_table
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(
                "SELECT nextval(pg_get_serial_sequence(%s, 'id')) FROM generate_series(1, %s)", [table, count]
            )
            return [number for (number,) in cursor.fetchall()]
        # Nobody else can take them: a transaction of ours holds SQLite's only write lock from its start.
        cursor.execute(
            "SELECT MAX(COALESCE((SELECT seq FROM sqlite_sequence WHERE name = %s), 0),"
            f" COALESCE((SELECT MAX(id) FROM {connection.ops.quote_name(table)}), 0))",
            [table],
        )
        first = cursor.fetchone()[0] + 1
    return range(first, first + count)


def insert(model: type[models.Model], rows: Iterable[models.Model]) -> None:
    """Insert the objects; those without an id get one from the database."""
    rows = list(rows)
    if not rows:
        return
    fields = [field for field in model._meta.concrete_fields if not field.primary_key or rows[0].pk is not None]
    adapters = [_adapter(field, connection.vendor) for field in fields]
    insert_values(
        model,
        [field.column for field in fields],
        [[adapt(row) for adapt in adapters] for row in rows],
    )


def insert_values(model: type[models.Model], columns: Sequence[str], values: Sequence[Values]) -> None:
    """The same with values that the driver takes as they are."""
    quote = connection.ops.quote_name
    table, names = quote(model._meta.db_table), ", ".join(map(quote, columns))
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            statement = f"COPY {table} ({names}) FROM STDIN"
            with connection.wrap_database_errors, cursor.cursor.copy(statement) as copy:
                for row in values:
                    copy.write_row(row)
        else:
            places = ", ".join(["%s"] * len(columns))
            cursor.executemany(f"INSERT INTO {table} ({names}) VALUES ({places})", values)


def update(model: type[models.Model], rows: Sequence[models.Model]) -> None:
    """Write the objects whole, each over the row of its id; for rows that are locked."""
    if not rows:
        return
    quote = connection.ops.quote_name
    fields = [field for field in model._meta.concrete_fields if not field.primary_key]
    adapters = [_adapter(field, connection.vendor) for field in fields]
    assigned = ", ".join(f"{quote(field.column)} = %s" for field in fields)
    with connection.cursor() as cursor:
        cursor.executemany(
            f"UPDATE {quote(model._meta.db_table)} SET {assigned} WHERE id = %s",
            [[*(adapt(row) for adapt in adapters), row.pk] for row in rows],
        )


def json_text(value: Any) -> str | None:
    if value is None:
        return None
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        return json.dumps(value)


def time_text(at: datetime) -> Any:
    """As the driver takes it: SQLite's column holds a text without the zone."""
    return at if connection.vendor == "postgresql" else str(at.astimezone(UTC).replace(tzinfo=None))


@cache
def _adapter(field: models.Field, vendor: str) -> Callable[[Any], Any]:
    attribute = field.attname
    if isinstance(field, EncryptedField):
        return lambda row: _ciphertext(field, row)
    if isinstance(field, models.JSONField):
        return lambda row: json_text(row.__dict__[attribute])
    if vendor == "postgresql":
        return lambda row: row.__dict__[attribute]
    if isinstance(field, models.DateTimeField):
        return lambda row: None if row.__dict__[attribute] is None else time_text(row.__dict__[attribute])
    if isinstance(field, models.UUIDField | models.DecimalField):
        return lambda row: field.get_db_prep_save(row.__dict__[attribute], connection)
    return lambda row: row.__dict__[attribute]


def _ciphertext(field: EncryptedField, row: models.Model) -> str | None:
    sealed = field.sealed(row)
    return None if sealed is None else sealed.ciphertext
