"""Real stores for tests: a Redis, a PostgreSQL and a MariaDB, found or started, never faked.

For each: the URL in the environment (TEST_REDIS_URL, TEST_DATABASE_URL, TEST_MARIADB_URL), else the server on its standard
port of this machine, else a private one started from binaries found here (Redis: private first). Nothing that was there before is changed: a
Redis database is taken only when it is empty, databases of the others are made under a name of their own.
"""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

import psycopg
import pymysql
import redis

from gateway_project import embedded_redis, serving


class ServiceMissing(Exception):
    """The machine has no such server and none can be started; the text says what to install or set."""


@dataclass(slots=True)
class Service:
    url: str
    on_stop: list[Callable[[], object]] = field(default_factory=list)

    def stop(self) -> None:
        while self.on_stop:
            self.on_stop.pop()()


def private_redis(folder: Path) -> Service:
    """A Redis of our own behind a socket in `folder`, as an installation without REDIS_URL has it."""
    try:
        command = [*embedded_redis.command(folder), "--appendonly", "no"]
        path = embedded_redis.socket_path(folder)
    except embedded_redis.NoRedis as error:
        raise ServiceMissing(str(error)) from error
    process = _start(command, folder / "redis.log")
    embedded_redis.wait_until_it_answers(path)
    return Service(f"unix://{path}?db=0", [lambda: _end(process)])


def external_redis(folder: Path) -> Service:
    """A Redis reached over TCP, as REDIS_URL would name it.

    A private one is preferred to what listens on the standard port: subscriptions cross the databases of one server, and
    whoever else uses it may flush ours.
    """
    given = os.environ.get("TEST_REDIS_URL")
    with contextlib.suppress(embedded_redis.NoRedis):
        if not given:
            return _private_redis_over_tcp(folder)
    if given or listens(6379):
        with contextlib.suppress(redis.RedisError):
            return _empty_redis_database(given or "redis://127.0.0.1:6379")
    raise ServiceMissing("no Redis with an empty database: apt-get install redis-server, or set TEST_REDIS_URL")


def _private_redis_over_tcp(folder: Path) -> Service:
    binary, port = embedded_redis.find_binary(), free_port()
    command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    process = _start(command, folder / "external-redis.log")
    _wait_for(lambda: listens(port), "the private Redis")
    return Service(f"redis://127.0.0.1:{port}/0", [lambda: _end(process)])


def postgresql(folder: Path) -> Service:
    """A PostgreSQL with a fresh, empty database."""
    given = os.environ.get("TEST_DATABASE_URL")
    for url in [given] if given else ["postgresql://postgres@127.0.0.1:5432/postgres"]:
        with contextlib.suppress(psycopg.OperationalError):
            return _new_postgresql_database(url)
    if given:
        raise ServiceMissing("TEST_DATABASE_URL names a PostgreSQL that does not let us in")
    server = _private_postgresql(folder)
    database = _new_postgresql_database(server.url)
    return Service(database.url, [server.stop, database.stop])


def mariadb(folder: Path) -> Service:
    """A MariaDB with a fresh, empty database."""
    given = os.environ.get("TEST_MARIADB_URL")
    for url in [given] if given else ["mysql://root@127.0.0.1:3306/"]:
        with contextlib.suppress(pymysql.OperationalError):
            return _new_mariadb_database(url)
    if given:
        raise ServiceMissing("TEST_MARIADB_URL names a MariaDB that does not let us in")
    server = _private_mariadb(folder)
    database = _new_mariadb_database(server.url)
    return Service(database.url, [server.stop, database.stop])


def chromium() -> str | None:
    names = ["chromium", "chromium-browser", "google-chrome"]
    return next(filter(None, map(shutil.which, names)), None)


def free_port() -> int:
    return serving.free_port("127.0.0.1")


# --- Redis ---------------------------------------------------------------------------------------------------------------


