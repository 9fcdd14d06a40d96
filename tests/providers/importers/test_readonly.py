"""Databases of others are opened so that they cannot be changed, and a refusal tells what to do and no password."""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from datetime import datetime

import pytest
import sqlalchemy as sa

from providers.importers.drafts import SourceError
from providers.importers.readonly import open_database, parse, readable
from providers.secrets import Secret
from tests import services

PASSWORD = "hunter2-§/@"
QUOTED = "hunter2-%C2%A7%2F%40"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "legacy.db"
    run_on_file(path, "CREATE TABLE words (id INTEGER PRIMARY KEY, word TEXT)", "INSERT INTO words VALUES (1, 'eins')")
    return path


def run_on_file(path, *statements):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def run_on(url, *statements):
    engine = sa.create_engine(parse(Secret(url)).url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


@contextlib.contextmanager
def opened(url):
    database = open_database(Secret(url))
    try:
        yield database
    finally:
        database.close()


def refusal(url):
    with pytest.raises(SourceError) as refused:
        open_database(Secret(url))
    return str(refused.value)


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def url(request, tmp_path):
    """A database with one row in `words`."""
    if request.param == "sqlite":
        (tmp_path / "words.db").touch()
        found = f"sqlite:///{tmp_path}/words.db"
    else:
        found = request.getfixturevalue(f"{request.param}_url")
    run_on(found, "DROP TABLE IF EXISTS words", "CREATE TABLE words (id INTEGER PRIMARY KEY, word VARCHAR(50))")
    run_on(found, "INSERT INTO words VALUES (1, 'eins')")
    return found


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO words VALUES (2, 'zwei')",
        "UPDATE words SET word = 'zwei'",
        "DELETE FROM words",
        "CREATE TABLE more (id INTEGER)",
        "DROP TABLE words",
    ],
)
def test_nothing_can_be_written(url, statement):
    with opened(url) as database, pytest.raises(SourceError):
        database.fetch(statement)

    with opened(url) as database:
        assert [tuple(row) for row in database.fetch("SELECT * FROM words")] == [(1, "eins")]
        assert "more" not in database.columns()


def test_what_others_write_meanwhile_is_not_seen(postgresql_url, mariadb_url, tmp_path):
    for url in (postgresql_url, mariadb_url):
        run_on(url, "DROP TABLE IF EXISTS words", "CREATE TABLE words (id INTEGER PRIMARY KEY)")
        with opened(url) as database:
            database.fetch("SELECT count(*) FROM words")
            run_on(url, "INSERT INTO words VALUES (2)")

            assert database.fetch("SELECT count(*) FROM words")[0][0] == 0


def test_what_others_write_into_a_file_with_a_write_ahead_log_is_not_seen(file):
    run_on_file(file, "PRAGMA journal_mode = WAL")
    with opened(f"sqlite:///{file}") as database:
        run_on_file(file, "INSERT INTO words VALUES (2, 'zwei')")

        assert database.fetch("SELECT count(*) FROM words")[0][0] == 1


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
def test_a_file_keeps_every_byte(file, mode):
    run_on_file(file, f"PRAGMA journal_mode = {mode}")
    before = hashlib.sha256(file.read_bytes()).hexdigest()

    with opened(f"sqlite:///{file}") as database:
        database.fetch("SELECT * FROM words")

    assert hashlib.sha256(file.read_bytes()).hexdigest() == before


def test_a_log_that_another_program_has_not_written_back_is_read(file):
    run_on_file(file, "PRAGMA journal_mode = WAL")
    with contextlib.closing(sqlite3.connect(file)) as writer:
        writer.execute("INSERT INTO words VALUES (2, 'zwei')")
        writer.commit()
        log = file.with_name(file.name + "-wal").read_bytes()

        with opened(f"sqlite:///{file}") as database:
            assert database.fetch("SELECT count(*) FROM words")[0][0] == 2

        assert file.with_name(file.name + "-wal").read_bytes() == log


def test_rows_come_in_parts(url):
    run_on(url, *(f"INSERT INTO words VALUES ({number}, 'x')" for number in range(2, 8)))
    words = sa.table("words", sa.column("id"))

    with opened(url) as database:
        parts = [[row[0] for row in rows] for rows in database.stream(sa.select(words.c.id).order_by(words.c.id), 3)]

    assert parts == [[1, 2, 3], [4, 5, 6], [7]]


def test_columns_are_listed_by_table(url):
    with opened(url) as database:
        assert [column.name for column in database.columns()["words"]] == ["id", "word"]


