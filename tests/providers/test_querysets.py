import pytest

from providers import actor, audit, revision
from providers.models import ApiKey, AuditEntry, ConnectionParameter, Provider, ProviderModel
from providers.secrets import Secret
from routing.models import ClientKey
from tests.providers.test_models import dump

pytestmark = pytest.mark.django_db


@pytest.fixture
def provider():
    return Provider.objects.create(provider_id="p", provider_type="openai")


def models(provider, count=3):
    return ProviderModel.objects.bulk_create(
        ProviderModel(provider=provider, model_id=f"m{number}") for number in range(count)
    )


def test_every_bulk_path_leaves_one_entry_and_one_revision(provider):
    rows = models(provider)
    other = Provider.objects.create(provider_id="q", provider_type="openai")
    for act in (
        lambda: models(other),
        lambda: ProviderModel.objects.filter(provider=provider).update(max_tokens=5),
        lambda: ProviderModel.objects.bulk_update([changed(row, context_window=9) for row in rows], ["context_window"]),
        lambda: ProviderModel.objects.filter(provider=provider).delete(),
        lambda: Provider.objects.get_or_create(provider_id="r", defaults={"provider_type": "fake"}),
        lambda: Provider.objects.update_or_create(provider_id="r", defaults={"priority": 7}),
    ):
        before = revision.current(), AuditEntry.objects.count()
        act()
        assert (revision.current(), AuditEntry.objects.count()) == (before[0] + 1, before[1] + 1)
    assert list(audit.verify()) == []


def changed(row, **values):
    for name, value in values.items():
        setattr(row, name, value)
    return row


def test_an_update_tells_before_and_after_of_each_row_it_touched(provider):
    models(provider)
    ProviderModel.objects.filter(model_id="m0").update(max_tokens=5)
    ProviderModel.objects.filter(provider=provider).update(max_tokens=5)
    entry = AuditEntry.objects.first()
    assert set(entry.before) == {"p:m1", "p:m2"}, "m0 was so already"
    assert {facts["max_tokens"] for facts in entry.after.values()} == {5}
    assert entry.target_id == "2 rows"


def test_an_update_says_when(provider):
    before = provider.updated_at
    Provider.objects.filter(pk=provider.pk).update(description="new")
    provider.refresh_from_db()
    assert provider.updated_at > before


def test_an_update_that_changes_nothing_writes_nothing_down(provider):
    before = revision.current(), AuditEntry.objects.count()
    Provider.objects.update(provider_type="openai")
    Provider.objects.filter(provider_id="nobody").update(priority=3)
    Provider.objects.filter(provider_id="nobody").delete()
    assert (revision.current(), AuditEntry.objects.count()) == before


def test_a_related_manager_counts_as_well(provider):
    before = revision.current()
    provider.models.create(model_id="x")
    provider.models.update(max_tokens=3)
    provider.models.all().delete()
    assert revision.current() == before + 3


def test_rows_made_in_bulk_keep_their_secrets_encrypted(provider):
    Provider.objects.bulk_create(
        [Provider(provider_id="q", provider_type="openai_compatible", connection_params={"api_key": "canary-1"})]
    )
    ApiKey.objects.bulk_create([ApiKey(provider=provider, secret="canary-2-0123456789")])
    ConnectionParameter.objects.bulk_create(
        [ConnectionParameter(provider=provider, param_name="token", param_value="canary-3")]
    )
    assert "canary" not in dump()
    assert Provider.objects.get(provider_id="q").full_connection_params()["api_key"] == Secret("canary-1")
    assert Provider.objects.get(provider_id="q").display_name == "q"
    assert ApiKey.objects.get().hint == "can…6789"
    assert ApiKey.objects.get().fingerprint
    assert ConnectionParameter.objects.get().param_value == Secret("canary-3")


def test_rows_made_in_bulk_name_their_creator(provider):
    with actor.acting_as("user:ada"):
        models(provider)
    assert set(ProviderModel.objects.values_list("created_by", flat=True)) == {"user:ada"}


@pytest.mark.parametrize(
    ("model", "values"),
    [
        (Provider, {"connection_params": {"api_key": "canary"}}),
        (ApiKey, {"secret": "canary"}),
        (ApiKey, {"hint": "x"}),
        (ConnectionParameter, {"plain_value": "canary"}),
        (ConnectionParameter, {"is_sensitive": False}),
    ],
)
def test_update_refuses_what_only_a_row_can_write(provider, model, values):
    with pytest.raises(TypeError, match="save"):
        model.objects.update(**values)


def test_bulk_update_does_not_write_a_secret_in_the_clear(provider):
    provider.connection_params = {"api_key": "canary"}
    with pytest.raises(TypeError):
        Provider.objects.bulk_update([provider], ["connection_params"])
    assert "canary" not in dump()


def test_a_failed_bulk_write_leaves_neither_rows_nor_entries(provider):
    before = revision.current(), AuditEntry.objects.count()
    with pytest.raises(Exception, match=r"(?i)unique"):
        ProviderModel.objects.bulk_create(
            [ProviderModel(provider=provider, model_id="same"), ProviderModel(provider=provider, model_id="same")]
        )
    assert not ProviderModel.objects.exists()
    assert (revision.current(), AuditEntry.objects.count()) == before


def test_client_keys_are_registry_rows_too():
    before = revision.current()
    ClientKey.objects.bulk_create([ClientKey(name="a", prefix="gw-1", digest="00", pepper_id="p", scopes=["generate"])])
    ClientKey.objects.update(enabled=False)
    assert revision.current() == before + 2
    assert "digest" not in AuditEntry.objects.first().after["gw-1"]


def test_a_change_of_many_rows_asks_no_question_for_each(provider, django_assert_max_num_queries):
    models(provider, count=30)
    with django_assert_max_num_queries(15):
        ProviderModel.objects.filter(provider=provider).update(enabled=False)
