"""The legacy databases as they are read: every row in its bundle or accounted for, on each engine and generation.

The suite's own database has no part in it.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from providers.importers import backoffice
from providers.importers.drafts import Kind, SourceError
from providers.importers.findings import Outcome
from providers.importers.options import Options
from providers.importers.readonly import parse
from providers.secrets import Secret
from tests.providers.importers.databases import empty_database
from tests.providers.importers.legacy_databases import build
from tests.providers.importers.legacy_tables import GATEWAY, NEWER, OLDER, statements

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
ENGINES = ["sqlite", "postgresql", "mysql"]
EACH_ONCE = [("mysql", "bo"), ("postgresql", "bollm"), ("sqlite", "gateway"), ("mysql", "both")]
"""Every engine and every generation; all pairs of them are imported by the acceptance tests."""
FAMILIES = {"bo": OLDER, "bollm": NEWER, "gateway": GATEWAY, "both": NEWER}


pytestmark = pytest.mark.slow


class Legacy:
    """A legacy database with empty tables, to be filled row by row."""

    _standing = {}
    """What was made last, by URL: emptying tables takes a tenth of the time of making them anew."""

    def __init__(self, url, generation, spelt=None):
        self.url, self.family, self.older = url, FAMILIES[generation], OLDER
        self._ids = Counter()
        self.engine = sa.create_engine(parse(Secret(url)).url)
        if spelt is None and self._standing.get(url) == generation:
            self.run(*_deletions(self.engine))
            return
        self._standing[url] = None if spelt else generation
        self.run(*_drops(self.engine))
        self.run(*map(spelt or str, statements(self.engine.dialect.name, generation)))

    def run(self, *commands):
        with self.engine.begin() as connection:
            for command in (_UNCHECKED[self.engine.dialect.name], *commands):
                connection.execute(sa.text(command) if isinstance(command, str) else command)

    def insert(self, table, **values):
        self.run(sa.insert(sa.table(table, *map(sa.column, values))).values(values))

    def provider(self, provider_id, family=None, **values):
        facts = {"provider_id": provider_id, "provider_type": "openai", "display_name": "P", "enabled": True}
        self.insert((family or self.family).providers, **facts | values)

    def model(self, provider_id, model_id, family=None, **values):
        facts = {"provider_id": provider_id, "model_id": model_id, "display_name": "M", "enabled": True}
        self.insert((family or self.family).models, **facts | values)

    def key(self, provider_id, secret, family=None, **values):
        table = (family or self.family).keys
        self._ids[table] += 1
        facts = {"key_id": self._ids[table], "provider_id": provider_id, "key_value": secret}
        self.insert(table, **facts | {"is_encrypted": False, "environment": "production"} | values)

    def parameter(self, provider_id, name, value, family=None, **values):
        table = (family or self.family).parameters
        self._ids[table] += 1
        facts = {"param_id": self._ids[table], "provider_id": provider_id, "param_name": name, "param_value": value}
        self.insert(table, **facts | {"is_sensitive": False, "environment": "production"} | values)


_UNCHECKED = {
    "mysql": "SET FOREIGN_KEY_CHECKS = 0, sql_mode = '', time_zone = '+03:00'",
    "postgresql": "SET LOCAL session_replication_role = replica",
    "sqlite": "PRAGMA foreign_keys = OFF",
}


def _deletions(engine):
    return [f"DELETE FROM {table}" for table in sa.inspect(engine).get_table_names()]


def _drops(engine):
    if engine.dialect.name == "postgresql":
        return ["DROP SCHEMA public CASCADE", "CREATE SCHEMA public"]
    return [f"DROP TABLE IF EXISTS {table}" for table in sa.inspect(engine).get_table_names()]


class Book:
    """A ledger that keeps everything."""

    def __init__(self):
        self.rows, self.outcomes, self.findings = Counter(), Counter(), []

    def read(self, table, rows=1):
        self.rows[table] += rows

    def count(self, table, outcome, rows=1):
        self.outcomes[table, outcome] += rows

    def find(self, finding):
        self.findings.append(finding)

    def import_(self, draft):
        for origin in (draft.origin, *draft.merged):
            if not origin.inside:
                self.count(origin.table, Outcome.IMPORTED if origin is draft.origin else Outcome.MERGED)

    def said(self, code):
        return [(finding.table, finding.key) for finding in self.findings if finding.code.name == code]

    @property
    def unaccounted(self):
        told = Counter()
        for (table, _), rows in self.outcomes.items():
            told[table] += rows
        return {table: rows for table, rows in self.rows.items() if told[table] != rows}


def options(url, **how):
    return Options(Secret(url), **how)


def read(url, **how):
    """Bundles as lists of drafts by provider, and the book."""
    book, bundles = Book(), []
    source = backoffice.open(options(url, **how), default_environment="production", now=NOW)
    try:
        for bundle in source.bundles(book):
            batches = [list(batch) for batch in bundle.models]
            bundles.append((bundle, batches))
            for draft in [bundle.provider, *bundle.keys, *bundle.parameters, *(d for batch in batches for d in batch)]:
                if draft:
                    book.import_(draft)
    finally:
        source.close()
    return bundles, book


def drafts(bundles, kind):
    found = []
    for bundle, batches in bundles:
        parts = [bundle.provider, *bundle.keys, *bundle.parameters, *(draft for batch in batches for draft in batch)]
        found += [draft for draft in parts if draft and draft.kind is kind]
    return found


@pytest.fixture
def make(request, tmp_path):
    """Makes the legacy database of a generation on an engine."""

    def database(engine, generation, spelt=None):
        if engine == "sqlite":
            (tmp_path / "legacy.db").touch()
            url = f"sqlite:///{tmp_path}/legacy.db"
        else:
            url = request.getfixturevalue({"postgresql": "postgresql_url", "mysql": "mariadb_url"}[engine])
        made = Legacy(url, generation, spelt)
        request.addfinalizer(made.engine.dispose)
        return made

    return database


@pytest.fixture(params=ENGINES)
def legacy(request, make):
    return make(request.param, "bollm")


@pytest.fixture(params=ENGINES)
def both(request, make):
    return make(request.param, "both")


@pytest.fixture
def small(make):
    """The newer family in a file, for what no engine does differently."""
    return make("sqlite", "bollm")


@pytest.mark.parametrize(("engine", "generation"), EACH_ONCE)
def test_a_provider_comes_with_its_parts(make, engine, generation):
    legacy = make(engine, generation)
    legacy.provider("openai")
    legacy.model("openai", "gpt-4o")
    legacy.key("openai", "sk-live-0123456789abcdef")
    legacy.parameter("openai", "region", "eu")

    [(bundle, batches)], book = read(legacy.url)

    assert bundle.provider.provider_id == bundle.provider_id == "openai"
    assert [draft.name for batch in batches for draft in batch] == ["gpt-4o"]
    assert [draft.secrets["secret"].reveal() for draft in bundle.keys] == ["sk-live-0123456789abcdef"]
    assert [(draft.name, draft.facts["plain_value"]) for draft in bundle.parameters] == [("region", "eu")]
    assert book.unaccounted == {}


@pytest.mark.parametrize(("engine", "generation"), EACH_ONCE)
def test_the_report_is_told_engine_and_generation(make, engine, generation):
    source = backoffice.open(options(make(engine, generation).url), default_environment="production", now=NOW)
    source.close()

    assert source.facts["engine"] == engine
    assert source.facts["generations"] == {"bo": "A", "bollm": "B", "gateway": "C", "both": "A+B"}[generation]


def test_rows_are_known_by_table_before_they_are_read(legacy):
    legacy.provider("openai")
    for number in range(3):
        legacy.model("openai", f"gpt-{number}")

    source = backoffice.open(options(legacy.url), default_environment="production", now=NOW)
    source.close()

    assert source.rows["llm_models"] == 3
    assert source.rows["users_providers"] == 0


def test_models_come_in_batches_of_the_size_asked_for(legacy):
    for provider_id in ("a", "b"):
        legacy.provider(provider_id)
        for number in range(5):
            legacy.model(provider_id, f"model/{number}:x")

    bundles, book = read(legacy.url, batch_size=2)

    assert [(bundle.provider_id, [len(batch) for batch in batches]) for bundle, batches in bundles] == [
        ("a", [2, 2, 1]),
        ("b", [2, 2, 1]),
    ]
    assert book.rows["llm_models"] == 10


def test_two_readings_are_the_same(both):
    for family in (NEWER, OLDER):
        for provider_id in ("b", "a", family.providers):
            both.provider(provider_id, family)
            both.model(provider_id, f"{provider_id}-{family.models}", family)
            both.key(provider_id, f"sk-{provider_id}-0123456789abcdef", family)

    first, _ = read(both.url)
    second, _ = read(both.url)

    assert [bundle.provider_id for bundle, _ in first] == [bundle.provider_id for bundle, _ in second]
    for kind in Kind:
        assert drafts(first, kind) == drafts(second, kind)


def test_a_batch_that_nobody_took_does_not_reach_the_next_provider(small):
    for provider_id in ("a", "b"):
        small.provider(provider_id)
        for number in range(4):
            small.model(provider_id, f"{provider_id}{number}")
    source = backoffice.open(options(small.url, batch_size=2), default_environment="production", now=NOW)

    bundles = source.bundles(Book())
    next(iter(next(bundles).models))
    second = [draft.name for batch in next(bundles).models for draft in batch]
    source.close()

    assert second == ["b0", "b1", "b2", "b3"]


@pytest.mark.parametrize("part", ["model", "key", "parameter"])
def test_an_orphan_is_rejected_and_named(legacy, part):
    if part == "model":
        legacy.model("nobody", "gpt-4o")
    elif part == "key":
        legacy.key("nobody", "sk-live-0123456789abcdef")
    else:
        legacy.parameter("nobody", "region", "eu")
    table = {"model": NEWER.models, "key": NEWER.keys, "parameter": NEWER.parameters}[part]

    bundles, book = read(legacy.url)

    assert bundles == []
    assert book.said("orphan") == [(table, "nobody:gpt-4o" if part == "model" else "1")]
    assert book.outcomes[table, Outcome.REJECTED] == 1
    assert book.unaccounted == {}


def test_parts_of_a_rejected_provider_are_rejected_with_it(legacy):
    legacy.provider("")
    legacy.model("", "gpt-4o")
    legacy.key("", "sk-live-0123456789abcdef")

    bundles, book = read(legacy.url)

    assert bundles == []
    assert [table for table, _ in book.said("parent_rejected")] == [NEWER.keys, NEWER.models]
    assert book.unaccounted == {}


@pytest.mark.parametrize("spelling", ["OpenAI", "openai "])
def test_ids_that_differ_in_case_or_blanks_belong_together_only_where_the_database_says_so(legacy, spelling):
    legacy.provider("openai")
    legacy.model(spelling, "gpt-4o")
    legacy.key(spelling, "sk-live-0123456789abcdef")
    legacy.parameter(spelling, "region", "eu")

    [(bundle, batches)], book = read(legacy.url)

    tables = [NEWER.keys, NEWER.parameters, NEWER.models]
    if legacy.engine.dialect.name == "mysql":
        assert [table for table, _ in book.said("parent_matched")] == tables
        assert {draft.provider_id for draft in (*bundle.keys, *bundle.parameters, *batches[0])} == {"openai"}
    else:
        assert [table for table, _ in book.said("orphan")] == tables
        assert batches == []
    assert book.unaccounted == {}


def test_a_provider_without_models_is_brought_too(legacy):
    for provider_id in ("a", "b", "c"):
        legacy.provider(provider_id)
    legacy.model("b", "gpt-4o")

    bundles, _ = read(legacy.url)

    assert sorted(bundle.provider_id for bundle, _ in bundles) == ["a", "b", "c"]
    assert all(bundle.provider for bundle, _ in bundles)


def test_of_providers_that_are_one_once_repaired_the_one_that_needed_no_repair_is_brought(small):
    small.provider("openai", display_name="Exact")
    small.provider(" openai", display_name="Blank")
    small.model(" openai", "gpt-3.5")
    small.model("openai", "gpt-4o")

    bundles, book = read(small.url)

    assert [draft.facts["display_name"] for draft in drafts(bundles, Kind.PROVIDER)] == ["Exact"]
    assert [draft.name for draft in drafts(bundles, Kind.MODEL)] == ["gpt-4o"]
    assert book.said("duplicate_differs") == [(NEWER.providers, " openai")]
    assert book.said("parent_rejected") == [(NEWER.models, " openai:gpt-3.5")]
    assert book.unaccounted == {}


def test_models_that_are_one_once_repaired_are_not_brought_twice(small):
    small.provider("openai")
    small.model("openai", "gpt-4o")
    small.model("openai", "gpt-4o ")

    bundles, book = read(small.url)

    assert [draft.name for draft in drafts(bundles, Kind.MODEL)] == ["gpt-4o"]
    assert book.said("duplicate_differs") == [(NEWER.models, "openai:gpt-4o ")]
    assert book.unaccounted == {}


# --- Whole databases --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=EACH_ONCE, ids="-".join)
def messy(request, tmp_path_factory):
    """A messy database that was read once: what stands in it, before and after, and the book of the reading."""
    engine, generation = request.param
    with empty_database(engine) as url:
        made = build(url, generation)
        before = made.checksum()
        _, book = read(made.url, legacy_keys=tuple(map(Secret, made.legacy_keys)))
        yield made, book, before, made.checksum()


def test_every_row_of_a_messy_database_is_accounted_for(messy):
    made, book, _, _ = messy

    assert book.unaccounted == {}
    assert {table: rows for table, rows in book.rows.items() if rows} == {
        table: rows for table, rows in made.expected.rows.items() if rows
    }
    for table in made.family.columns:
        stated, open_ones = made.expected.outcomes_of(table)
        found = Counter({str(outcome): rows for (name, outcome), rows in book.outcomes.items() if name == table})
        assert stated - found == Counter(), table
        assert (found - stated).total() <= open_ones, table
    for fate in made.expected.fates:
        told = {finding.code.name for finding in book.findings if (finding.table, finding.key) in _places(fate)}
        assert fate.codes <= told, fate


def _places(fate):
    return {(fate.table, key) for key in fate.keys}


def test_reading_leaves_the_source_as_it_was(messy):
    _, _, before, after = messy

    assert before == after


def test_no_secret_of_the_source_stands_in_a_finding(messy):
    made, book, _, _ = messy

    told = repr(book.findings)
    assert len(book.findings) > 20
    assert [secret for secret in made.expected.secrets if secret in told] == []


def test_rows_that_come_while_it_is_read_are_accounted_for_where_there_is_no_snapshot(make):
    legacy = make(
        "mysql",
        "bollm",
        lambda statement: statement.replace("InnoDB DEFAULT CHARSET=utf8mb4", "MyISAM DEFAULT CHARSET=latin1"),
    )
    legacy.provider("openai")
    source = backoffice.open(options(legacy.url), default_environment="production", now=NOW)
    legacy.provider("cohere")

    book = Book()
    for bundle in source.bundles(book):
        book.import_(bundle.provider)
    source.close()

    assert book.rows[NEWER.providers] == 2
    assert book.unaccounted == {}


# --- What is asked for ------------------------------------------------------------------------------------------------------


def test_only_the_providers_asked_for_are_brought(legacy):
    for provider_id in ("a", "b"):
        legacy.provider(provider_id)
        legacy.model(provider_id, "gpt-4o")
        legacy.key(provider_id, "sk-live-0123456789abcdef")
    legacy.model("nobody", "gpt-4o")

    bundles, book = read(legacy.url, only=("b",))

    assert [bundle.provider_id for bundle, _ in bundles] == ["b"]
    assert book.outcomes[NEWER.providers, Outcome.LEFT_OUT] == 1
    assert book.outcomes[NEWER.models, Outcome.LEFT_OUT] == 2
    assert book.outcomes[NEWER.keys, Outcome.LEFT_OUT] == 1
    assert book.unaccounted == {}


def test_a_misspelt_provider_is_refused(small):
    small.provider("openai")

    with pytest.raises(SourceError, match=r"no provider opneai\. It has: openai"):
        read(small.url, only=("opneai",))


def test_only_the_environments_asked_for_are_brought(legacy):
    legacy.provider("openai")
    for environment in ("development", "staging", "production"):
        legacy.key("openai", f"sk-{environment}-0123456789abcdef", environment=environment)
        legacy.parameter("openai", "region", "eu", environment=environment)

    [(bundle, _)], book = read(legacy.url, environments=("staging",))

    assert [draft.environment for draft in (*bundle.keys, *bundle.parameters)] == ["staging", "staging"]
    assert book.outcomes[NEWER.keys, Outcome.LEFT_OUT] == 2
    assert book.unaccounted == {}


def test_every_environment_is_brought_when_none_is_asked_for(legacy):
    legacy.provider("openai")
    for environment in ("development", "staging", "production"):
        legacy.parameter("openai", "region", "eu", environment=environment)

    [(bundle, _)], _ = read(legacy.url)

    assert {draft.environment for draft in bundle.parameters} == {"development", "staging", "production"}


def test_an_unknown_time_zone_is_refused(small):
    with pytest.raises(SourceError, match="Mars/Olympus"):
        read(small.url, naive_timezone="Mars/Olympus")


# --- Keys inside objects ----------------------------------------------------------------------------------------------------


def test_a_key_inside_an_object_is_counted_apart_from_the_row(small):
    small.provider("openai", connection_params='{"api_key": "sk-inside-0123456789abcdef"}')

    [(bundle, _)], book = read(small.url)

    assert [draft.secrets["secret"].reveal() for draft in bundle.keys] == ["sk-inside-0123456789abcdef"]
    assert book.rows[NEWER.providers] == 1
    assert book.unaccounted == {}


def test_a_key_inside_a_model_follows_the_models(small):
    small.provider("openai")
    small.model("openai", "a-first")
    small.model("openai", "gpt-4o", parameters='{"api_key": "sk-inside-0123456789abcdef"}')

    [_, (bundle, batches)], book = read(small.url)

    assert bundle.provider is None
    assert bundle.provider_id == "openai"
    assert [draft.secrets["secret"].reveal() for draft in bundle.keys] == ["sk-inside-0123456789abcdef"]
    assert batches == []
    assert book.unaccounted == {}


def test_a_key_inside_a_model_that_the_provider_has_already_changes_nothing(small):
    small.provider("openai")
    small.key("openai", "sk-live-0123456789abcdef")
    small.model("openai", "gpt-4o", parameters='{"api_key": "sk-live-0123456789abcdef"}')

    bundles, book = read(small.url)

    assert len(drafts(bundles, Kind.KEY)) == 1
    assert "openai:gpt-4o#parameters.api_key" in dict(map(reversed, book.said("duplicate")))
    assert book.unaccounted == {}


# --- Both families ----------------------------------------------------------------------------------------------------------


def both_hold(legacy, **differing):
    for family in (NEWER, OLDER):
        legacy.provider("openai", family, **(differing if family is OLDER else {}))


def test_rows_that_both_families_have_are_merged(both):
    both_hold(both)
    for family in (NEWER, OLDER):
        both.model("openai", "gpt-4o", family, model_type="chat")
        both.key("openai", "sk-live-0123456789abcdef", family)
        both.parameter("openai", "region", "eu", family)

    bundles, book = read(both.url)

    assert len(bundles) == 1
    for table in OLDER.columns:
        assert book.outcomes[table, Outcome.MERGED] == 1, table
        assert table in dict(book.said("duplicate"))
    assert book.unaccounted == {}


def test_rows_that_differ_are_reported_and_the_newer_family_wins(both):
    both_hold(both, display_name="Other")
    both.model("openai", "gpt-4o", NEWER, model_type="chat")
    both.model("openai", "gpt-4o", OLDER, model_type="chat", display_name="Other")
    both.parameter("openai", "region", "eu", NEWER)
    both.parameter("openai", "region", "us", OLDER)

    bundles, book = read(both.url)

    assert [draft.facts["display_name"] for draft in drafts(bundles, Kind.PROVIDER)] == ["P"]
    assert [draft.facts["plain_value"] for draft in drafts(bundles, Kind.PARAMETER)] == ["eu"]
    assert book.said("differs_from_registry") == [
        (OLDER.providers, "openai"),
        (OLDER.models, "openai:gpt-4o"),
        (OLDER.parameters, "1"),
    ]
    assert book.outcomes[OLDER.models, Outcome.REJECTED] == 1
    assert book.unaccounted == {}


def test_parts_that_only_the_older_family_has_join_the_registrys_provider(both):
    both_hold(both)
    both.model("openai", "gpt-4o", NEWER)
    both.model("openai", "gpt-3.5", OLDER)
    both.key("openai", "sk-older-0123456789abcdef", OLDER)
    both.parameter("openai", "region", "eu", OLDER)

    bundles, book = read(both.url)

    assert [(bundle.provider_id, bundle.provider is None) for bundle, _ in bundles] == [
        ("openai", False),
        ("openai", True),
    ]
    assert [draft.name for draft in drafts(bundles[1:], Kind.MODEL)] == ["gpt-3.5"]
    assert len(bundles[1][0].keys) == len(bundles[1][0].parameters) == 1
    assert sorted(table for table, _ in book.said("only_in_older")) == sorted(
        [OLDER.models, OLDER.keys, OLDER.parameters]
    )
    assert book.unaccounted == {}


def test_a_provider_that_only_the_older_family_has_is_imported_and_named(both):
    both.provider("openai", NEWER)
    both.provider("cohere", OLDER)
    both.model("cohere", "command", OLDER)

    bundles, book = read(both.url)

    assert [bundle.provider.provider_id for bundle, _ in bundles] == ["openai", "cohere"]
    assert (OLDER.providers, "cohere") in book.said("only_in_older")
    assert book.unaccounted == {}


def test_families_meet_in_spite_of_different_collations(make):
    def spelt(statement):
        is_newer = "TABLE llm_" in statement
        return statement.replace(
            "CHARSET=utf8mb4", f"COLLATE={'utf8mb4_unicode_ci' if is_newer else 'latin1_swedish_ci'}"
        )

    legacy = make("mysql", "both", spelt)
    legacy.provider("openai", NEWER)
    legacy.provider("OpenAI", OLDER)
    legacy.model("openai", "gpt-4o", NEWER, model_type="chat")
    legacy.model("OpenAI", "GPT-4o", OLDER, model_type="chat")

    bundles, book = read(legacy.url)

    assert len(bundles) == 1
    assert book.outcomes[OLDER.models, Outcome.IMPORTED] == 0
    assert book.unaccounted == {}


def test_tables_of_another_product_beside_the_registry_are_left_alone(small):
    small.run("CREATE TABLE providers (id INTEGER, name TEXT)", "INSERT INTO providers VALUES (1, 'postman')")
    small.provider("openai")

    bundles, book = read(small.url)

    assert len(bundles) == 1
    assert "providers" not in book.rows


# --- Tables without a place -------------------------------------------------------------------------------------------------


def test_each_side_table_is_named_with_its_count(legacy):
    legacy.insert("roles", id=1, name="admin")
    legacy.insert("users", id=1, username="ada", email="ada@example.com", password_hash="x")
    legacy.insert("configurations", id=1, config_key="theme", config_value="dark")

    _, book = read(legacy.url)

    named = {finding.table: finding.detail for finding in book.findings if finding.code.name == "no_place"}
    assert named["users"].startswith("1 rows are not imported")
    assert set(named) == {
        *("users", "roles", "users_providers", "configurations", "user_settings", "audit_logs", "api_key_usage")
    }
    assert book.outcomes["users", Outcome.REJECTED] == 1
    assert book.unaccounted == {}


def test_assignments_and_usage_that_name_nothing_are_reported(legacy):
    legacy.provider("openai")
    legacy.key("openai", "sk-live-0123456789abcdef")
    legacy.insert("users", id=1, username="ada", email="ada@example.com", password_hash="x")
    legacy.insert("users_providers", user_id=1, provider_id="openai")
    legacy.insert("users_providers", user_id=1, provider_id="nobody")
    legacy.insert("users_providers", user_id=7, provider_id="openai")
    for number, (key_id, user_id) in enumerate([(1, 1), (9, 1), (9, 7)], start=1):
        legacy.insert("api_key_usage", id=number, key_id=key_id, user_id=user_id, usage_date="2024-01-01")

    _, book = read(legacy.url)

    assert book.said("side_orphan") == [
        ("users_providers", "provider_id=nobody"),
        ("users_providers", "user_id=7"),
        ("api_key_usage", "key_id=9"),
        ("api_key_usage", "user_id=7"),
    ]
    assert any(finding.detail.startswith("2 rows name the key 9") for finding in book.findings)


def test_an_assignment_may_name_a_provider_of_either_family(both):
    both.provider("openai", NEWER)
    both.provider("cohere", OLDER)
    both.insert("users", id=1, username="ada", email="ada@example.com", password_hash="x")
    for provider_id in ("openai", "cohere"):
        both.insert("users_providers", user_id=1, provider_id=provider_id)

    _, book = read(both.url)

    assert book.said("side_orphan") == []


def test_authors_are_named_by_the_users_table(legacy):
    legacy.insert("users", id=3, username="ada", email="ada@example.com", password_hash="x")
    legacy.provider("openai")
    legacy.key("openai", "sk-live-0123456789abcdef", created_by_user_id=3)

    [(bundle, _)], _ = read(legacy.url)

    assert bundle.keys[0].facts["created_by"] == "ada"


def test_an_author_whose_name_is_stored_as_bytes_is_named(small):
    small.insert("users", id=3, username=b"ada", email="ada@example.com", password_hash="x")
    small.provider("openai")
    small.key("openai", "sk-live-0123456789abcdef", created_by_user_id=3)

    [(bundle, _)], _ = read(small.url)

    assert bundle.keys[0].facts["created_by"] == "ada"


# --- Origins and dirty values -----------------------------------------------------------------------------------------------


def test_an_origin_names_the_row_and_tells_when_it_changed(legacy):
    legacy.provider("openai")
    legacy.model("openai", "gpt-4o")
    before = drafts(read(legacy.url)[0], Kind.MODEL)[0].origin

    legacy.run("UPDATE llm_models SET context_window = 8192")
    after = drafts(read(legacy.url)[0], Kind.MODEL)[0].origin

    assert (before.table, before.key) == (after.table, after.key) == (NEWER.models, "openai:gpt-4o")
    assert before.digest != after.digest
    assert len(before.digest) == 32


def test_a_stamp_of_mysql_is_in_utc_whatever_the_writers_zone(make):
    legacy = make("mysql", "bo")
    legacy.provider("openai", created_at="2024-03-01 15:00:00")  # the writer's session is three hours ahead

    [(bundle, _)], _ = read(legacy.url, naive_timezone="America/New_York")

    assert bundle.provider.facts["created_at"] == datetime(2024, 3, 1, 12, tzinfo=UTC)


def test_times_that_are_none_do_not_stop_the_reading(legacy):
    broken = {"mysql": "0000-00-00 00:00:00", "postgresql": "infinity", "sqlite": "yesterday, I think"}
    legacy.provider("openai", created_at=broken[legacy.engine.dialect.name])
    legacy.provider("cohere")

    bundles, book = read(legacy.url)

    assert {bundle.provider_id for bundle, _ in bundles} == {"openai", "cohere"}
    assert book.unaccounted == {}


def test_text_that_is_no_text_does_not_stop_the_reading(small):
    small.provider("openai")
    small.run("UPDATE llm_providers SET description = CAST(x'ff41' AS TEXT), display_name = x'4142'")

    [(bundle, _)], _ = read(small.url)

    assert bundle.provider.facts["display_name"] == "AB"


def test_json_of_the_wrong_shape_does_not_stop_the_reading(small):
    small.provider("openai", connection_params="{broken", request_settings="[1, 2")
    small.model("openai", "gpt-4o", capabilities="chat, vision", parameters="nonsense")

    bundles, book = read(small.url)

    assert len(drafts(bundles, Kind.MODEL)) == 1
    assert book.unaccounted == {}


def test_a_key_longer_than_any_column_of_ours_is_cut_and_stays_unique(small):
    small.provider("openai")
    for end in "ab":
        small.model("openai", "m" * 700 + end)

    _, book = read(small.url)

    keys = {finding.key for finding in book.findings if finding.table == NEWER.models}
    assert len(keys) == 2
    assert all(len(key) <= 600 for key in keys)


def test_a_foreign_database_is_refused_and_closed(tmp_path):
    path = Path(tmp_path / "shop.db")
    path.touch()
    engine = sa.create_engine(f"sqlite:///{path}", poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE orders (id INTEGER)"))

    with pytest.raises(SourceError, match="Found were: orders"):
        read(f"sqlite:///{path}")
