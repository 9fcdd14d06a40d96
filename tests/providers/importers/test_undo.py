from __future__ import annotations

import pytest

from providers import actions, audit, revision, rotation
from providers.importers.undo import Undo
from providers.models import ApiKey, AuditEntry, ImportRun, ProbeResult, Provider, ProviderModel
from tests.providers.importers.scripted import WHOLE, apply, delta, dump, key, model, parameter, provider, undo

pytestmark = pytest.mark.django_db

CHANGED = (
    provider(connection_params={"base_url": "https://v.example"}, description="new", secrets={'["token"]': "tok"}),
    key(1, "sk-new-of-many-keys", weight=3),
    key(2, "sk-two-of-many-keys", environment="staging"),
    parameter(1, "region", "us"),
    parameter(2, "client_secret", "cs-even-more-hidden", sensitive=True),
    model("gpt/4", max_tokens=1, parameters={"other": [1e20, 0.1]}),
    model("模型", input_cost_per_million="0.16"),
    model("third", created_by="user:43"),
    model("fourth"),
)


def test_what_a_run_created_goes_with_its_provider():
    result = undo(apply(*WHOLE).run_pk)
    assert result.exit_status == 0
    assert dump() == []
    assert result.tables["models"]["deleted"] == 3


def test_what_a_run_changed_is_as_it_was_to_the_letter():
    apply(*WHOLE)
    before = dump()
    run = apply(*CHANGED).run_pk
    assert dump() != before
    assert undo(run).exit_status == 0
    assert dump() == before


def test_the_secrets_come_back_when_the_key_they_were_under_is_gone(monkeypatch, tmp_path, settings):
    from providers.secrets import EncryptionKey

    settings.ENCRYPTION_KEYS_FILE = tmp_path / "ring"
    settings.ENCRYPTION_KEYS_FILE.write_text(EncryptionKey.generate().line() + "\n")
    apply(*WHOLE)
    run = apply(*CHANGED).run_pk
    rotation.put_new_key_in_front()
    rotation.reencrypt()
    assert rotation.drop_unused_keys()
    # A row's facts are compared by fingerprint, so a rotation is no edit.
    assert undo(run).exit_status == 0
    assert ApiKey.objects.get(environment="production").secret.reveal() == "sk-one-of-many-keys"
    params = Provider.objects.get().full_connection_params()
    assert params["headers"]["Authorization"].reveal() == "Bearer hidden"


def test_one_audit_entry_and_one_revision_for_each_provider():
    run = apply(*WHOLE, provider("q")).run_pk
    number, entries = revision.current(), AuditEntry.objects.count()
    undo(run)
    assert revision.current() == number + 2
    assert AuditEntry.objects.count() == entries + 2
    entry = AuditEntry.objects.get(target_id="p", action="undo import")
    assert entry.after["counts"]["model deleted"] == 3
    assert list(audit.verify()) == []


def test_an_edit_made_since_stays_and_is_named():
    run = apply(*WHOLE).run_pk
    actions.update_model(ProviderModel.objects.get(model_id="third"), {"max_tokens": 5})
    result = undo(run)
    assert result.exit_status == 2
    assert ProviderModel.objects.get().max_tokens == 5
    assert result.examples["edited_since"][0].key == "p:third"
    assert "still_in_use" in result.codes


def test_an_edit_of_a_changed_row_stays_too():
    apply(*WHOLE)
    run = apply(*CHANGED).run_pk
    actions.update_model(ProviderModel.objects.get(model_id="gpt/4"), {"context_window": 5})
    assert undo(run).exit_status == 2
    assert ProviderModel.objects.get(model_id="gpt/4").max_tokens == 1


def test_a_row_deleted_since_is_named_when_it_was_only_changed():
    apply(*WHOLE)
    run = apply(*CHANGED).run_pk
    ProviderModel.objects.get(model_id="gpt/4").delete()
    result = undo(run)
    assert result.codes == {"edited_since": 1}
    assert result.exit_status == 2


