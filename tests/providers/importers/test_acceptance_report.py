"""The report as a program reads it, and what a source needs to be open for."""

from __future__ import annotations

import re
import secrets
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest
import sqlalchemy as sa
from django.core.management import call_command

from providers.importers.findings import CODES
from providers.models import AuditEntry, ImportFinding, ImportRecord, ImportRun, Provider
from tests.providers.importers.commanding import Said, migrate, run
from tests.providers.importers.databases import empty_database
from tests.providers.importers.legacy_databases import LegacyDatabase, build
from tests.providers.importers.registry_view import everything_stored

pytestmark = pytest.mark.django_db

PASSWORD = "pass-word-of-the-source"
DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "import-report.md"
COUNTS = {"rows", "imported", "merged", "rejected", "left_out"}


@pytest.fixture
def messy(tmp_path: Path) -> LegacyDatabase:
    return build(f"sqlite:///{tmp_path}/legacy.sqlite3", "bollm")


@pytest.fixture
def said(messy: LegacyDatabase, tmp_path: Path) -> Said:
    return migrate(messy, tmp_path, "--apply")


def test_the_report_says_which_format_it_has_and_how_the_run_ended(said):
    assert said.report is not None
    run = ImportRun.objects.get()
    assert said.report["format"] == "llm-gateway/import-report"
    assert said.report["version"] == 1
    assert said.report["kind"] == "apply"
    assert said.report["run"] == run.pk
    assert said.report["exit_status"] == said.status == run.exit_status == 2
    assert run.state == ImportRun.State.DONE
    assert run.tables == said.tables


def test_the_report_says_what_was_read(said, messy):
    source = said.report["source"]
    assert source["label"].startswith("sqlite:///")
    assert source["facts"]["engine"] == "sqlite"
    assert source["facts"]["generations"] == "B"


def test_every_table_has_every_count(said):
    assert all(counts.keys() >= COUNTS for counts in said.tables.values())
    assert all(type(count) is int and count >= 0 for counts in said.tables.values() for count in counts.values())


def test_every_finding_names_row_reason_and_what_was_done(said):
    assert said.findings
    for finding in said.findings:
        assert finding.keys() - {"changes"} == {"table", "key", "field", "code", "level", "did", "detail"}
        assert finding["level"] == CODES[finding["code"]].level
        assert finding["table"]
        assert finding["did"]
        assert finding["detail"].strip()


def test_the_counts_of_codes_are_those_of_the_findings(said):
    assert said.report["codes"] == dict(Counter(finding["code"] for finding in said.findings))


def test_the_database_keeps_the_same_findings(said):
    kept = ImportFinding.objects.values_list("table", "key", "field", "code")
    assert Counter(kept) == Counter(
        tuple(found[name] for name in ("table", "key", "field", "code")) for found in said.findings
    )


def test_the_format_is_documented_code_by_code(said):
    text = DOCUMENT.read_text()
    assert [code for code in CODES if f"`{code}`" not in text] == []
    assert [name for name in said.report if f"`{name}`" not in text] == []
    assert [name for name in (*COUNTS, *said.findings[0]) if f"`{name}`" not in text] == []


def test_the_report_is_for_its_owner_only(said, tmp_path):
    assert (tmp_path / "report.json").stat().st_mode & 0o077 == 0


def test_a_report_that_cannot_be_written_is_told_before_anything_is_imported(messy, tmp_path):
    said = run(tmp_path / "absent", "--source", messy.url, "--apply", "--no-progress")
    assert said.status == 1
    assert not Provider.objects.exists()


def test_the_screen_names_every_table_and_how_it_ended(said, messy):
    plain = re.sub(r"\x1b\[[0-9;]*m", "", said.screen)
    assert [table for table in messy.expected.rows if table not in plain] == []
    assert "need a person" in plain or "needs a person" in plain


def test_every_row_of_the_registry_has_its_origin(said, messy):
    recorded = {(record.table, record.key) for record in ImportRecord.objects.all()}
    imported = {(fate.table, fate.keys[0]) for fate in messy.expected.fates if fate.outcomes == {"imported": 1}}
    assert imported <= recorded


