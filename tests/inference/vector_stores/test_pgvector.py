from collections.abc import Iterator

import psycopg
import pytest
from django.core.management import call_command

from inference.vector_stores.opening import opened
from inference.vector_stores.pgvector import PgVector
from inference.vector_stores.store import StoreFailed

pytestmark = [pytest.mark.django_db, pytest.mark.xdist_group("vector_stores")]

LANGCHAIN = """
    CREATE TABLE langchain_pg_collection (uuid uuid PRIMARY KEY, name varchar UNIQUE NOT NULL, cmetadata json);
    CREATE TABLE langchain_pg_embedding (
        id varchar PRIMARY KEY, collection_id uuid REFERENCES langchain_pg_collection (uuid) ON DELETE CASCADE,
        embedding vector, document varchar, cmetadata jsonb);
    INSERT INTO langchain_pg_collection VALUES
        ('00000000-0000-0000-0000-000000000001', 'episodes', '{"by": "me"}'),
        ('00000000-0000-0000-0000-000000000002', 'mixed', NULL), ('00000000-0000-0000-0000-000000000003', 'empty', NULL);
    INSERT INTO langchain_pg_embedding SELECT 'e' || n, '00000000-0000-0000-0000-000000000001', '[1,2,3]', 'text', '{}'
        FROM generate_series(1, 4) n;
    INSERT INTO langchain_pg_embedding SELECT 'm' || n, '00000000-0000-0000-0000-000000000002',
        (CASE WHEN n > 3 THEN '[1,2]' ELSE '[1,2,3]' END)::vector, 'text', '{}' FROM generate_series(1, 5) n;
"""


@pytest.fixture
def store(pgvector_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(pgvector_url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public; CREATE EXTENSION vector SCHEMA public")
        yield connection


def counts(store: psycopg.Connection) -> dict[str, int]:
    return dict(
        store.execute(
            "SELECT c.name, count(e.id) FROM langchain_pg_collection c "
            "LEFT JOIN langchain_pg_embedding e ON e.collection_id = c.uuid GROUP BY 1"
        ).fetchall()
    )


def test_collections_are_renamed_and_those_of_several_dimensions_part(store, pgvector_url, capsys) -> None:
    store.execute(LANGCHAIN)

    call_command("migrate_collections", pgvector_url)
    assert counts(store) == {"episodes": 4, "mixed": 5, "empty": 0}
    call_command("migrate_collections", pgvector_url, "--apply")

    assert counts(store) == {"episodes_3": 4, "mixed_3": 3, "mixed_2": 2, "empty": 0}
    assert "pgvector at 127.0.0.1" in capsys.readouterr().out


def test_copies_leave_the_old_ones_as_they_are(store, pgvector_url) -> None:
    store.execute(LANGCHAIN)

    call_command("migrate_collections", pgvector_url, "episodes", "mixed", "--apply", "--copy")

    assert counts(store) == {"episodes": 4, "episodes_3": 4, "mixed": 5, "mixed_3": 3, "mixed_2": 2, "empty": 0}


def test_tables_of_vectors_are_renamed_or_copied(store, pgvector_url) -> None:
    store.execute('CREATE TABLE "My docs" (id serial PRIMARY KEY, v vector(3)); CREATE TABLE notes (id int, v vector)')
    store.execute(
        "INSERT INTO \"My docs\" (v) VALUES ('[1,2,3]'); INSERT INTO notes VALUES (1, '[1,2]'), (2, '[1,2,3]')"
    )

    call_command("migrate_collections", pgvector_url, "My docs", "--apply")
    call_command("migrate_collections", pgvector_url, "notes", "--apply", "--copy")

    tables = {name for (name,) in store.execute("SELECT relname FROM pg_stat_user_tables")}
    assert tables == {"My docs_3", "notes", "notes_2", "notes_3"}
    assert store.execute("SELECT id FROM notes_2").fetchall() == [(1,)]


def test_a_step_that_is_not_verified_changes_nothing(store, pgvector_url, monkeypatch) -> None:
    store.execute(LANGCHAIN)
    told = iter([[(4, 1)], [(3, 1)]])
    monkeypatch.setattr(PgVector, "_fingerprint", lambda self, collection, name: next(told))

    with opened(pgvector_url) as opened_store:
        episodes = next(one for one in opened_store.collections() if one.name == "episodes")
        with pytest.raises(StoreFailed, match="nothing was changed"):
            opened_store.rename(episodes, "episodes_3")
    assert "episodes" in counts(store)


def test_a_password_is_in_no_message() -> None:
    with pytest.raises(StoreFailed) as caught, opened("postgresql://me:hunter2@127.0.0.1:1/x"):
        pass
    assert "hunter2" not in str(caught.value)
