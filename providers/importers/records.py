"""Rows of one legacy table as records, each with its origin: the shortest way from the driver's row to both.

What a value means is left to `mapping`. Here is decided only what makes rows of all engines and generations alike: text for
bytes, UTC for the times that are in UTC, `ABSENT` for columns that a generation does not have.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from operator import itemgetter
from typing import Any

import sqlalchemy as sa

from providers.importers.drafts import Kind, Origin
from providers.importers.generations import TableOf
from providers.importers.legacy import ABSENT, LegacyKey, LegacyModel, LegacyParameter, LegacyProvider, model_key
from providers.importers.readonly import Column, in_utc, readable

RECORDS: Mapping[Kind, type[Any]] = {
    Kind.PROVIDER: LegacyProvider,
    Kind.MODEL: LegacyModel,
    Kind.KEY: LegacyKey,
    Kind.PARAMETER: LegacyParameter,
}
ORDER = {
    Kind.PROVIDER: ("provider_id",),
    Kind.MODEL: ("provider_id", "model_id"),
    Kind.KEY: ("provider_id", "key_id"),
    Kind.PARAMETER: ("provider_id", "param_id"),
}
PRIMARY = {Kind.PROVIDER: "provider_id", Kind.MODEL: "model_id", Kind.KEY: "key_id", Kind.PARAMETER: "param_id"}
LONGEST_KEY = 600

Values = list[Any]


class Table:
    """How the rows of one table are read. `fields` are the record's, in its order, without `table`."""

    def __init__(self, kind: Kind, table: TableOf, columns: Sequence[Column], pepper: bytes) -> None:
        self.kind, self.name = kind, table.name
        self.fields = tuple(field.name for field in fields(RECORDS[kind]))[1:]
        self.present = tuple(name for name in self.fields if name in table.columns)
        self.record: Callable[..., Any] = RECORDS[kind]
        # Without types, so that nothing between the driver and us reads a meaning into a value.
        self.source = sa.table(self.name, *(sa.column(name) for name in self.present))
        self._owner = self.fields.index("provider_id")
        self._primary = self.fields.index(PRIMARY[kind])
        self._in_utc = _positions(self.fields, columns, "timestamp")
        self._pick = self._picker()
        self._digest = hashlib.blake2b(key=pepper, digest_size=16)

    def select(self) -> Any:
        columns = self.source.c
        return sa.select(*(columns[name] for name in self.present)).order_by(
            *(columns[name] for name in ORDER[self.kind])
        )

    def read(self, rows: Iterable[Sequence[Any]]) -> Iterator[Values]:
        """A list of field values for each row."""
        pick, in_utc_at = self._pick, self._in_utc
        for row in rows:
            values = pick(row)
            if bytes in map(type, values):
                values = [readable(value) if type(value) is bytes else value for value in values]
            for position in in_utc_at:
                values[position] = in_utc(values[position])
            yield values

    def owner(self, values: Values) -> Any:
        return values[self._owner]

    def belonging(self, values: Values, provider_id: str) -> Values:
        changed = list(values)
        changed[self._owner] = provider_id
        return changed

    def origin(self, values: Values) -> Origin:
        digest = self._digest.copy()
        digest.update(repr(values).encode("utf-8", "backslashreplace"))
        return Origin(self.name, self.key(values), digest.hexdigest())

    def key(self, values: Values) -> str:
        primary = values[self._primary]
        if self.kind is Kind.MODEL:
            return shown(model_key(str(values[self._owner]), str(primary)))
        return shown(str(primary))

    def _picker(self) -> Callable[[Sequence[Any]], Values]:
        if self.present == self.fields:
            return list
        last = len(self.present)
        chosen = itemgetter(*(self.present.index(name) if name in self.present else last for name in self.fields))
        return lambda row: list(chosen((*row, ABSENT)))


def _positions(names: Sequence[str], columns: Sequence[Column], kind: str) -> tuple[int, ...]:
    return tuple(names.index(column.name) for column in columns if column.type == kind and column.name in names)


def shown(key: str) -> str:
    """A key that every report and every database can hold."""
    if len(key) <= LONGEST_KEY and key.isprintable():
        return key
    printable = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in key)
    if len(printable) <= LONGEST_KEY:
        return printable
    whole = hashlib.blake2b(printable.encode(), digest_size=16).hexdigest()
    return f"{printable[: LONGEST_KEY - len(whole) - 1]}…{whole}"
