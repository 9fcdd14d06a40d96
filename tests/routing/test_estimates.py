import json
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing import estimates
from routing.decide import decide
from routing.types import UNSEEN, Prices, RequestFacts, RouteCondition
from tests.routing.views import model, provider, snapshot

PROSE = "The quick brown fox jumps over the lazy dog, and then it rests near the river for a while. "


def sent(text, *, escaped=False):
    return json.dumps([{"role": "user", "content": text}], ensure_ascii=escaped).encode()


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("a " * 10_000, 10_000), ("汉" * 10_000, 10_000), ("漢字かな交じり文" * 1250, 10_000)],
)
def test_short_words_and_wide_characters_count_one_by_one(text, tokens):
    for escaped in (False, True):
        assert tokens * 0.99 < estimates.tokens_in(sent(text, escaped=escaped)) < tokens * 1.05


def test_prose_counts_by_four_letters():
    assert estimates.tokens_in(sent(PROSE * 100)) == pytest.approx(len(PROSE) * 25, rel=0.02)


def test_packed_text_counts_more_than_prose_of_its_length():
    packed = json.dumps([{"a": number} for number in range(1000)], separators=(",", ":"))
    assert estimates.tokens_in(packed.encode()) > len(packed) * 0.39


def test_letters_of_two_bytes_count_about_half():
    text = "Привет мир, как дела сегодня? " * 400
    assert len(text) * 0.3 < estimates.tokens_in(sent(text)) < len(text) * 0.6


@given(st.binary(max_size=2000))
def test_any_bytes_have_at_most_a_token_each(text):
    assert 0 <= estimates.tokens_in(text) <= len(text)


def test_a_ratio_that_the_upstream_showed_replaces_the_usual_one():
    facts = RequestFacts(prompt_bytes=1000)
    assert estimates.input_tokens(facts, UNSEEN) == 250
    assert estimates.input_tokens(facts, RouteCondition(tokens_per_byte=0.4)) == 400


def test_of_text_and_ratio_the_higher_counts():
    facts = RequestFacts(prompt_bytes=20_000, prompt_tokens=10_000)
    assert estimates.input_tokens(facts, UNSEEN) == 10_000
    assert estimates.input_tokens(facts, RouteCondition(tokens_per_byte=0.6)) == 12_000


def test_pictures_come_on_top():
    assert estimates.input_tokens(RequestFacts(prompt_bytes=400, images=2), UNSEEN) == 2100


@pytest.mark.parametrize(
    ("asked", "most", "tokens"), [(None, None, 500), (None, 100, 100), (4000, 1000, 1000), (10, 1000, 10), (0, 9, 0)]
)
def test_an_answer_is_as_long_as_the_request_allows_and_the_model_can(asked, most, tokens):
    assert estimates.output_tokens(RequestFacts(max_output_tokens=asked), model(max_tokens=most)) == tokens


@pytest.mark.parametrize(("per_thousand", "dollars"), [("0.001", "0.10"), ("0.03", "3.00")])
def test_a_hundred_calls_of_five_hundred_tokens_each_way_cost_cents_and_not_dollars(per_thousand, dollars):
    """The figures of a source system, whose own sum is a thousand times as high."""
    per_million = Decimal(per_thousand) * 1000
    priced = model(prices=Prices(per_million, per_million))
    facts = RequestFacts(input_tokens=500, max_output_tokens=500)
    assert 100 * estimates.cost(facts, priced, UNSEEN) == Decimal(dollars)


def test_a_long_prompt_costs_more_than_a_short_one():
    priced = model(prices=Prices(Decimal(1), Decimal(1)))
    short, long = (estimates.cost(RequestFacts(prompt_bytes=size), priced, UNSEEN) for size in (100, 100_000))
    assert long - short == Decimal("0.024975")


def test_a_price_in_another_currency_is_no_price_in_dollars():
    priced = model(prices=Prices(Decimal(1), Decimal(1), currency="EUR"))
    assert estimates.cost(RequestFacts(prompt_bytes=100), priced, UNSEEN) is None


@pytest.mark.parametrize("text", ["a " * 10_000, "汉" * 10_000, PROSE * 480])
def test_a_prompt_of_ten_thousand_tokens_never_goes_to_a_context_of_eight_thousand(text):
    small, large = model("small", context_window=8192), model("large", context_window=32_768)
    held = snapshot(replace(small, provider=provider("first")), replace(large, provider=provider("second", priority=2)))
    text = sent(text)
    asked = RequestFacts(prompt_bytes=len(text), prompt_tokens=estimates.tokens_in(text))
    decision = decide(asked, held, now=0)
    assert [candidate.model.model_id for candidate in decision.candidates] == ["large"]
    assert [dropped.reason for dropped in decision.dropped] == ["prompt_too_long"]


def test_a_limit_in_dollars_says_of_another_currency_that_it_is_one():
    held = snapshot(model(prices=Prices(Decimal(1), Decimal(1), currency="EUR")))
    decision = decide(RequestFacts(max_cost=Decimal(1)), held, now=0)
    assert [(dropped.reason, "told in EUR" in dropped.detail) for dropped in decision.dropped] == [
        ("price_unknown", True)
    ]
