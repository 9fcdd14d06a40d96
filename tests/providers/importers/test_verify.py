from __future__ import annotations

import pytest
from django.db import connection

from providers.importers.findings import UNDECRYPTABLE, Finding
from providers.models import ApiKey, ConnectionParameter, ImportRun, Provider, ProviderModel
from tests.providers.importers.scripted import WHOLE, Scripted, apply, check, do, dump, key, provider, undo

pytestmark = pytest.mark.django_db


def test_both_sides_say_the_same_after_an_import():
    apply(*WHOLE)
    before = dump()
    result = check(*WHOLE)
    assert (result.exit_status, result.codes) == (0, {})
    assert dump() == before


def test_every_row_that_is_missing_is_named():
    result = check(*WHOLE)
    assert result.exit_status == 2
    assert result.codes == {"missing_here": len(WHOLE)}


TAMPERING = {
    "provider": (Provider, {"provider_id": "p"}, "display_name", "'other'", "p"),
    "enabled": (Provider, {"provider_id": "p"}, "enabled", "false", "p"),
    "address": (Provider, {"provider_id": "p"}, "connection_params", "'{}'", "p"),
    "hidden member": (Provider, {"provider_id": "p"}, "secret_params", "NULL", "p"),
    "time": (ProviderModel, {"model_id": "gpt/4"}, "created_at", "'2020-01-01 00:00:00+00:00'", "p:gpt/4"),
    "number": (ProviderModel, {"model_id": "gpt/4"}, "max_tokens", "4097", "p:gpt/4"),
    "price": (ProviderModel, {"model_id": "模型"}, "input_cost_per_million", "'0.1500000001'", "p:模型"),
    "author": (ProviderModel, {"model_id": "third"}, "created_by", "'mallory'", "p:third"),
    "spoilt key": (ApiKey, {"environment": "production"}, "secret", "'gw1.0000.AAAA'", "1"),
    "fingerprint": (ApiKey, {"environment": "production"}, "fingerprint", "'0'", "1"),
    "plain value": (ConnectionParameter, {"param_name": "region"}, "plain_value", "'us'", "1"),
    "sealed value": (ConnectionParameter, {"param_name": "client_secret"}, "secret_value", "'junk'", "2"),
}


@pytest.mark.parametrize("what", TAMPERING)
def test_what_was_changed_behind_our_back_is_named(what):
    apply(*WHOLE)
    table, chosen, column, value, row_key = TAMPERING[what]
    pk = table._base_manager.get(**chosen).pk
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE {table._meta.db_table} SET {column} = {value} WHERE id = {pk}")
    result = check(*WHOLE)
    assert result.exit_status == 2
    (found,) = result.examples["differs_here"]
    assert (found.key, found.field) == (row_key, column)
    assert "hidden" not in repr(found)


def test_a_key_in_anothers_place_is_named():
    apply(*WHOLE)
    first, second = ApiKey._base_manager.order_by("pk")
    ApiKey._base_manager.filter(pk=first.pk).update(secret=second.__dict__["secret"])
    result = check(*WHOLE)
    assert result.examples["differs_here"][0].changes["secret"][0].startswith("unreadable")


def test_a_row_deleted_behind_our_back_is_missing():
    apply(*WHOLE)
    ProviderModel._base_manager.get(model_id="third").delete()
    result = check(*WHOLE)
    assert [(finding.table, finding.key) for finding in result.examples["missing_here"]] == [("models", "p:third")]


def test_a_row_that_came_from_one_which_cannot_be_imported_any_more_is_named():
    apply(provider(), key(1, "sk-one-of-many-keys"))
    refused = Finding("keys", "1", "secret", UNDECRYPTABLE, "rejected", "Opens under no key.")
    result = do(ImportRun.Kind.VERIFY, Scripted([provider()], rejected=[refused]))
    assert result.exit_status == 2
    assert result.examples["differs_here"][0].key == "1"


def test_a_row_that_was_never_imported_and_cannot_be_is_no_difference():
    apply(provider())
    refused = Finding("keys", "1", "secret", UNDECRYPTABLE, "rejected", "Opens under no key.")
    result = do(ImportRun.Kind.VERIFY, Scripted([provider()], rejected=[refused]))
    assert (result.exit_status, result.codes) == (0, {})


def test_what_left_the_source_is_a_note():
    apply(*WHOLE)
    result = check(*WHOLE[:-1])
    assert (result.exit_status, result.codes) == (0, {"gone": 1})


def test_it_needs_no_memory_of_the_import():
    run = apply(*WHOLE).run_pk
    ImportRun.objects.filter(pk=run).delete()
    assert check(*WHOLE).exit_status == 0


def test_after_an_undoing_everything_is_missing():
    undo(apply(*WHOLE).run_pk)
    assert check(*WHOLE).codes == {"missing_here": len(WHOLE)}
