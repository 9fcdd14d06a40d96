from __future__ import annotations

from decimal import Decimal

import pytest

from providers import actions
from providers.importers.plan import lay
from providers.models import ApiKey, ConnectionParameter, ImportRecord, Provider, ProviderModel
from tests.providers.importers.scripted import (
    LATER,
    LONG_AGO,
    WHOLE,
    apply,
    dry_run,
    dump,
    key,
    model,
    parameter,
    provider,
)

pytestmark = pytest.mark.django_db


def the_model() -> ProviderModel:
    return ProviderModel.objects.get(model_id="m")


def changed_here(**facts):
    return actions.update_model(the_model(), facts)


def test_a_new_provider_comes_with_all_its_parts():
    result = apply(*WHOLE)
    assert result.exit_status == 0
    row = Provider.objects.get()
    assert row.full_connection_params()["headers"]["Authorization"].reveal() == "Bearer hidden"
    assert row.connection_params == {"base_url": "https://u.example"}
    assert (row.created_at, row.updated_at) == (LONG_AGO, LATER)
    assert {each.secret.reveal() for each in ApiKey.objects.all()} == {"sk-one-of-many-keys", "sk-two-of-many-keys"}
    assert ApiKey.objects.get(environment="production").weight == 2
    assert ConnectionParameter.objects.get(param_name="client_secret").secret_value.reveal() == "cs-very-hidden"
    priced = ProviderModel.objects.get(model_id="模型")
    assert priced.input_cost_per_million == Decimal("0.15")
    assert result.tables["models"]["created"] == 3


def test_what_is_derived_is_derived():
    apply(*WHOLE)
    row = ApiKey.objects.get(environment="production")
    assert row.hint == "sk-…keys"
    assert row.fingerprint


def test_an_author_is_kept_and_otherwise_the_run_is_one():
    run = apply(*WHOLE).run_pk
    authors = dict(ProviderModel.objects.values_list("model_id", "created_by"))
    assert authors == {"gpt/4": f"import:{run}", "模型": f"import:{run}", "third": "user:42"}


def test_an_unknown_field_is_a_fault_and_no_row():
    with pytest.raises(TypeError, match="no field colour"):
        apply(provider(), model("m", colour="red"))
    assert not Provider.objects.exists()


def test_a_second_run_changes_nothing():
    apply(*WHOLE)
    before, records = dump(), ImportRecord.objects.count()
    result = apply(*WHOLE)
    assert dump() == before
    assert ImportRecord.objects.count() == records
    assert {counts["unchanged"] for counts in result.tables.values()} == {1, 2, 3}


def test_what_changed_in_the_source_is_updated_here():
    apply(provider(), model("m", max_tokens=1))
    result = apply(provider(), model("m", max_tokens=2))
    assert the_model().max_tokens == 2
    (finding,) = result.examples["updated"]
    assert (finding.table, finding.key, finding.changes) == ("models", "p:m", {"max_tokens": [1, 2]})


def test_an_edit_made_here_stays_while_the_source_stands_still():
    apply(provider(), model("m", max_tokens=1))
    changed_here(max_tokens=7)
    result = apply(provider(), model("m", max_tokens=1))
    assert the_model().max_tokens == 7
    assert result.codes == {"edited_here": 1}
    assert result.exit_status == 0
    assert result.tables["models"]["kept"] == 1


def test_what_changed_on_both_sides_stays_and_wants_a_person():
    apply(provider(), model("m", max_tokens=1))
    changed_here(max_tokens=7)
    result = apply(provider(), model("m", max_tokens=2))
    assert the_model().max_tokens == 7
    assert result.examples["conflict"][0].changes == {"max_tokens": [7, 2]}
    assert result.exit_status == 2
    assert result.tables["models"]["rejected"] == 1


def test_both_sides_coming_to_say_the_same_is_no_conflict():
    apply(provider(), model("m", max_tokens=1))
    changed_here(max_tokens=2)
    assert apply(provider(), model("m", max_tokens=2)).codes == {}
    assert apply(provider(), model("m", max_tokens=3)).codes == {"updated": 1}


def test_a_row_made_by_hand_that_differs_is_a_conflict():
    actions.create_provider({"provider_id": "p", "provider_type": "openai_compatible", "display_name": "mine"})
    result = apply(provider())
    assert Provider.objects.get().display_name == "mine"
    assert result.codes == {"conflict": 1}


def test_a_row_made_by_hand_that_says_the_same_follows_the_source_from_then_on():
    actions.create_provider({"provider_id": "p", "provider_type": "openai_compatible", "display_name": "P"})
    draft = provider()
    Provider._base_manager.update(created_at=LONG_AGO)
    assert apply(draft).codes == {}
    apply(provider(description="new"))
    assert Provider.objects.get().description == "new"


def test_the_source_may_be_told_to_win():
    apply(provider(), model("m", max_tokens=1))
    changed_here(max_tokens=7)
    assert apply(provider(), model("m", max_tokens=1), prefer="source").codes == {"updated": 1}
    assert the_model().max_tokens == 1


