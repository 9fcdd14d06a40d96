"""A whole cut-over, for every generation of the legacy database on every engine: what an operator has to be able to rely on.

One import is run through for each database, and looked at from all sides afterwards. What is expected stands in
`legacy_rows`, beside the rows.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_django
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from providers.models import ApiKey, ConnectionParameter, ImportRun, Provider, ProviderModel
from providers.secrets import Secret
from tests.providers.importers.commanding import Said, migrate
from tests.providers.importers.databases import ENGINES, empty_database
from tests.providers.importers.legacy_databases import GENERATIONS, LegacyDatabase, build
from tests.providers.importers.registry_view import (
    Registry,
    differences,
    everything_stored,
    in_the_clear,
    registry,
)

pytestmark = pytest.mark.django_db  # without it, pytest-django makes no database for the fixture


@dataclass(frozen=True, slots=True)
class Story:
    """A dry run, an import, the same import again, a verification and an undoing; and the state after each."""

    legacy: LegacyDatabase
    source_at_first: str
    source_at_last: str
    stored_at_first: dict[str, list[str]]
    stored_after_dry_run: dict[str, list[str]]
    stored_after_apply: dict[str, list[str]]
    registry_at_first: Registry
    registry_after_apply: Registry
    registry_after_second: Registry
    registry_after_undo: Registry
    usable_keys: set[str]
    dry_run: Said
    applied: Said
    second: Said
    verified: Said
    undone: Said

    @property
    def everything_said(self) -> list[Said]:
        return [self.dry_run, self.applied, self.second, self.verified, self.undone]


@contextlib.contextmanager
def nothing_kept() -> Iterator[None]:
    """The suite's database, as it was before when this is over."""
    outermost = transaction.atomic()
    outermost._from_testcase = True  # as Django's own test case does, so that inner blocks may be durable
    with outermost:
        yield
        transaction.set_rollback(True)


@pytest.fixture(
    scope="module", params=[(engine, generation) for generation in GENERATIONS for engine in ENGINES], ids="-".join
)
def story(
    request: pytest.FixtureRequest,
    django_db_setup: None,
    django_db_blocker: pytest_django.DjangoDbBlocker,
    tmp_path_factory: pytest.TempPathFactory,
) -> Story:
    engine, generation = request.param
    folder = tmp_path_factory.mktemp("story")
    with empty_database(engine) as url:
        legacy = build(url, generation)
        with django_db_blocker.unblock(), nothing_kept():
            told = _told(legacy, folder)
    return told


HERE = "made-here"


def _made_by_hand() -> None:
    """A provider that the source knows nothing of."""
    provider = Provider(provider_id=HERE, provider_type="fake", connection_params={"api_key": "sk-made-here"})
    provider.save()
    ProviderModel(provider=provider, model_id="gpt-4o").save()
    ApiKey(provider=provider, secret=Secret("sk-made-here-too")).save()
    ConnectionParameter(provider=provider, param_name="region", param_value="here").save()


def _told(legacy: LegacyDatabase, folder: Path) -> Story:
    source_at_first = legacy.checksum()
    _made_by_hand()
    stored_at_first, registry_at_first = everything_stored(), registry()
    dry_run = migrate(legacy, folder)
    stored_after_dry_run = everything_stored()
    applied = migrate(legacy, folder, "--apply")
    stored_after_apply, registry_after_apply = everything_stored(), registry()
    run = ImportRun.objects.filter(kind=ImportRun.Kind.APPLY).latest("pk")
    usable = {key.secret.reveal() for key in ApiKey.objects.filter(ApiKey.usable(timezone.now()))}
    second = migrate(legacy, folder, "--apply")
    registry_after_second = registry()
    verified = migrate(legacy, folder, "--verify")
    undone = migrate(legacy, folder, "--undo", str(run.pk))
    return Story(
        legacy=legacy,
        source_at_first=source_at_first,
        source_at_last=legacy.checksum(),
        stored_at_first=stored_at_first,
        stored_after_dry_run=stored_after_dry_run,
        stored_after_apply=stored_after_apply,
        registry_at_first=registry_at_first,
        registry_after_apply=registry_after_apply,
        registry_after_second=registry_after_second,
        registry_after_undo=registry(),
        usable_keys=usable,
        dry_run=dry_run,
        applied=applied,
        second=second,
        verified=verified,
        undone=undone,
    )


def test_the_dry_run_writes_nothing(story):
    assert story.stored_after_dry_run == story.stored_at_first


def test_the_dry_run_and_the_import_tell_the_same(story):
    assert story.dry_run.tables == story.applied.tables
    assert story.dry_run.findings == story.applied.findings


