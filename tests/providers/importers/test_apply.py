from __future__ import annotations

import pytest

from providers import audit, revision
from providers.importers import runs
from providers.importers.drafts import SourceError
from providers.importers.findings import ORPHAN, Finding
from providers.models import (
    ApiKey,
    AuditEntry,
    ConnectionParameter,
    ImportFinding,
    ImportRecord,
    ImportRun,
    Provider,
    ProviderModel,
)
from tests.providers.importers.scripted import (
    WHOLE,
    Scripted,
    apply,
    check,
    delta,
    do,
    dump,
    key,
    model,
    parameter,
    provider,
)

pytestmark = pytest.mark.django_db
APPLY = ImportRun.Kind.APPLY


def too_long(of: str = "bad"):
    """A row that no database takes: SQLite knows no lengths, but refuses integers of more than 64 bits as PostgreSQL does."""
    return model("m2", of=of, max_tokens=2**70)


def test_one_audit_entry_and_one_revision_for_each_provider():
    number, entries = revision.current(), AuditEntry.objects.count()
    result = apply(*WHOLE, provider("q"))
    assert revision.current() == number + 2
    assert AuditEntry.objects.count() == entries + 2
    entry = AuditEntry.objects.get(target_id="p")
    assert (entry.actor, entry.action, entry.before) == ("user:ada", "import", None)
    assert entry.after["run"] == result.run_pk
    assert entry.after["counts"] == {
        "key created": 2,
        "model created": 3,
        "parameter created": 2,
        "provider created": 1,
    }
    assert list(audit.verify()) == []


def test_the_entry_holds_a_digest_of_what_was_written():
    apply(provider("p"), model("m", max_tokens=1))
    apply(provider("q"), model("m", of="q", max_tokens=2))
    digests = {entry.after["digest"] for entry in AuditEntry.objects.all()}
    assert len(digests) == 2


def test_a_run_that_changes_nothing_leaves_no_entry_and_no_revision():
    apply(*WHOLE)
    number, entries = revision.current(), AuditEntry.objects.count()
    apply(*WHOLE)
    assert (revision.current(), AuditEntry.objects.count()) == (number, entries)


def test_a_provider_that_the_database_refuses_is_not_there_in_part():
    result = apply(provider("bad"), key(1, "sk-of-the-bad-one", of="bad"), model("m1", of="bad"), too_long(), *WHOLE)
    assert list(Provider.objects.values_list("provider_id", flat=True)) == ["p"]
    assert ProviderModel.objects.filter(provider__provider_id="p").count() == 3
    assert result.exit_status == 2
    (failed,) = result.examples["failed"]
    assert failed.key == "bad"
    assert "4 rows" in failed.detail
    assert "created" in result.codes


def test_what_a_refused_provider_had_is_rejected_row_by_row():
    models = [model(f"m{number}", of="bad") for number in range(10, 17)]
    result = apply(provider("bad"), too_long(), *models)
    assert result.tables["models"] | {"imported": 0} == result.tables["models"]
    assert result.tables["models"]["rejected"] == 8
    assert result.tables["providers"]["rejected"] == 1
    assert "created" not in result.codes


def test_the_words_of_the_database_are_not_repeated():
    result = apply(provider("bad"), model("m", of="bad", parameters={"hidden": "mellon"}), too_long())
    assert "mellon" not in repr(result)
    assert not AuditEntry.objects.exists()


def test_every_row_written_has_its_record():
    run = apply(*WHOLE).run_pk
    records = ImportRecord.objects.filter(run=run)
    assert records.count() == len(WHOLE)
    assert set(records.values_list("outcome", flat=True)) == {"created"}
    assert set(records.values_list("key", flat=True)) >= {"p", "p:gpt/4", "p:模型"}


def test_what_was_merged_by_the_source_is_counted_and_recorded():
    first, second = key(1, "sk-the-same-secret"), key(2, "sk-the-same-secret")
    merged = first.__class__(
        first.kind,
        first.origin,
        "p",
        first.facts,
        environment="production",
        secrets=first.secrets,
        merged=(second.origin,),
    )
    result = apply(provider(), merged)
    assert (result.tables["keys"]["imported"], result.tables["keys"]["merged"]) == (1, 1)
    assert list(ImportRecord.objects.filter(table="keys").values_list("outcome", flat=True)) == ["created", "merged"]


def test_what_the_source_says_is_in_the_result_and_in_the_database():
    source = Scripted([provider()], rejected=[Finding("models", "x:m", "", ORPHAN, "rejected", "No provider x.")])
    result = do(APPLY, source)
    assert result.exit_status == 2
    assert result.tables["models"]["rejected"] == 1
    stored = ImportFinding.objects.get(code="orphan")
    assert (stored.run_id, stored.table, stored.key, stored.level) == (result.run_pk, "models", "x:m", "person")


def test_rows_that_are_not_accounted_for_are_a_failure():
    result = do(APPLY, Scripted(list(WHOLE), unread=1))
    assert result.exit_status == 1
    assert "models: 6 read, 3 accounted for" in result.message


