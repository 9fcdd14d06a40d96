"""Prices as people and programs see them: pages, resources, command."""

import json
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from providers import actions, configuration, revision
from providers.config_prices import Prices
from providers.models import AuditEntry, PriceOverride
from tests.callers import REGISTRY, caller

pytestmark = pytest.mark.django_db

PRICES = "/api/v1/prices"


@pytest.fixture
def models():
    openai = actions.create_provider({"provider_id": "openai", "provider_type": "openai"})
    actions.add_model(openai, {"model_id": "gpt-4o-mini-2024-07-18"})
    actions.add_model(openai, {"model_id": "unheard-of"})
    actions.add_model(openai, {"model_id": "mine", "input_cost_per_million": 7, "currency": "usd"})
    local = actions.create_provider({"provider_id": "local", "provider_type": "vllm"})
    actions.add_model(local, {"model_id": "gpt-4o"})


def commanded(*arguments):
    out = StringIO()
    call_command("prices", *arguments, stdout=out)
    return out.getvalue()


def test_a_price_is_written_read_changed_and_deleted():
    api = caller(*REGISTRY)
    before = revision.current()
    added = api.post(PRICES, {"model_prefix": "gpt", "input_cost_per_million": "1.5"}, format="json")
    assert (added.status_code, added.json()["provider_id"], added.json()["currency"]) == (201, None, "USD")
    path = f"{PRICES}/{added.json()['id']}"
    assert api.patch(path, {"output_cost_per_million": "2"}, format="json").json()["output_cost_per_million"][0] == "2"
    assert [row["model_prefix"] for row in api.get(PRICES).json()["results"]] == ["gpt"]
    assert api.delete(path).status_code == 204
    assert revision.current() == before + 3
    assert AuditEntry.objects.filter(target_type="priceoverride").count() == 3


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"model_prefix": "gpt"}, "input_cost_per_million"),
        ({"model_prefix": "gpt", "input_cost_per_million": -1}, "input_cost_per_million"),
        ({"input_cost_per_million": 1}, "model_prefix"),
        ({"model_prefix": "gpt", "input_cost_per_million": 1, "provider_id": "nobody"}, "provider_id"),
        ({"model_prefix": "gpt", "input_cost_per_million": 1, "prise": 1}, "prise"),
        ({"model_prefix": "gpt", "input_cost_per_million": 1, "valid_from": "9999-12-31T23:59:59Z"}, "valid_from"),
    ],
)
def test_a_bad_price_is_refused_by_its_field(body, field):
    refused = caller(*REGISTRY).post(PRICES, body, format="json")
    assert (refused.status_code, [error["field"] for error in refused.json()["errors"]]) == (400, [field])


def test_a_second_price_from_the_same_moment_conflicts():
    api = caller(*REGISTRY)
    body = {"model_prefix": "gpt", "input_cost_per_million": 1, "valid_from": "2026-01-01T00:00:00Z"}
    assert [api.post(PRICES, body, format="json").status_code for _ in range(2)] == [201, 409]


def test_prices_are_written_with_the_scope_to_write():
    assert caller("registry:read").get(PRICES).status_code == 200
    body = {"model_prefix": "gpt", "input_cost_per_million": 1}
    assert caller("registry:read").post(PRICES, body, format="json").status_code == 403


def test_every_model_is_told_with_its_price_and_source(models):
    rows = caller(*REGISTRY).get("/api/v1/model-prices").json()["results"]
    told = {row["model_id"]: (row["source"], row["input_cost_per_million"]) for row in rows}
    assert told == {
        "gpt-4o-mini-2024-07-18": ("list", "0.1500000000"),
        "unheard-of": ("", None),
        "mine": ("own", "7.0000000000"),
        "gpt-4o": ("free", "0.0000000000"),
    }
    assert {row["currency"] for row in rows} == {"USD"}


def test_models_that_nobody_can_price_are_found(models):
    rows = caller(*REGISTRY).get("/api/v1/model-prices?unknown=true").json()["results"]
    assert [row["model_id"] for row in rows] == ["unheard-of"]


def test_the_command_says_what_a_model_costs_and_why(models):
    told = commanded("gpt-4o-mini-2024-07-18", "--tokens", "1000+500")
    assert "0.00045" in told
    assert "genai-prices" in told


