"""pgvector (https://github.com/pgvector/pgvector): LangChain's two tables where they are, else every table with a vector column.

Each step is one transaction, so that a step that fails, or that is not verified, has changed nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import sql

from inference.vector_stores.naming import Collection
from inference.vector_stores.store import Heard, StoreFailed

_CONNECT_SECONDS = 10
_NAMES, _VECTORS = "langchain_pg_collection", "langchain_pg_embedding"
_VECTOR_COLUMNS = """
    SELECT c.relname, a.attname
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_type t ON t.oid = a.atttypid
    WHERE t.typname = 'vector' AND c.relkind = 'r' AND NOT a.attisdropped AND pg_table_is_visible(c.oid) AND c.relname <> %s
    ORDER BY 1"""
"""Of the schemas on the search path, which an address may name: `?options=-csearch_path%3Dmine`."""


class PgVector:
    def __init__(self, connection: psycopg.Connection[Any], label: str) -> None:
        self.label = label
        self._connection = connection

    @classmethod
    @contextmanager
    def opened(cls, address: str) -> Iterator[PgVector]:
        try:
            connection = psycopg.connect(address, autocommit=True, connect_timeout=_CONNECT_SECONDS)
        except (psycopg.Error, ValueError) as error:
            raise StoreFailed(f"PostgreSQL does not let us in: {type(error).__name__}.") from None
        with connection:
            info = connection.info
            yield cls(connection, f"pgvector at {info.host}:{info.port}/{info.dbname}")

    def collections(self) -> list[Collection]:
        found = self._of_langchain() if self._value("SELECT to_regclass(%s)", _NAMES) else []
        for table, column in self._rows(_VECTOR_COLUMNS, _VECTORS):
            counted = sql.SQL("SELECT vector_dims({0}), count(*) FROM {1} WHERE {0} IS NOT NULL GROUP BY 1").format(
                sql.Identifier(column), sql.Identifier(table)
            )
            dimensions = self._rows(counted) or [(None, 0)]
            found += [Collection(table, f"table:{column}", dimension, count) for dimension, count in dimensions]
        return found

    def resumable(self) -> list[str]:
        return []

    def rename(self, collection: Collection, target: str) -> None:
        with self._step(collection, target):
            if _is_table(collection):
                self._run(
                    sql.SQL("ALTER TABLE {} RENAME TO {}").format(
                        sql.Identifier(collection.name), sql.Identifier(target)
                    )
                )
            else:
                self._run(f"UPDATE {_NAMES} SET name = %s WHERE uuid = %s", target, collection.key)

    def copy(self, collection: Collection, target: str, heard: Heard) -> None:
        with self._step(collection, target):
            if _is_table(collection):
                self._copy_table(collection, target)
            else:
                copied = self._new_collection(collection, target)
                columns = [
                    name for (name,) in self._rows(_COLUMNS, _VECTORS) if name not in ("collection_id", "uuid", "id")
                ]
                self._copy_rows(collection, copied, columns)
            heard(collection.count)

    def split(self, collection: Collection, target: str) -> None:
        if _is_table(collection):
            raise StoreFailed(
                f"{collection.name} holds vectors of several dimensions in one table: say --copy, which leaves it as it is."
            )
        with self._step(collection, target):
            moved = self._new_collection(collection, target)
            self._run(
                f"UPDATE {_VECTORS} SET collection_id = %s WHERE collection_id = %s AND vector_dims(embedding) = %s",
                moved,
                collection.key,
                collection.dimension,
            )
            left = f"SELECT 1 FROM {_VECTORS} WHERE collection_id = %s LIMIT 1"
            if self._value(left, collection.key) is None:
                self._run(f"DELETE FROM {_NAMES} WHERE uuid = %s", collection.key)

    # LangChain's tables

    def _of_langchain(self) -> list[Collection]:
        rows = self._rows(
            f"SELECT c.name, c.uuid::text, vector_dims(e.embedding), count(e.embedding) FROM {_NAMES} c "
            f"LEFT JOIN {_VECTORS} e ON e.collection_id = c.uuid GROUP BY 1, 2, 3 ORDER BY 1, 3"
        )
        return [Collection(name, key, dimension, count) for name, key, dimension, count in rows]

    def _new_collection(self, collection: Collection, target: str) -> Any:
        return self._value(
            f"INSERT INTO {_NAMES} (uuid, name, cmetadata) "
            f"SELECT gen_random_uuid(), %s, cmetadata FROM {_NAMES} WHERE uuid = %s RETURNING uuid",
            target,
            collection.key,
        )

    def _copy_rows(self, collection: Collection, copied: Any, columns: list[str]) -> None:
        """Under ids of their own: those of the old rows are theirs."""
        key = "id" if self._value(f"{_COLUMNS} AND attname = 'id'", _VECTORS) else "uuid"
        names = sql.SQL(", ").join(map(sql.Identifier, columns))
        made = sql.SQL("gen_random_uuid()::text") if key == "id" else sql.SQL("gen_random_uuid()")
        self._run(
            sql.SQL(
                "INSERT INTO {table} ({key}, collection_id, {names}) SELECT {made}, %s, {names} FROM {table} "
                "WHERE collection_id = %s AND vector_dims(embedding) = %s"
            ).format(table=sql.Identifier(_VECTORS), key=sql.Identifier(key), names=names, made=made),
            copied,
            collection.key,
            collection.dimension,
        )

    # Tables of their own

    def _copy_table(self, collection: Collection, target: str) -> None:
        column = collection.key.removeprefix("table:")
        old, new = sql.Identifier(collection.name), sql.Identifier(target)
        self._run(sql.SQL("CREATE TABLE {} (LIKE {} INCLUDING ALL)").format(new, old))
        self._run(
            sql.SQL("INSERT INTO {} SELECT * FROM {} WHERE vector_dims({}) = %s").format(
                new, old, sql.Identifier(column)
            ),
            collection.dimension,
        )

    # Steps

    @contextmanager
    def _step(self, collection: Collection, target: str) -> Iterator[None]:
        """All or nothing, and only what is there afterwards under the new name as it was under the old one."""
        try:
            with self._connection.transaction():
                before = self._fingerprint(collection, collection.name)
                yield
                if self._fingerprint(collection, target) != before:
                    raise StoreFailed(f"{target} would not hold what {collection.name} holds: nothing was changed.")
        except psycopg.Error as error:
            said = error.diag.message_primary or type(error).__name__
            raise StoreFailed(f"{self.label}: {said}; {collection.name} is as it was.") from None

    def _fingerprint(self, collection: Collection, name: str) -> Any:
        """How many vectors of this dimension there are, and a digest of them in whatever order."""
        if _is_table(collection):
            column = sql.Identifier(collection.key.removeprefix("table:"))
            source = sql.SQL("(SELECT {} AS vector FROM {}) v").format(column, sql.Identifier(name))
        else:
            source = sql.SQL(
                "(SELECT e.embedding AS vector FROM {} e JOIN {} c ON c.uuid = e.collection_id WHERE c.name = {}) v"
            ).format(sql.Identifier(_VECTORS), sql.Identifier(_NAMES), sql.Literal(name))
        digested = sql.SQL(
            "SELECT count(*), sum(hashtextextended(vector::text, 0)::numeric) FROM {} WHERE vector_dims(vector) = %s"
        ).format(source)
        return self._rows(digested, collection.dimension)

    def _rows(self, query: Any, *values: Any) -> list[tuple[Any, ...]]:
        try:
            return self._connection.execute(query, values).fetchall()
        except psycopg.Error as error:
            raise StoreFailed(f"{self.label}: {error.diag.message_primary or type(error).__name__}.") from None

    def _value(self, query: Any, *values: Any) -> Any:
        rows = self._rows(query, *values)
        return rows[0][0] if rows else None

    def _run(self, statement: Any, *values: Any) -> None:
        self._connection.execute(statement, values)


_COLUMNS = "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped"


def _is_table(collection: Collection) -> bool:
    return collection.key.startswith("table:")