def test_a_view_whose_table_is_gone_has_no_columns(file):
    run_on_file(file, "CREATE TABLE gone (id)", "CREATE VIEW broken AS SELECT * FROM gone", "DROP TABLE gone")
    with opened(f"sqlite:///{file}") as database:
        columns = database.columns()

    assert columns["broken"] == []
    assert [column.name for column in columns["words"]] == ["id", "word"]


def test_a_missing_file_is_named_and_not_made(tmp_path):
    assert f"{tmp_path}/nowhere.db does not exist" in refusal(f"sqlite:///{tmp_path}/nowhere.db")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_no_database(tmp_path):
    assert "is a folder" in refusal(f"sqlite:///{tmp_path}")


def test_a_file_of_something_else_is_no_database(tmp_path):
    (tmp_path / "notes.db").write_text("no database at all, but long enough to be looked at" * 20)

    assert "not a sound SQLite database" in refusal(f"sqlite:///{tmp_path}/notes.db")


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_a_url_of_no_file_is_refused(url):
    assert "names no file" in refusal(url)


def test_another_kind_of_database_is_refused_with_the_known_ones():
    text = refusal(f"oracle://scott:{QUOTED}@host/db")

    assert "'oracle' is not a database that can be read" in text
    assert "sqlite:///" in text


@pytest.mark.parametrize("url", ["", "legacy.db", "hunter2-%A7", "://", "user:hunter2-@host/db"])
def test_what_is_no_url_is_refused_without_repeating_it(url):
    text = refusal(url)

    assert "begins with mysql+pymysql://" in text
    assert "hunter2" not in text


@pytest.mark.parametrize("url", ["mysql://me:hunter2:/@host:x/db", "postgres://me:hunter2@host:hunter2/db"])
def test_a_url_that_does_not_parse_is_refused_without_repeating_it(url):
    text = refusal(url)

    assert "%40" in text
    assert "hunter2" not in text


def test_a_url_without_a_database_is_refused():
    assert "names no database" in refusal("mysql://root@127.0.0.1:3306/")


@pytest.mark.parametrize("scheme", ["mysql+pymysql", "mariadb", "postgresql+psycopg", "postgres"])
def test_a_host_where_nobody_answers_is_explained(scheme):
    text = refusal(f"{scheme}://me:{QUOTED}@127.0.0.1:{services.free_port()}/legacy")

    assert "Nobody answers there" in text
    assert "hunter2" not in text


def test_a_refused_login_is_explained_without_the_password(mariadb_url):
    text = refusal(mariadb_url.replace("root@", f"nobody_of_that_name:{QUOTED.replace('%C2%A7', '')}@"))

    assert "refused the login" in text
    assert "hunter2" not in text


def test_a_password_that_cannot_be_sent_is_not_shown(mariadb_url):
    text = refusal(mariadb_url.replace("root@", "root:hunter2%E2%82%AC@"))

    assert "cannot send" in text
    assert "hunter2" not in text


def test_an_unknown_user_is_explained(postgresql_url):
    text = refusal(postgresql_url.replace("postgres@", f"nobody_of_that_name:{QUOTED}@"))

    assert "refused the login" in text
    assert "hunter2" not in text


@pytest.mark.parametrize("server", ["postgresql_url", "mariadb_url"])
def test_a_missing_database_is_explained(server, request):
    assert "no such database" in refusal(request.getfixturevalue(server) + "_of_another_time")


def test_an_unknown_option_is_explained_without_the_password(mariadb_url):
    text = refusal(mariadb_url.replace("root@", f"root:{QUOTED}@") + "?surprise=hunter2-§/@")

    assert "options in the URL" in text
    assert "hunter2" not in text


@pytest.mark.parametrize(
    "option",
    ["init_command=DELETE FROM words", "read_default_file=/etc/passwd", "connect_timeout=soon", "ssl=true", "port=x"],
)
def test_an_option_that_does_more_than_open_is_refused(mariadb_url, option):
    run_on(mariadb_url, "CREATE OR REPLACE TABLE words (id INTEGER)", "INSERT INTO words VALUES (1)")

    text = refusal(f"{mariadb_url}?{option}")

    assert "options in the URL" in text
    with opened(mariadb_url) as database:
        assert database.fetch("SELECT * FROM words") == [(1,)]


@pytest.mark.parametrize("path", ["/tmp/%00", "/" + "a" * 5000, "~nobody-of-this-name/legacy.db"])
def test_a_path_that_cannot_exist_is_explained(path):
    assert "check its path" in refusal(f"sqlite:///{path}")


