from decimal import Decimal

import pytest

from providers.prices import NOTHING_TO_PAY, UNKNOWN, Book, PriceRule, Prices, resolve

AT = 1_800_000_000.0


def priced(amount, **more):
    return Prices(Decimal(amount), Decimal(amount), **more)


def rule(prefix, amount, provider_id="", valid_from=0.0):
    return PriceRule(prefix, valid_from, priced(amount, source="override"), provider_id)


def resolved(model_id="gpt-4o", own=UNKNOWN, free=False, overrides=(), at=AT):
    return resolve("main", "openai", model_id, own, free, overrides, at)


def test_a_list_price_counts_where_nobody_says_otherwise():
    prices = resolved()
    assert (prices.input_cost_per_million, prices.output_cost_per_million, prices.source) == (2.5, 10, "list")


def test_the_models_own_price_wins_over_the_list():
    assert resolved(own=priced(1)).input_cost_per_million == 1
    assert resolved(own=priced(1)).source == "own"


def test_the_models_own_price_wins_over_being_free():
    assert resolved(own=priced(1), free=True).source == "own"


def test_what_is_free_costs_nothing_whatever_the_list_says():
    assert resolved(free=True) is NOTHING_TO_PAY


def test_an_override_wins_over_the_models_own_price():
    assert resolved(own=priced(1), overrides=[rule("gpt-", 2)]).input_cost_per_million == 2


def test_an_override_of_the_provider_wins_over_one_for_any():
    overrides = [rule("gpt-4o", 2), rule("gpt", 3, "main"), rule("gpt-4o", 4, "other")]
    assert resolved(overrides=overrides).input_cost_per_million == 3


def test_the_longest_prefix_wins():
    overrides = [rule("gpt", 1), rule("gpt-4o-mini", 3), rule("gpt-4o", 2)]
    assert resolved("gpt-4o-mini-2024-07-18", overrides=overrides).input_cost_per_million == 3
    assert resolved("gpt-4o-2024-08-06", overrides=overrides).input_cost_per_million == 2


def test_of_two_prices_the_newest_that_holds_counts():
    overrides = [rule("gpt", 1, valid_from=AT - 10), rule("gpt", 2, valid_from=AT), rule("gpt", 3, valid_from=AT + 1)]
    assert resolved(overrides=overrides).input_cost_per_million == 2


def test_a_price_that_begins_later_is_announced():
    book = Book([rule("gpt", 3, valid_from=AT + 9), rule("gpt", 3, valid_from=AT + 5), rule("a", 1)], AT)
    assert book.changes_at == AT + 5


def test_nothing_is_announced_where_nothing_changes():
    book = Book([rule("gpt", 3)], AT)
    book.prices("main", "openai", "gpt-4o", UNKNOWN, False)
    assert book.changes_at is None


def test_a_price_of_some_hours_is_announced_by_the_models_that_have_it():
    book = Book([], AT)
    book.prices("main", "deepseek", "deepseek-chat", UNKNOWN, False)
    assert AT < book.changes_at <= AT + 86_400


def test_an_unknown_price_is_not_zero():
    prices = resolved("unknown-model")
    assert (prices.input_cost_per_million, prices.output_cost_per_million, prices.known) == (None, None, False)
    assert prices.source == ""


def test_one_source_counts_as_a_whole():
    """A price put together from two would be nobody's."""
    half = resolved(own=Prices(input_cost_per_million=Decimal(7)))
    assert (half.input_cost_per_million, half.output_cost_per_million, half.source) == (7, None, "own")


def test_a_price_for_cached_input_alone_prices_nothing():
    assert resolved(own=Prices(cached_input_cost_per_million=Decimal(1))).source == "list"


@pytest.mark.parametrize("at", [0.0, AT])
def test_every_source_says_itself_in_words(at):
    for prices in (resolved(at=at), resolved(free=True, at=at), resolved(own=priced(1), at=at)):
        assert prices.note