def test_a_provider_with_rows_of_others_stays():
    run = apply(*WHOLE).run_pk
    actions.add_model(Provider.objects.get(), {"model_id": "mine"})
    result = undo(run)
    assert result.examples["still_in_use"][0].key == "p"
    assert list(ProviderModel.objects.values_list("model_id", flat=True)) == ["mine"]


def test_what_was_observed_of_a_provider_does_not_keep_it():
    run = apply(*WHOLE).run_pk
    ProbeResult.objects.create(provider=Provider.objects.get(), healthy=True, duration_ms=1.0)
    assert undo(run).exit_status == 0
    assert not Provider.objects.exists()


def test_only_the_newest_run_can_be_undone():
    first = apply(*WHOLE).run_pk
    second = delta(*CHANGED).run_pk
    before = dump()
    result = undo(first)
    assert result.exit_status == 1
    assert str(second) in result.message
    assert dump() == before
    assert undo(second).exit_status == 0
    assert undo(first).exit_status == 0
    assert dump() == []


def test_a_later_run_that_left_nothing_stands_in_nobodys_way():
    run = apply(*WHOLE).run_pk
    apply(*WHOLE)
    assert undo(run).exit_status == 0


def test_undoing_twice_says_so_and_does_nothing():
    run = apply(*WHOLE).run_pk
    undo(run)
    entries = AuditEntry.objects.count()
    result = undo(run)
    assert (result.exit_status, result.message) == (0, f"Run {run} is undone already.")
    assert AuditEntry.objects.count() == entries


def test_an_undoing_that_was_stopped_midway_is_finished_by_the_next(monkeypatch):
    apply(*WHOLE, provider("q"), model("m", of="q", max_tokens=1))
    before = dump()
    run = apply(*CHANGED, provider("q"), model("m", of="q", max_tokens=2)).run_pk
    whole = Undo._provider

    def stop_at_the_second(self, pk):
        if Provider.objects.get(pk=pk).provider_id == "q":
            raise KeyboardInterrupt
        return whole(self, pk)

    monkeypatch.setattr(Undo, "_provider", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        undo(run)
    assert ImportRun.objects.first().state == "interrupted"
    assert dump() != before
    assert "undoing of run" in apply(*WHOLE).message
    monkeypatch.undo()
    assert undo(run).exit_status == 0
    assert dump() == before


def test_after_an_undoing_the_same_import_does_the_same_again():
    undo(apply(*WHOLE).run_pk)
    result = apply(*WHOLE)
    assert result.tables["models"]["created"] == 3
    assert result.codes == {"created": 1}


def test_a_verification_cannot_be_undone():
    from tests.providers.importers.scripted import check

    run = check(*WHOLE).run_pk
    assert undo(run).exit_status == 1


def test_a_row_whose_former_name_another_one_has_taken_stays_and_is_named():
    apply(provider(), model("m", key="1"))
    run = apply(provider(), model("n", key="1")).run_pk
    ProviderModel(provider=Provider.objects.get(), model_id="m").save()
    result = undo(run)
    assert (result.exit_status, result.codes) == (2, {"edited_since": 1})
    assert set(ProviderModel.objects.values_list("model_id", flat=True)) == {"m", "n"}
    assert apply(provider(), model("n", key="1")).exit_status == 0


def test_a_provider_that_is_deleted_while_its_turn_comes_is_passed_over(monkeypatch):
    run = apply(provider("p"), provider("q")).run_pk
    monkeypatch.setattr(Undo, "_providers", lambda self: [0, *Provider.objects.values_list("pk", flat=True)])
    assert undo(run).exit_status == 0
    assert not Provider.objects.exists()


def test_a_row_gets_its_name_back_from_one_that_the_run_made():
    apply(provider(), model("m", key="1"))
    before = dump()
    run = apply(provider(), model("n", key="1"), model("o", key="3"), model("m", key="2")).run_pk
    assert undo(run).exit_status == 0
    assert dump() == before