def _empty_redis_database(base: str) -> Service:
    """Take a database that holds nothing, marking it as ours; it is emptied at the end."""
    owner = secrets.token_hex(8)
    for number in range(15, 0, -1):
        url = urlunsplit(urlsplit(base)._replace(path=f"/{number}"))
        client = redis.Redis.from_url(url, socket_timeout=60)
        # WATCH makes look-and-mark one step: of two sessions that see the same empty database, one gets it.
        with contextlib.closing(client), contextlib.suppress(redis.WatchError), client.pipeline() as pipeline:
            pipeline.watch(TAKEN)
            if pipeline.dbsize() == 0:
                pipeline.multi()
                pipeline.set(TAKEN, owner, ex=7200)
                pipeline.execute()
                return Service(url, [lambda url=url: _flush(url)])
    raise redis.RedisError("no empty database")


TAKEN = "test-session"
"""The key that marks a Redis database as taken by a running test session; `empty` spares it."""


def empty(url: str) -> None:
    """Delete everything in the database of `url` but the mark of the session that took it."""
    client = _kept_client(url)
    if client.get(TAKEN) is None:
        client.flushdb()
    elif keys := [key for key in client.keys("*") if key != TAKEN.encode()]:
        client.delete(*keys)


@functools.cache
def _kept_client(url: str) -> redis.Redis:
    """Emptying comes before each of thousands of tests: one connection for all."""
    return redis.Redis.from_url(url)


def _flush(url: str) -> None:
    with contextlib.closing(redis.Redis.from_url(url)) as client:
        client.flushdb()


# --- PostgreSQL -----------------------------------------------------------------------------------------------------------


