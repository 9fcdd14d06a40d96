from datetime import UTC, datetime
from decimal import Decimal
from types import SimpleNamespace as Made

import pytest

from providers import price_list, pricing

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp()


def found(provider_type, model_id, base_url="", at=NOW):
    return price_list.find(provider_type, model_id, at, base_url)


@pytest.mark.parametrize(
    ("model_id", "cost"),
    [("gpt-4o-mini-2024-07-18", "0.00045"), ("gpt-4o-mini", "0.00045"), ("gpt-4o", "0.0075"), ("gpt-4", "0.06")],
)
def test_the_longest_match_prices_a_model(model_id, cost):
    listed = found("openai", model_id)
    spent = pricing.cost(
        listed.input_cost_per_million, listed.output_cost_per_million, input_tokens=1000, output_tokens=500
    )
    assert spent == Decimal(cost)


def test_a_thousand_tokens_each_way_of_gpt_4o_cost_an_eightieth_of_a_dollar():
    listed = found("openai", "gpt-4o")
    spent = pricing.cost(
        listed.input_cost_per_million, listed.output_cost_per_million, input_tokens=1000, output_tokens=1000
    )
    assert spent == Decimal("0.0125")


@pytest.mark.parametrize("model_id", ["g", "gpt", "unknown-model", "gpt-4o-hyper", "", "my-gpt-4o"])
def test_what_no_list_has_is_unknown_however_it_begins(model_id):
    assert found("openai", model_id) is None


def test_a_date_that_nobody_listed_yet_costs_what_its_model_costs():
    assert found("openai", "gpt-4o-mini-2099-01-01").name == "openai/gpt-4o-mini"


def test_the_case_of_letters_does_not_matter():
    assert found("openai", "GPT-4o").name == "openai/gpt-4o"


@pytest.mark.parametrize(
    ("provider_type", "model_id", "name"),
    [
        ("openrouter", "anthropic/claude-3.5-sonnet", "openrouter/anthropic/claude-3.5-sonnet"),
        ("openai", "openai/gpt-4o", "openai/gpt-4o"),
        ("gemini", "models/gemini-2.5-pro", "google/gemini-2.5-pro"),
        ("azure_openai", "gpt-4o", "openai/gpt-4o"),
        ("anthropic", "claude-sonnet-4-5-20250929", "anthropic/claude-sonnet-4-5"),
        ("xai", "grok-4", "x-ai/grok-4-0709"),
    ],
)
def test_each_vendor_has_its_own_list_and_way_of_writing(provider_type, model_id, name):
    assert found(provider_type, model_id).name == name


def test_a_vendor_is_known_by_its_address_too():
    assert found("openai_compatible", "gpt-4o", "https://api.openai.com/v1").name == "openai/gpt-4o"


def test_an_unknown_reseller_is_priced_as_the_maker():
    assert found("openai_compatible", "google/gemini-2.5-pro", "https://llm.example.com/v1").name.startswith("google/")
    assert found("openai_compatible", "gpt-4o", "https://llm.example.com/v1").name == "openai/gpt-4o"


def test_a_server_of_ones_own_sells_nothing():
    assert found("openai_compatible", "gpt-4o", "http://10.0.0.7:8000/v1") is None
    assert found("vllm", "gpt-4o", "https://llm.example.com/v1") is None


def test_models_that_are_given_away_cost_nothing():
    given = found("openrouter", "agentica-org/deepcoder-14b-preview:free")
    assert (given.input_cost_per_million, given.output_cost_per_million) == (0, 0)


def test_of_several_tiers_the_base_counts_and_the_note_says_so():
    listed = found("anthropic", "claude-sonnet-4-5")
    assert (listed.input_cost_per_million, listed.tiered) == (Decimal(3), True)
    assert "base price of several" in listed.note


def test_the_note_names_the_entry_and_the_edition_of_the_list():
    assert found("openai", "gpt-4o").note == f"list price of openai/gpt-4o, genai-prices {price_list.list_version()}"


def test_an_announced_price_waits_for_its_day():
    day = datetime(2026, 9, 10, tzinfo=UTC).timestamp()
    before = found("deepseek", "deepseek-v4-flash", at=day - 12 * 3600)
    after = found("deepseek", "deepseek-v4-flash", at=day + 12 * 3600)
    assert before.changes_at == day
    assert (before.input_cost_per_million, after.input_cost_per_million) == (Decimal("0.22"), Decimal("0.15"))


def test_hours_of_the_day_may_have_their_own_price():
    noon = found("deepseek", "deepseek-chat", at=datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp())
    night = found("deepseek", "deepseek-chat", at=datetime(2026, 11, 20, 20, tzinfo=UTC).timestamp())
    assert night.input_cost_per_million < noon.input_cost_per_million
    assert noon.changes_at == datetime(2026, 11, 20, 16, 30, tzinfo=UTC).timestamp()


def test_a_model_without_prices_of_tokens_is_listed_without():
    nothing = Made(id="by-the-picture", match=None, prices=Made())
    assert price_list._base(nothing.prices, "input_mtok") == (None, False)