def test_the_command_lists_models_without_a_price(models):
    told = commanded("--unknown")
    assert "openai/unheard-of" in told
    assert "gpt-4o" not in told


def test_the_command_speaks_json(models):
    (told,) = json.loads(commanded("openai/mine", "--json", "--tokens", "1000000"))
    assert (told["source"], told["input_cost_per_million"], told["cost"]) == ("own", "7", "7")


@pytest.mark.parametrize("arguments", [("nobody",), ("mine", "--tokens", "many")])
def test_the_command_refuses_what_it_does_not_understand(models, arguments):
    with pytest.raises(CommandError):
        commanded(*arguments)


def test_the_list_of_models_shows_price_and_source(models, admin_client):
    page = admin_client.get("/admin/providers/providermodel/").content.decode()
    assert "list price of openai/gpt-4o-mini, genai-prices" in page
    assert "Nobody knows what it costs" in page


def test_a_models_own_page_says_what_it_costs_now(models, admin_client):
    pk = actions.Provider.objects.get(provider_id="openai").models.get(model_id="mine").pk
    assert "7 in" in admin_client.get(f"/admin/providers/providermodel/{pk}/change/").content.decode()


def test_prices_of_ones_own_are_listed_with_those_to_come(admin_client):
    later = timezone.now() + timedelta(days=2)
    PriceOverride.objects.create(model_prefix="gpt", input_cost_per_million=1)
    PriceOverride.objects.create(model_prefix="gpt", input_cost_per_million=2, valid_from=later)
    page = admin_client.get("/admin/providers/priceoverride/").content.decode()
    assert page.count("coming</span>") == 1
    assert "manage.py prices" in page


def test_a_price_is_added_by_its_form_and_one_without_an_amount_is_not(admin_client):
    form = {"model_prefix": "gpt", "valid_from_0": "2026-01-01", "valid_from_1": "00:00:00", "currency": "eur"}
    page = admin_client.post("/admin/providers/priceoverride/add/", form)
    assert "Say what input costs" in page.content.decode()
    assert (
        admin_client.post("/admin/providers/priceoverride/add/", form | {"input_cost_per_million": "1"}).status_code
        == 302
    )
    assert PriceOverride.objects.get().currency == "EUR"


# --- What a configuration file owns -----------------------------------------------------------------------------------------

OWNER = "/etc/gateway.yaml"


def owned() -> PriceOverride:
    told = [{"model_prefix": "gpt", "valid_from": "2026-01-01T00:00:00Z", "input_cost_per_million": "1"}]
    section = Prices()
    (entry,) = section.read(told, "prices").entries
    section.put(entry.name, entry.document)
    section.own({entry.name}, OWNER)
    return PriceOverride.objects.get()


def entry_name(row: PriceOverride) -> str:
    return f"*:{row.model_prefix}@{row.valid_from.isoformat()}"


def test_a_price_that_a_file_owns_is_changed_there():
    row = owned()
    assert Prices().owners() == {entry_name(row): OWNER}
    api = caller(*REGISTRY)
    assert api.get(f"{PRICES}/{row.pk}").json()["managed_by"] == OWNER
    assert api.patch(f"{PRICES}/{row.pk}", {"note": "x"}, format="json").status_code == 409
    assert api.delete(f"{PRICES}/{row.pk}").status_code == 409


def test_the_page_of_a_price_that_a_file_owns_is_for_reading(admin_client):
    row = owned()
    page = admin_client.get(f"/admin/providers/priceoverride/{row.pk}/change/").content.decode()
    assert 'name="input_cost_per_million"' not in page
    assert f"from {OWNER}" in admin_client.get("/admin/providers/priceoverride/").content.decode()


def test_a_price_in_a_file_is_told_as_it_is_stored():
    text = "version: 1\nprices: [{model_prefix: gpt, valid_from: 2026-01-01, input_cost_per_million: 1, currency: %s}]"
    for told, currency in (("eur", "EUR"), ("", "USD")):
        configuration.apply_document(text % told, label="file", write=True)
        assert PriceOverride.objects.get().currency == currency
        assert configuration.apply_document(text % told, label="file").changes == ()


def test_a_file_lets_go_of_a_price_and_of_no_other_files():
    row = owned()
    Prices().own((), "/etc/other.yaml")
    row.refresh_from_db()
    assert row.managed_by == OWNER
    Prices().own((), OWNER)
    row.refresh_from_db()
    assert row.managed_by == ""