def test_the_audit_log_names_the_import_and_stays_whole(said):
    assert AuditEntry.objects.filter(target_type="provider", target_id="openai-main").exists()
    call_command("verify_audit")


# --- What the source needs ------------------------------------------------------------------------------------------------


@pytest.fixture(params=["mysql", "postgresql"])
def read_only(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LegacyDatabase]:
    """A database whose URL names a user that may read and nothing else, with a password."""
    with empty_database(request.param) as url:
        owned = build(url, "both", messy=False)
        name, database = f"reader_{secrets.token_hex(4)}", urlsplit(owned.url).path[1:]
        if request.param == "mysql":
            make = [f"CREATE USER {name}@'%' IDENTIFIED BY '{PASSWORD}'", f"GRANT SELECT ON {database}.* TO {name}@'%'"]
            drop = [f"DROP USER {name}@'%'"]
        else:
            make = [
                f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'",
                f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {name}",
            ]
            drop = [f"DROP OWNED BY {name}", f"DROP ROLE {name}"]
        _as_owner(owned, make)
        parts = urlsplit(owned.url)
        place = f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)
        as_reader = urlunsplit(parts._replace(netloc=f"{name}:{PASSWORD}@{place}"))
        yield LegacyDatabase(as_reader, owned.engine, owned.generation, owned.legacy_keys, owned.expected, owned.family)
        _as_owner(owned, drop)


def _as_owner(owned: LegacyDatabase, statements: list[str]) -> None:
    made = sa.create_engine(owned.url, poolclass=sa.NullPool)
    with made.begin() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))
    made.dispose()


def test_a_user_who_may_only_read_is_enough(read_only, tmp_path):
    assert migrate(read_only, tmp_path, "--apply").status == 2
    assert Provider.objects.count() == 3
    assert migrate(read_only, tmp_path, "--verify").status == 0


def test_the_password_of_the_source_is_kept_nowhere(read_only, tmp_path):
    said = [migrate(read_only, tmp_path, *how) for how in ((), ("--apply",), ("--verify",), ("--delta",))]
    assert [PASSWORD in one.text for one in said] == [False] * 4
    assert PASSWORD not in repr(everything_stored())
    assert not ImportRun.objects.exclude(sealed=None).exists()


def test_the_legacy_programs_go_on_writing_during_the_import(tmp_path):
    """A source that another program has open in the middle of a transaction."""
    with empty_database("mysql") as url:
        legacy = build(url, "bollm", messy=False)
        made = sa.create_engine(legacy.url, poolclass=sa.NullPool)
        with made.begin() as connection:
            connection.execute(
                sa.text("UPDATE llm_providers SET display_name = 'Half done' WHERE provider_id = 'openai-main'")
            )
            assert migrate(legacy, tmp_path, "--apply").status == 0
            connection.execute(sa.text("UPDATE llm_models SET max_tokens = 5"))
        made.dispose()
        assert Provider.objects.get(provider_id="openai-main").display_name == "OpenAI"
        assert migrate(legacy, tmp_path, "--delta").status == 0
        assert Provider.objects.get(provider_id="openai-main").display_name == "Half done"


def test_a_database_in_write_ahead_mode_is_read_with_what_is_in_its_log(tmp_path):
    legacy = build(f"sqlite:///{tmp_path}/legacy.sqlite3", "gateway", messy=False)
    made = sa.create_engine(legacy.url, poolclass=sa.NullPool)
    with made.connect() as connection:
        connection.execute(sa.text("PRAGMA journal_mode = WAL"))
        connection.execute(
            sa.text("UPDATE llm_providers SET display_name = 'In the log' WHERE provider_id = 'openai-main'")
        )
        connection.commit()
        assert (tmp_path / "legacy.sqlite3-wal").stat().st_size > 0
        assert migrate(legacy, tmp_path, "--apply").status == 0
    made.dispose()
    assert Provider.objects.get(provider_id="openai-main").display_name == "In the log"
