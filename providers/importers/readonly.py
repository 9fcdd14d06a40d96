"""Opening somebody else's database for reading only: one connection, one snapshot, raw driver values.

What is decided here: which driver a URL gets, what of the URL may be shown, how each engine is kept from writing, and what
a refusal means for the operator. No text that leaves this module holds a password; driver exceptions are not chained,
as some of them do.
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import methodcaller
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import psycopg.abc
import psycopg.adapt
import psycopg.pq
import psycopg.types.string
import pymysql.converters
from pymysql.constants import FIELD_TYPE
from sqlalchemy import URL, Connection, Engine, create_engine, exc, make_url
from sqlalchemy.pool import NullPool

from providers.importers.drafts import SourceError
from providers.secrets import Secret

DRIVERS = {
    "mysql": ("mysql", "mysql+pymysql", 3306),
    "mariadb": ("mysql", "mysql+pymysql", 3306),
    "postgresql": ("postgresql", "postgresql+psycopg", 5432),
    "postgres": ("postgresql", "postgresql+psycopg", 5432),
    "sqlite": ("sqlite", "sqlite", 0),
}
"""The family of databases, SQLAlchemy's name of the driver and the standard port, by what a URL begins with. The URL is
often copied from the legacy's own settings, so a driver that it names is not asked for."""

CONNECT_SECONDS = 10
STALL_SECONDS = 3600
"""How long MySQL waits for us to take the next rows: writing a batch on the other side may take its time."""
MYSQL_OPTIONS = {
    *("charset", "collation", "unix_socket", "connect_timeout", "read_timeout", "write_timeout"),
    *("ssl_ca", "ssl_capath", "ssl_cert", "ssl_key", "ssl_key_password", "ssl_cipher", "ssl_check_hostname"),
    *("ssl_disabled", "ssl_verify_cert", "ssl_verify_identity"),
}
"""What a URL may ask of MySQL's driver. Others run statements before ours (`init_command`) or read files of this machine."""


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    type: str
    collation: str = ""


@dataclass(frozen=True, slots=True)
class Address:
    """A source's place, apart from the right to enter it."""

    dialect: str
    label: str
    identity: str
    url: URL

    def __repr__(self) -> str:
        return f"Address({self.label})"


class ReadOnlyDatabase:
    """An open snapshot. The same state of all tables until it is closed, whoever writes meanwhile."""

    def __init__(self, address: Address, connection: Connection) -> None:
        self.address, self.dialect = address, address.dialect
        self.connection = connection

    def columns(self) -> dict[str, list[Column]]:
        """Columns of the tables and views that an unqualified name reaches, by table."""
        if self.dialect == "sqlite":
            return {table: self._columns_of(table) for (table,) in self.fetch(_SQLITE_TABLES)}
        found: dict[str, list[Column]] = {}
        for table, name, kind, collation in self.fetch(_COLUMNS[self.dialect]):
            found.setdefault(_text(table), []).append(Column(_text(name), _text(kind).lower(), _text(collation or "")))
        return found

    def _columns_of(self, table: str) -> list[Column]:
        """None for a view whose table is gone, or a table of a module that SQLite does not have here."""
        quoted = table.replace('"', '""')
        try:
            rows = self.connection.exec_driver_sql(f'PRAGMA table_xinfo("{quoted}")').fetchall()
        except exc.OperationalError:
            return []
        return [Column(row[1], row[2].lower()) for row in rows]

    def fetch(self, statement: Any) -> Sequence[Any]:
        with self.errors("reading"):
            run = self.connection.exec_driver_sql if isinstance(statement, str) else self.connection.execute
            return run(statement).fetchall()

    def stream(self, statement: Any, size: int) -> Iterator[Sequence[Any]]:
        """The rows in lists of `size`, of which one at a time is in memory. MySQL answers nothing else until it is over."""
        with self.errors("reading"):
            result = self.connection.execute(statement.execution_options(stream_results=True, max_row_buffer=size))
            try:
                while rows := result.fetchmany(size):
                    yield rows
            finally:
                result.close()

    @contextlib.contextmanager
    def errors(self, doing: str) -> Iterator[None]:
        with _explained(self.address, doing):
            yield

    def close(self) -> None:
        with contextlib.suppress(exc.SQLAlchemyError):
            self.connection.close()