def _new_postgresql_database(server: str) -> Service:
    name = f"gateway_{secrets.token_hex(6)}"
    _on_postgresql(server, f'CREATE DATABASE "{name}"')
    url = urlunsplit(urlsplit(server)._replace(path=f"/{name}"))
    return Service(url, [lambda: _on_postgresql(server, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')])


def _on_postgresql(server: str, statement: str) -> None:
    with psycopg.connect(server, autocommit=True, connect_timeout=60) as connection:
        connection.execute(statement)


def _private_postgresql(folder: Path, binaries: Path | None = None) -> Service:
    binaries = binaries or postgresql_binaries()
    if binaries is None:
        raise ServiceMissing("no PostgreSQL: apt-get install postgresql, or set TEST_DATABASE_URL")
    data = folder / "postgresql"
    owner = _postgresql_user(data)
    _run([str(binaries / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "-N"], owner)
    port = free_port()
    options = ["-D", str(data), "-h", "127.0.0.1", "-p", str(port), "-k", "", "-F"]
    process = _start([str(binaries / "postgres"), *options], folder / "postgresql.log", user=owner)
    url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
    _wait_for(
        lambda: _accepts(lambda: _on_postgresql(url, "SELECT 1"), psycopg.OperationalError), "the private PostgreSQL"
    )
    # SIGINT asks PostgreSQL for a fast shutdown; SIGTERM would wait for every client to leave.
    return Service(url, [lambda: _end(process, signal.SIGINT)])


def postgresql_binaries() -> Path | None:
    candidates = [Path(found).parent for found in [shutil.which("initdb")] if found]
    candidates += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    candidates += _of_the_wheel()
    return next(
        (folder for folder in candidates if (folder / "initdb").is_file() and (folder / "postgres").is_file()), None
    )


def _of_the_wheel() -> list[Path]:
    """Found without an import, which would look for folders of its own."""
    wheel = find_spec("pgserver")
    return [Path(wheel.origin).parent / "pginstall" / "bin"] if wheel is not None and wheel.origin else []


# --- Vector stores --------------------------------------------------------------------------------------------------------


def pgvector(folder: Path) -> Service:
    """A private PostgreSQL with the extension: the wheel has it, Debian's package has not."""
    if given := os.environ.get("TEST_PGVECTOR_URL"):
        return _new_postgresql_database(given)
    wheel = next(iter(_of_the_wheel()), None)
    if wheel is None:
        raise ServiceMissing(
            "no PostgreSQL with pgvector: set TEST_PGVECTOR_URL (the wheel pgserver has it up to Python 3.12)"
        )
    return _private_postgresql(folder, wheel)


def chroma(folder: Path) -> Service:
    """The server of Chroma's wheel, which needs nothing else of it."""
    if find_spec("chromadb_rust_bindings") is None:
        raise ServiceMissing("no Chroma server: make .venv/extra-chroma.stamp")
    port = free_port()
    asked = ["chroma", "run", "--path", str(folder / "chroma"), "--host", "127.0.0.1", "--port", str(port)]
    process = _start(
        [sys.executable, "-c", f"import chromadb_rust_bindings; chromadb_rust_bindings.cli({asked!r})"],
        folder / "chroma.log",
    )
    _wait_for(lambda: listens(port), "Chroma")
    return Service(f"http://127.0.0.1:{port}", [lambda: _end(process)])


def _postgresql_user(data: Path) -> str | None:
    """PostgreSQL refuses to run as root: `nobody` stands in, given the directory and the way to it."""
    data.mkdir(mode=0o700)
    if os.geteuid() != 0:
        return None
    shutil.chown(data, "nobody")
    for parent in data.parents:
        if parent.stat().st_mode & 0o001 == 0:
            parent.chmod(parent.stat().st_mode | 0o011)
    return "nobody"


# --- MariaDB --------------------------------------------------------------------------------------------------------------


def _new_mariadb_database(server: str) -> Service:
    name = f"gateway_{secrets.token_hex(6)}"
    _on_mariadb(server, f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4")
    url = urlunsplit(urlsplit(server)._replace(path=f"/{name}"))
    return Service(url, [lambda: _on_mariadb(server, f"DROP DATABASE IF EXISTS `{name}`")])


def _on_mariadb(server: str, statement: str) -> None:
    parts = urlsplit(server)
    connection = pymysql.connect(
        host=parts.hostname or "127.0.0.1",
        port=parts.port or 3306,
        user=parts.username or "root",
        password=parts.password or "",
        connect_timeout=60,
    )
    with contextlib.closing(connection), connection.cursor() as cursor:
        cursor.execute(statement)


def mariadb_binaries() -> tuple[str, str] | None:
    """The server and the program that makes its first files."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"
    server, install = shutil.which("mariadbd", path=path), shutil.which("mariadb-install-db", path=path)
    return (server, install) if server and install else None


def _private_mariadb(folder: Path) -> Service:
    binaries = mariadb_binaries()
    if binaries is None:
        raise ServiceMissing("no MariaDB: apt-get install mariadb-server, or set TEST_MARIADB_URL")
    server, install = binaries
    data = folder / "mariadb"
    me = ["--user=root"] if os.geteuid() == 0 else []
    common = ["--no-defaults", f"--datadir={data}", *me]
    _run([install, *common, "--auth-root-authentication-method=normal", "--skip-test-db"], None)
    port = free_port()
    listen = [f"--port={port}", "--bind-address=127.0.0.1", f"--socket={data}/s.sock", f"--pid-file={data}/pid"]
    process = _start([server, *common, *listen, "--skip-log-bin"], folder / "mariadb.log")
    url = f"mysql://{quote('root')}@127.0.0.1:{port}/"
    _wait_for(lambda: _accepts(lambda: _on_mariadb(url, "SELECT 1"), pymysql.OperationalError), "the private MariaDB")
    return Service(url, [lambda: _end(process)])


# --- Processes ------------------------------------------------------------------------------------------------------------


def _start(command: list[str], log: Path, user: str | None = None) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, user=user, cwd="/")


def _run(command: list[str], user: str | None) -> None:
    done = subprocess.run(command, capture_output=True, text=True, user=user, cwd="/", check=False)
    if done.returncode:
        raise ServiceMissing(f"{command[0]} failed: {(done.stderr or done.stdout).strip()[-500:]}")


def _end(process: subprocess.Popen[bytes], with_signal: int = signal.SIGTERM) -> None:
    process.send_signal(with_signal)
    try:
        process.wait(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def listens(port: int) -> bool:
    with socket.socket() as connection:
        connection.settimeout(1)
        return connection.connect_ex(("127.0.0.1", port)) == 0


def _accepts(attempt: Callable[[], object], refusal: type[Exception]) -> bool:
    try:
        attempt()
    except refusal:
        return False
    return True


def _wait_for(condition: Callable[[], bool], what: str, seconds: float = 180.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise ServiceMissing(f"{what} did not start within {seconds:.0f} seconds")
        time.sleep(0.05)


@contextlib.contextmanager
def running(service: Service) -> Iterator[str]:
    try:
        yield service.url
    finally:
        service.stop()