def test_a_source_that_breaks_off_keeps_the_providers_that_were_finished():
    def break_off(provider_id: str) -> None:
        if provider_id == "q":
            raise SourceError("The database went away.")

    source = Scripted([*WHOLE, provider("q"), model("m", of="q")], before_models=break_off)
    result = do(APPLY, source)
    assert (result.exit_status, result.message) == (1, "The database went away.")
    assert list(Provider.objects.values_list("provider_id", flat=True)) == ["p"]
    assert source.is_closed
    assert apply(*WHOLE, provider("q"), model("m", of="q")).exit_status == 0
    assert Provider.objects.count() == 2


def test_a_delta_brings_what_changed_and_nothing_else():
    apply(*WHOLE)
    before = dump()
    assert delta(*WHOLE).tables["models"]["unchanged"] == 3
    assert dump() == before
    result = delta(*WHOLE[:-1], model("third", max_tokens=5))
    assert result.codes == {"updated": 1}
    assert ProviderModel.objects.get(model_id="third").max_tokens == 5


def test_a_delta_does_not_look_at_rows_that_the_source_did_not_change():
    apply(*WHOLE)
    ProviderModel._base_manager.filter(model_id="third").update(max_tokens=7)
    assert delta(*WHOLE).codes == {}


def test_a_delta_of_parts_whose_provider_did_not_change_finds_it():
    apply(*WHOLE)
    delta(*WHOLE, model("new"))
    assert ProviderModel.objects.get(model_id="new").provider.provider_id == "p"


def test_what_left_the_source_is_kept_and_named():
    apply(*WHOLE)
    result = apply(*WHOLE[:-1])
    (gone,) = result.examples["gone"]
    assert (gone.table, gone.key) == ("models", "p:third")
    assert ProviderModel.objects.filter(model_id="third").exists()


def test_nothing_is_called_gone_when_only_a_part_was_asked_for():
    apply(*WHOLE)
    assert "gone" not in apply(*WHOLE[:-1], only=("p",)).codes


def test_another_source_has_a_memory_of_its_own():
    apply(*WHOLE)
    other = do(APPLY, Scripted([provider(description="other")], identity="another"))
    assert other.codes == {"conflict": 1}


@pytest.mark.parametrize("size", [1, 2, 3, 50])
def test_the_size_of_batches_changes_nothing(size):
    assert do(APPLY, Scripted(list(WHOLE), batch_size=size)).exit_status == 0
    assert ProviderModel.objects.count() == 3
    assert do(APPLY, Scripted(list(WHOLE), batch_size=5)).codes == {}


def test_an_edit_between_reading_and_writing_is_not_lost(monkeypatch):
    apply(provider(), model("m", max_tokens=1))
    ours = runs.Import

    def edited_meanwhile(*args, **kwargs):
        walk = ours(*args, **kwargs)
        write = walk._writer.write

        def late(steps, planner, place):
            if steps[0].draft.kind == "model":
                ProviderModel._base_manager.update(max_tokens=99)
            return write(steps, planner, place)

        walk._writer.write = late
        return walk

    monkeypatch.setattr(runs, "Import", edited_meanwhile)
    result = apply(provider(), model("m", max_tokens=2))
    assert ProviderModel.objects.get().max_tokens == 99
    assert result.codes == {"conflict": 1}


def test_values_read_back_as_they_were_drafted():
    params = {"big": 2**60, "float": 1e20, "small": 1e-7, "text": "ü\\ud\n", "list": [1, None, True]}
    apply(provider(), model("m", parameters=params), parameter(1, "empty", ""))
    assert ProviderModel.objects.get().parameters == params
    assert apply(provider(), model("m", parameters=params), parameter(1, "empty", "")).codes == {}


def test_a_delta_does_not_let_the_second_of_two_rows_win_that_differ():
    both = (model("m", key="1", max_tokens=1), model("m", key="2", max_tokens=2))
    apply(provider(), *both)
    again = delta(provider(), *both)
    assert again.codes == {"duplicate_differs": 1}
    assert ProviderModel.objects.get().max_tokens == 1


def test_a_delta_leaves_a_provider_that_was_deleted_here_with_all_its_parts():
    apply(*WHOLE)
    Provider.objects.get().delete()
    again = delta(*WHOLE)
    assert (again.exit_status, again.codes) == (0, {"edited_here": 1})
    assert again.tables["models"]["kept"] == 3
    assert not Provider.objects.exists()


@pytest.mark.parametrize("bring", [apply, delta])
def test_a_provider_of_another_name_in_the_source_brings_its_keys_and_parameters(bring):
    apply(provider("old"), key(1, "sk-one-of-many-keys", "old"), parameter(1, "region", "eu", "old"))
    again = (provider("new"), key(1, "sk-one-of-many-keys", "new"), parameter(1, "region", "eu", "new"))
    assert bring(*again).exit_status == 0
    assert ApiKey.objects.get(provider__provider_id="new").secret.reveal() == "sk-one-of-many-keys"
    assert ConnectionParameter.objects.get(provider__provider_id="new").plain_value == "eu"
    assert check(*again).exit_status == 0