def open_database(source_url: Secret) -> ReadOnlyDatabase:
    """Raises `SourceError` with what to do."""
    address = parse(source_url)
    with _explained(address, "opening"):
        engine = _ENGINES[address.dialect](address)
        connection = engine.connect()
        try:
            _begin(address.dialect, connection)
        except BaseException:
            connection.close()
            raise
    return ReadOnlyDatabase(address, connection)


def parse(source_url: Secret) -> Address:
    scheme = source_url.reveal().strip().partition(":")[0].partition("+")[0].lower()
    if scheme not in DRIVERS:
        known = "mysql+pymysql://, postgresql+psycopg:// and sqlite:///"
        named = f"{scheme!r} is" if scheme.isalnum() and "://" in source_url.reveal() else "This is"
        raise SourceError(f"{named} not a database that can be read from. The source's URL begins with {known}.")
    dialect, driver, port = DRIVERS[scheme]
    try:
        url = make_url(source_url.reveal().strip()).set(drivername=driver)
    except (exc.ArgumentError, ValueError):
        # The parser's words may quote what it took for a port, which is part of a password as often as not.
        raise SourceError(
            "The source's URL cannot be read. It looks like mysql+pymysql://user:password@host:3306/database; "
            "write @ : / % and # in a password as %40 %3A %2F %25 %23."
        ) from None
    if dialect == "sqlite":
        return _file_address(url)
    if not url.database:
        raise SourceError(
            "The source's URL names no database: put it behind the host, as in mysql://host:3306/bo_admin."
        )
    host = (url.host or _query(url, "host") or _query(url, "unix_socket") or "localhost").lower()
    place = f"{host}:{url.port or _query(url, 'port') or port}/{url.database}"
    return Address(dialect, f"{dialect}://{place}", _identity(f"{dialect}://{place}"), url)


def _file_address(url: URL) -> Address:
    if not url.database or url.database == ":memory:":
        raise SourceError(
            "The source's URL names no file: an absolute path has four slashes, sqlite:////data/legacy.db."
        )
    try:
        path = Path(url.database).expanduser().resolve()
        is_file, is_folder = path.is_file(), path.is_dir()
    except (OSError, ValueError, RuntimeError):
        raise SourceError("The source's URL names a file that cannot exist here: check its path.") from None
    if not is_file:
        what = "is a folder" if is_folder else "does not exist"
        raise SourceError(
            f"The SQLite file {path} {what}. An absolute path has four slashes: sqlite:////data/legacy.db."
        )
    return Address("sqlite", f"sqlite:///{path}", _identity(f"sqlite:///{path}"), url.set(database=str(path)))


def _query(url: URL, name: str) -> str:
    value = url.query.get(name, "")
    return value if isinstance(value, str) else ",".join(value)


def _identity(place: str) -> str:
    return hashlib.sha256(place.encode(errors="surrogateescape")).hexdigest()


# --- Engines --------------------------------------------------------------------------------------------------------------


def _sqlite(address: Address) -> Engine:
    return create_engine("sqlite://", creator=lambda: _open_file(address.url.database or ""), poolclass=NullPool)


def _open_file(path: str) -> sqlite3.Connection:
    # Without an isolation level the driver leaves transactions to us; its own begin only with a write.
    connection = sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True, isolation_level=None, timeout=CONNECT_SECONDS)
    # As `_text`, without a call of ours for every value.
    connection.text_factory = methodcaller("decode", "utf-8", "surrogateescape")
    return connection