def test_a_database_without_an_encoding_is_read(postgresql_url):
    server = sa.create_engine(parse(Secret(postgresql_url)).url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    plain = server.url.set(database=f"{server.url.database}_ascii").render_as_string(hide_password=False)
    with server.connect() as connection:
        name = f"{server.url.database}_ascii"
        connection.exec_driver_sql(f"CREATE DATABASE {name} ENCODING SQL_ASCII LOCALE 'C' TEMPLATE template0")
        try:
            with opened(plain) as database:
                assert database.fetch("SELECT 'Grüße'") == [("Grüße",)]
        finally:
            connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")


def test_a_missing_right_is_explained(postgresql_url):
    run_on(postgresql_url, "CREATE TABLE IF NOT EXISTS closed (id INTEGER)")
    with opened(postgresql_url) as database:
        database.fetch("SELECT set_config('role', 'pg_monitor', true)")
        with pytest.raises(SourceError, match="grant it SELECT"):
            database.fetch("SELECT * FROM closed")


@pytest.mark.parametrize(
    ("url", "label"),
    [
        (f"mysql://me:{QUOTED}@Db.Example:3307/bo_admin", "mysql://db.example:3307/bo_admin"),
        (f"mariadb+mysqldb://me:{QUOTED}@db.example/bo_admin", "mysql://db.example:3306/bo_admin"),
        (f"postgres://me:{QUOTED}@db.example/legacy?sslmode=require", "postgresql://db.example:5432/legacy"),
        (f"postgresql+psycopg2://me:{QUOTED}@/legacy?host=/run/postgresql", "postgresql:///run/postgresql:5432/legacy"),
    ],
)
def test_the_label_holds_no_credentials(url, label):
    address = parse(Secret(url))

    assert address.label == label
    assert "hunter2" not in repr(address)


def test_the_identity_is_of_the_place_and_not_of_the_user():
    places = {
        parse(Secret(f"mysql://{user}@db.example{port}/bo")).identity for user in ("a", "b:c") for port in ("", ":3306")
    }

    assert len(places) == 1
    assert len(places.pop()) <= 64
    assert parse(Secret("mysql://db.example/bo")).identity != parse(Secret("mysql://db.example/other")).identity


def test_a_file_has_one_identity_however_it_is_named(file, monkeypatch):
    monkeypatch.chdir(file.parent)

    assert parse(Secret("sqlite:///legacy.db")).identity == parse(Secret(f"sqlite:///{file}")).identity


def test_text_that_is_no_utf_8_is_read(file):
    run_on_file(file, "INSERT INTO words VALUES (2, CAST(x'ff41' AS TEXT))")

    with opened(f"sqlite:///{file}") as database:
        assert database.fetch("SELECT word FROM words WHERE id = 2")[0][0] == "\udcffA"


@pytest.mark.parametrize(("value", "read"), [(b"\x01", 1), (b"\x00", 0), (b"gpt-4o", "gpt-4o"), (b"\xff", "\udcff")])
def test_bytes_are_read_as_what_was_meant(value, read):
    assert readable(value) == read


def test_times_beyond_the_calendar_and_json_come_as_text(postgresql_url):
    with opened(postgresql_url) as database:
        row = database.fetch(
            "SELECT 'infinity'::timestamp, '0044-03-15 BC'::timestamptz, '[1]'::jsonb, now()::timestamp"
        )[0]

    assert row[0] == "infinity"
    assert row[1].endswith("BC")
    assert row[2] == "[1]"
    assert isinstance(row[3], datetime)


def test_zero_dates_come_as_text(mariadb_url):
    run_on(
        mariadb_url,
        "DROP TABLE IF EXISTS times",
        "CREATE TABLE times (at DATETIME)",
        "SET sql_mode = ''",
        "INSERT INTO times VALUES ('0000-00-00 00:00:00'), ('2024-02-30 00:00:00')",
    )

    with opened(mariadb_url) as database:
        assert {row[0] for row in database.fetch("SELECT at FROM times")} == {"0000-00-00 00:00:00"}


def test_text_beyond_the_basic_plane_is_read(mariadb_url):
    run_on(mariadb_url, "DROP TABLE IF EXISTS words", "CREATE TABLE words (word VARCHAR(9)) CHARSET utf8mb4")
    run_on(mariadb_url, "INSERT INTO words VALUES ('🦙')")

    with opened(mariadb_url) as database:
        assert database.fetch("SELECT word FROM words")[0][0] == "🦙"