def test_a_source_that_wins_and_names_no_secrets_leaves_them():
    apply(*WHOLE)
    apply(provider(connection_params={"base_url": "https://elsewhere.example"}), prefer="source")
    params = Provider.objects.get().full_connection_params()
    assert params["base_url"] == "https://elsewhere.example"
    assert params["headers"]["Authorization"].reveal() == "Bearer hidden"


def test_a_row_deleted_here_stays_deleted():
    apply(provider(), model("m"))
    the_model().delete()
    result = apply(provider(), model("m"))
    assert not ProviderModel.objects.exists()
    assert result.codes == {"edited_here": 1}


def test_a_row_deleted_here_and_changed_there_wants_a_person():
    apply(provider(), model("m", max_tokens=1))
    the_model().delete()
    assert apply(provider(), model("m", max_tokens=2)).codes == {"conflict": 1}


def test_a_provider_deleted_here_stays_deleted_with_its_parts():
    apply(*WHOLE)
    Provider.objects.get().delete()
    result = apply(*WHOLE)
    assert not Provider.objects.exists()
    assert result.tables["models"]["kept"] == 3
    assert result.exit_status == 0


def test_a_key_that_changed_in_the_source_replaces_the_old_one():
    apply(provider(), key(1, "sk-old-old-old-old"))
    pk = ApiKey.objects.get().pk
    result = apply(provider(), key(1, "sk-new-new-new-new"))
    row = ApiKey.objects.get()
    assert (row.pk, row.secret.reveal()) == (pk, "sk-new-new-new-new")
    (before, after) = result.examples["updated"][0].changes["secret"]
    assert before.startswith("fingerprint:")
    assert before != after


def test_a_parameter_renamed_in_the_source_is_renamed_here():
    apply(provider(), parameter(1, "region", "eu"))
    apply(provider(), parameter(1, "zone", "eu"))
    assert ConnectionParameter.objects.get().param_name == "zone"


def test_two_rows_that_exchange_their_names_do_so_here():
    apply(provider(), parameter(1, "a", "one"), parameter(2, "b", "two"))
    assert apply(provider(), parameter(1, "b", "one"), parameter(2, "a", "two")).exit_status == 0
    assert dict(ConnectionParameter.objects.values_list("param_name", "plain_value")) == {"a": "two", "b": "one"}


def test_two_keys_of_one_secret_are_one():
    result = apply(provider(), key(1, "sk-the-same-secret", name="a"), key(2, "sk-the-same-secret", name="b"))
    assert ApiKey.objects.count() == 1
    assert result.tables["keys"]["merged"] == 1
    assert result.codes["duplicate"] == 1
    again = apply(provider(), key(1, "sk-the-same-secret", name="a"), key(2, "sk-the-same-secret", name="b"))
    assert again.tables["keys"]["merged"] == 1


def test_of_two_rows_that_differ_the_first_wins_and_a_person_is_asked():
    result = apply(provider(), model("m", max_tokens=1), model("m", key="other", max_tokens=2))
    assert the_model().max_tokens == 1
    assert result.codes["duplicate_differs"] == 1
    assert result.exit_status == 2


def test_parts_of_a_provider_that_is_nowhere_are_rejected():
    result = apply(model("m", of="nobody"))
    assert result.codes == {"parent_rejected": 1}
    assert result.tables["models"]["rejected"] == 1


def test_parts_are_laid_beside_a_provider_that_was_here():
    actions.create_provider({"provider_id": "p", "provider_type": "openai_compatible"})
    assert apply(model("m")).exit_status == 0
    assert the_model().provider.provider_id == "p"


def test_values_that_may_be_secret_are_shown_as_fingerprints():
    apply(provider(connection_params={"note": "mellon"}), parameter(1, "region", "mellon"))
    result = apply(provider(connection_params={"note": "friend"}), parameter(1, "region", "friend"))
    assert "mellon" not in repr(result.examples)
    assert "friend" not in repr(result.examples)
    assert {next(iter(finding.changes)) for finding in result.examples["updated"]} == {
        "connection_params",
        "plain_value",
    }


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((), WHOLE),
        (WHOLE, WHOLE),
        ((provider(), model("m", max_tokens=1)), (provider(description="x"), model("m", max_tokens=2), model("n"))),
        ((), (provider(), key(1, "sk-the-same-secret"), key(2, "sk-the-same-secret"), model("m"), model("m", key="2"))),
        ((), (provider(), model("m", max_tokens=1), model("m", key="2", max_tokens=2), model("x", of="nobody"))),
    ],
    ids=["everything", "again", "changes", "twins", "odd ones"],
)
def test_the_dry_run_tells_what_the_import_does_and_writes_nothing(first, second):
    apply(*first)
    before, records = dump(), ImportRecord.objects.count()
    told = dry_run(*second)
    assert (dump(), ImportRecord.objects.count()) == (before, records)
    done = apply(*second)
    assert (told.tables, told.codes, told.examples) == (done.tables, done.codes, done.examples)


def test_laying_a_draft_over_a_row_leaves_the_row_alone():
    apply(provider(), model("m", max_tokens=1))
    row = the_model()
    assert lay(model("m", max_tokens=2), row, row.provider, keep_secrets=False).max_tokens == 2
    assert row.max_tokens == 1