def _mysql(address: Address) -> Engine:
    if others := sorted(set(address.url.query) - MYSQL_OPTIONS):
        raise SourceError(
            f"{address.label}: these options in the URL have no meaning for reading, leave them out: {', '.join(others)}."
        )
    url = address.url.update_query_dict({"charset": "utf8mb4"})
    arguments = {"connect_timeout": CONNECT_SECONDS, "local_infile": False, "conv": _MYSQL_VALUES}
    return create_engine(url, connect_args=arguments, poolclass=NullPool, isolation_level="REPEATABLE READ")


def _postgresql(address: Address) -> Engine:
    # A database without an encoding of its own (SQL_ASCII) would send bytes for texts.
    arguments: dict[str, Any] = {"context": _raw_values(), "client_encoding": "utf8"}
    if not _query(address.url, "connect_timeout"):
        arguments["connect_timeout"] = CONNECT_SECONDS
    return create_engine(
        address.url,
        connect_args=arguments,
        poolclass=NullPool,
        isolation_level="REPEATABLE READ",
        execution_options={"postgresql_readonly": True},
    )


_ENGINES: dict[str, Callable[[Address], Engine]] = {"sqlite": _sqlite, "mysql": _mysql, "postgresql": _postgresql}

_BEGIN = {
    "sqlite": ["PRAGMA query_only = ON", "BEGIN", "SELECT count(*) FROM sqlite_master"],
    "mysql": [
        "SET SESSION TRANSACTION READ ONLY",
        "SET SESSION time_zone = '+00:00'",
        f"SET SESSION net_write_timeout = {STALL_SECONDS}",
        "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
    ],
    # LOCAL ends with the transaction, so a pooler hands nothing of it on to the next client.
    "postgresql": [
        "SET LOCAL default_transaction_read_only = on",
        "SET LOCAL TIME ZONE 'UTC'",
        "SET LOCAL DateStyle = 'ISO'",
        "SET LOCAL idle_in_transaction_session_timeout = 0",
    ],
}

_SQLITE_TABLES = "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') ORDER BY name"
_COLUMNS = {
    "mysql": (
        "SELECT table_name, column_name, data_type, collation_name FROM information_schema.columns "
        "WHERE table_schema = DATABASE() ORDER BY table_name, ordinal_position"
    ),
    "postgresql": (
        "SELECT c.relname, a.attname, format_type(a.atttypid, NULL), '' FROM pg_catalog.pg_class c "
        "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid "
        "WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND pg_catalog.pg_table_is_visible(c.oid) "
        "AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND a.attnum > 0 AND NOT a.attisdropped "
        "ORDER BY c.relname, a.attnum"
    ),
}


def _begin(dialect: str, connection: Connection) -> None:
    for statement in _BEGIN[dialect]:
        result = connection.exec_driver_sql(statement)
        if result.returns_rows:
            result.fetchall()


# --- Values ---------------------------------------------------------------------------------------------------------------


def _text(value: bytes | str) -> str:
    """Bytes that are not UTF-8 become lone surrogates, which whoever reads the value can see and take out."""
    return value if isinstance(value, str) else bytes(value).decode("utf-8", "surrogateescape")


def readable(value: bytes) -> str | int:
    """What a column of bytes holds: BIT(1) is a flag, everything else was meant as text."""
    return value[0] if value in (b"\x00", b"\x01") else _text(value)


def in_utc(value: Any) -> Any:
    """A TIMESTAMP of MySQL, which the session's zone of UTC has made one of UTC."""
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) else value