def test_every_field_of_the_registry_is_what_the_source_meant(story):
    assert differences(story.legacy.expected, story.registry_after_apply, besides=frozenset({HERE})) == []


def test_every_source_row_is_accounted_for(story):
    # Keys inside objects are counted in a book of their own, `table#keys`.
    rows = {table: counts["rows"] for table, counts in story.applied.tables.items() if "#" not in table}
    assert rows == dict(story.legacy.expected.rows)
    assert [
        (table, counts)
        for table, counts in story.applied.tables.items()
        if counts["rows"] != sum(counts.get(outcome, 0) for outcome in ("imported", "merged", "rejected", "left_out"))
    ] == []
    assert not any(counts.get("left_out") for counts in story.applied.tables.values())


def test_as_many_rows_are_imported_merged_and_rejected_as_have_to_be(story):
    expected = story.legacy.expected
    wrong = []
    for table in expected.rows.keys() - expected.side_tables:
        told = Counter({name: story.applied.tables[table][name] for name in ("imported", "merged", "rejected")})
        stated, left_open = expected.outcomes_of(table)
        if stated - told or (told - stated).total() != left_open:
            wrong.append((table, dict(told), dict(stated), left_open))
    assert wrong == []


def test_every_row_that_was_not_plain_is_in_the_report_with_its_reason(story):
    untold = []
    for fate in story.legacy.expected.fates:
        codes = {finding["code"] for finding in story.applied.findings_of(fate.table, *fate.keys)}
        if not fate.codes <= codes:
            untold.append((fate.table, fate.keys, sorted(fate.codes - codes), sorted(codes)))
    assert untold == []


def test_every_rejected_or_merged_row_is_named(story):
    rejected = [fate for fate in story.legacy.expected.fates if fate.outcomes in ({"rejected": 1}, {"merged": 1})]
    assert rejected
    # A row of the older family that says what its twin says needs no word of its own: its table's count says it.
    assert [
        (fate.table, fate.keys)
        for fate in rejected
        if fate.codes and not story.applied.findings_of(fate.table, *fate.keys)
    ] == []


def test_each_side_table_is_named_with_its_count(story):
    for table in story.legacy.expected.side_tables:
        assert story.applied.tables[table]["rows"] == story.legacy.expected.rows[table]
        assert table in story.applied.report_text


def test_what_opens_under_no_legacy_key_is_never_a_key(story):
    stored = {row["secret"] for row in story.registry_after_apply.keys}
    assert stored.isdisjoint(story.legacy.expected.unusable)
    assert not any(secret.startswith("gAAAA") for secret in stored)


def test_an_expired_key_is_kept_and_never_chosen(story):
    expired = [row for row in story.registry_after_apply.keys if row["secret"] == "sk-expired"]
    assert [row["expires_at"].year for row in expired] == [2024]
    assert "sk-expired" not in story.usable_keys


def test_a_key_that_was_in_use_is_chosen_here(story):
    assert settings.GATEWAY_ENVIRONMENT == "development"
    used = {"sk-clean-openai-main", "sk-under-key-one", "sk-plain-though-flagged", "sk-twice", "sk-three-times"}
    assert used <= story.usable_keys


def test_rows_that_need_a_person_make_the_status_2(story):
    assert (story.dry_run.status, story.applied.status) == (2, 2)


def test_a_second_run_changes_nothing(story):
    assert story.registry_after_second == story.registry_after_apply
    assert [
        (table, counts)
        for table, counts in story.second.tables.items()
        if counts.get("created") or counts.get("updated")
    ] == []


def test_verifying_finds_no_difference(story):
    assert [finding for finding in story.verified.findings if finding["code"] in {"missing_here", "differs_here"}] == []
    assert story.verified.status in {0, 2}


def test_undoing_puts_the_registry_back(story):
    assert story.undone.status == 0
    assert story.registry_after_undo == story.registry_at_first


def test_what_was_made_here_is_left_alone(story):
    def made_here(found: Registry) -> list[object]:
        return [
            found.providers[HERE],
            found.models[HERE, "gpt-4o"],
            found.parameters[HERE, "region", "development"],
            *(row for row in found.keys if row["provider"] == HERE),
        ]

    assert made_here(story.registry_after_apply) == made_here(story.registry_at_first)


def test_the_source_is_the_same_bytes(story):
    assert story.source_at_last == story.source_at_first


def test_nothing_that_was_said_gives_a_secret_away(story):
    assert [in_the_clear(story.legacy, said.text) for said in story.everything_said] == [[]] * 5


def test_nothing_that_is_stored_gives_a_secret_away(story):
    stored = "\n".join(row for rows in story.stored_after_apply.values() for row in rows)
    assert in_the_clear(story.legacy, stored) == []
