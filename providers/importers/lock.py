"""One import at a time in the whole installation.

The lock dies with its process, so a killed run stands in nobody's way: an advisory lock on a connection of its own on
PostgreSQL, a locked file in the data directory where the database is a file too.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator

import psycopg
from django.conf import settings
from django.db import connection

_NUMBER = 0x696D706F7274
"""`import`, as PostgreSQL takes the name of a lock."""


class Busy(Exception):
    """Another process is importing."""


class LockLost(Exception):
    """The connection that held the lock is gone, so another process may have begun."""


@contextlib.contextmanager
def alone() -> Iterator[Callable[[], None]]:
    """Be the only import. Raises `Busy`. Gives a function that raises `LockLost` once that is no longer sure."""
    with _on_postgresql() if connection.vendor == "postgresql" else _on_a_file() as still_held:
        yield still_held


@contextlib.contextmanager
def _on_postgresql() -> Iterator[Callable[[], None]]:
    params = connection.get_connection_params()
    params = {name: value for name, value in params.items() if name not in {"cursor_factory", "context"}}
    with connection.wrap_database_errors:
        opened = psycopg.connect(**params, autocommit=True)
    with contextlib.closing(opened) as own:
        row = own.execute("SELECT pg_try_advisory_lock(%s)", [_NUMBER]).fetchone()
        if row is None or not row[0]:
            raise Busy("another import is running; wait for it to end, or see `migrate_backoffice --runs`")

        def still_held() -> None:
            try:
                own.execute("SELECT 1")
            except psycopg.Error as error:
                raise LockLost("the database closed the connection that kept other imports out") from error

        try:
            yield still_held
        finally:
            with contextlib.suppress(psycopg.Error):
                # The server lets go of a closed connection's lock only once it notices, and the next run may be quicker.
                own.execute("SELECT pg_advisory_unlock(%s)", [_NUMBER])


@contextlib.contextmanager
def _on_a_file() -> Iterator[Callable[[], None]]:
    path = settings.DATA_DIR / ".import.lock"
    with open(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Busy("another import is running; wait for it to end, or see `migrate_backoffice --runs`") from error
        try:
            yield lambda: None
        finally:
            # A process that was forked meanwhile holds the file too, and would keep the next import out while it lives.
            fcntl.flock(file, fcntl.LOCK_UN)