def _mysql_time(text: str) -> datetime | str:
    """Zero dates stay text. The driver's own reading does the same by a regular expression, at ten times the cost."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return text


_MYSQL_VALUES = {**pymysql.converters.conversions, FIELD_TYPE.DATETIME: _mysql_time, FIELD_TYPE.TIMESTAMP: _mysql_time}


def _raw_values() -> psycopg.adapt.AdaptersMap:
    """JSON as its text, and times beyond Python's calendar (`infinity`, years before Christ) as their text."""
    adapters = psycopg.adapt.AdaptersMap(psycopg.adapters)
    for name in ("json", "jsonb"):
        adapters.register_loader(name, psycopg.types.string.TextLoader)
    for name in ("timestamp", "timestamptz", "date"):
        loader = adapters.get_loader(adapters.types[name].oid, psycopg.pq.Format.TEXT)
        assert loader is not None
        adapters.register_loader(name, _forgiving(loader))
    return adapters


def _forgiving(fast: type[psycopg.abc.Loader]) -> type[psycopg.abc.Loader]:
    """The driver's own loader, which is compiled and cannot be inherited from, and text where it gives up."""

    class Forgiving(psycopg.adapt.Loader):
        def __init__(self, oid: int, context: psycopg.abc.AdaptContext | None = None) -> None:
            super().__init__(oid, context)
            self._fast = fast(oid, context).load

        def load(self, data: psycopg.abc.Buffer) -> Any:
            try:
                return self._fast(data)
            except psycopg.DataError:
                return _text(bytes(data))

    return Forgiving


# --- Refusals -------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _explained(address: Address, doing: str) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise SourceError(f"The library {error.name} is not installed; {address.label} is read through it.") from None
    except (exc.SQLAlchemyError, sqlite3.Error, psycopg.Error, OSError) as error:
        raise SourceError(_explanation(address, doing, error)) from None
    except UnicodeError:
        if doing == "opening":
            wrong = "User, password or host hold characters that the driver cannot send."
        else:
            wrong = "It sent text that is not in the encoding that was agreed on."
        raise SourceError(f"{address.label}: {wrong}") from None
    except (TypeError, ValueError) as error:
        if doing != "opening":
            raise
        raise SourceError(
            f"{address.label}: the options in the URL cannot be used: {_masked(address, error)}"
        ) from None


def _explanation(address: Address, doing: str, error: BaseException) -> str:
    cause = error.orig if isinstance(error, exc.DBAPIError) and error.orig else error
    said = _masked(address, cause)
    code = cause.args[0] if cause.args else None
    if code in {1045, 1044, 1698} or _says(said, "password authentication failed", "no password supplied", "role "):
        advice = "The database refused the login: check user, password and the user's right to read in the URL."
    elif code == 1049 or (_says(said, "does not exist", "unknown database") and doing == "opening"):
        advice = "There is no such database: check its name in the URL."
    elif code in {2003, 2005, 2002} or _says(said, "connection refused", "resolve", "timeout expired", "timed out"):
        advice = "Nobody answers there: check host and port in the URL, and that this machine may reach them."
    elif code in {1142, 1143} or _says(said, "permission denied"):
        advice = "The user may not read all tables: grant it SELECT."
    elif _says(said, "file is not a database", "malformed"):
        advice = "The file is not a sound SQLite database."
    elif _says(said, "unable to open"):
        advice = "The file, or the folder it needs for its write-ahead log, cannot be opened: check their permissions."
    elif _says(said, "database is locked"):
        advice = "Another program holds the file locked; try again when it is done."
    else:
        advice = "The database did not do what it was asked."
    return f"{address.label}: {advice} It said: {said}"


def _says(text: str, *parts: str) -> bool:
    return any(part in text.lower() for part in parts)


def _masked(address: Address, error: BaseException) -> str:
    """The first line of what the driver said, without the passwords that the URL holds."""
    said = " ".join(str(part) for part in error.args) or type(error).__name__
    secrets = [str(address.url.password or "")]
    secrets += [_query(address.url, name) for name in address.url.query if "pass" in name.lower()]
    for secret in filter(None, secrets):
        for form in {secret, quote(secret, safe=""), repr(secret)[1:-1]}:
            said = said.replace(form, "••••")
    return said.strip().splitlines()[0][:300] if said.strip() else type(error).__name__
