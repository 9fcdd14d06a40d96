"""What holds for every strategy, and for those of another package."""

from dataclasses import replace
from decimal import Decimal
from importlib.metadata import EntryPoint
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routing import strategies
from routing.decide import decide
from routing.policy_documents import Requirements
from routing.types import Asked, Candidate, Conditions, Prices, RequestFacts, RouteCondition
from tests.routing.views import facts, model, policy, provider, snapshot

CAPABILITIES = ("streaming", "vision", "tools", "reasoning")
TIERS = ("LOW", "MEDIUM", "HIGH", "PREMIUM")
EVERY = strategies.names()


def pool(chance: Random) -> list[Candidate]:
    """Up to eight models at three providers, anything about them by chance."""
    names = chance.sample(range(30), chance.randint(1, 8))
    return [
        Candidate(
            model(
                f"m{name}",
                of=provider(f"p{name % 3}", priority=chance.randint(1, 3)),
                capabilities=("chat", *some(chance, CAPABILITIES)),
                cost_tier=chance.choice(TIERS),
                context_window=chance.choice([None, chance.randint(1, 10**6)]),
                prices=Prices(maybe_price(chance), maybe_price(chance)),
            ),
            weight=chance.randint(0, 5),
            order=place,
        )
        for place, name in enumerate(names)
    ]


def question(chance: Random, candidates: list[Candidate]) -> Asked:
    routes = [candidate.model.route for candidate in candidates]
    return Asked(
        facts=RequestFacts(session_id=chance.choice([None, "a", "b"])),
        requirements=Requirements(
            capabilities=some(chance, CAPABILITIES),
            preferred_capabilities=some(chance, CAPABILITIES),
            min_context_window=chance.randint(0, 10**5),
        ),
        conditions=Conditions(
            {route: condition(chance) for route in some(chance, routes)},
            {route: chance.randint(0, 4) for route in some(chance, routes)},
        ),
        now=0.0,
        chance=chance.random(),
    )


def some(chance: Random, words) -> frozenset[str]:
    return frozenset(word for word in words if chance.random() < 0.4)


def maybe_price(chance: Random) -> Decimal | None:
    return chance.choice([None, Decimal(chance.randint(0, 100))])


def condition(chance: Random) -> RouteCondition:
    return RouteCondition(
        calls=chance.randint(0, 3),
        success_rate=chance.choice([None, 0.0, chance.random()]),
        latency_seconds=chance.choice([None, 60 * chance.random()]),
        recent_failures=chance.randint(0, 10),
    )


def routes(candidates) -> list[str]:
    return [one.model.route for one in candidates]


@pytest.mark.parametrize("name", EVERY)
@given(st.integers())
@settings(max_examples=50)
def test_an_order_has_every_candidate_once_unchanged_and_is_the_same_for_the_same_question(name, seed):
    candidates = pool(Random(seed))
    asked = question(Random(seed), candidates)
    order = strategies.find(name).order
    ordered = order(candidates, asked)
    assert order(candidates, asked) == ordered
    plain = sorted((replace(one, score=None, parts=()) for one in ordered), key=lambda one: one.order)
    assert plain == candidates


@pytest.mark.parametrize("name", [name for name in EVERY if strategies.find(name).key is not None])
@given(st.integers())
@settings(max_examples=50)
def test_a_key_says_the_same_as_the_order_however_the_pool_is_given(name, seed):
    candidates = pool(Random(seed))
    asked = question(Random(seed), candidates)
    strategy = strategies.find(name)
    shuffled = Random(seed).sample(candidates, len(candidates))
    assert routes(strategy.order(candidates, asked)) == routes(strategy.order(shuffled, asked))
    assert routes(strategy.order(candidates, asked)) == routes(
        sorted(shuffled, key=lambda one: strategy.key(one, asked))
    )


@pytest.mark.parametrize("name", EVERY)
@given(st.integers())
@settings(max_examples=50)
def test_whoever_may_serve_has_everything_that_is_demanded(name, seed):
    chance = Random(seed)
    held = snapshot(*(candidate.model for candidate in pool(chance)))
    demanded = Requirements(
        capabilities=some(chance, CAPABILITIES),
        max_cost_tier=chance.choice(TIERS),
        min_context_window=chance.randint(0, 10**6),
        reasoning=chance.random() < 0.3,
    )
    held = replace(held, policies={"node": policy("node", held, requirements=demanded, strategy=name)})
    decision = decide(facts("node"), held, now=0.0, chance=chance.random())
    assert {*routes(decision.candidates), *(one.route for one in decision.dropped)} == {
        each.route for each in held.models
    }
    for candidate in decision.candidates:
        assert demanded.capabilities <= candidate.model.capabilities
        assert TIERS.index(candidate.model.cost_tier) <= TIERS.index(demanded.max_cost_tier)
        assert (candidate.model.context_window or 10**6) >= demanded.min_context_window
        assert not demanded.reasoning or "reasoning" in candidate.model.capabilities


def test_a_name_that_nobody_has_any_more_is_served_by_priority():
    assert strategies.find("gone").name == "priority"


@pytest.fixture
def entry_points(monkeypatch):
    """Pretends that a package with these entry points is installed."""

    def install(**points):
        found = [EntryPoint(name, value, strategies.ENTRY_POINT) for name, value in points.items()]
        monkeypatch.setattr(strategies, "entry_points", lambda group: found)
        monkeypatch.setattr(strategies, "failures", {})
        strategies.registered.cache_clear()

    yield install
    strategies.registered.cache_clear()


ALPHABETICAL = strategies.Strategy(
    "alphabetical", "By name", "A to Z.", lambda found, asked: sorted(found, key=lambda one: one.model.route)
)
AGAIN = replace(ALPHABETICAL, name="priority")


def test_a_package_adds_its_own_strategy(entry_points):
    entry_points(mine=f"{__name__}:ALPHABETICAL")
    assert strategies.names()[-1] == "alphabetical"
    held = snapshot(model(of=provider("z")), model(of=provider("a")))
    decision = decide(facts(strategy="alphabetical"), held, now=0.0)
    assert routes(decision.candidates) == ["a/gpt-4o", "z/gpt-4o"]
    assert decision.strategy == "alphabetical"


def test_what_cannot_be_used_is_remembered_and_the_others_serve(entry_points):
    entry_points(lost="no.such.package:X", wrong=f"{__name__}:TIERS", twice=f"{__name__}:AGAIN")
    assert strategies.names() == EVERY
    assert set(strategies.failures) == {"lost", "wrong", "twice"}
    assert "no" in strategies.failures["lost"]
    assert "not a Strategy" in strategies.failures["wrong"]
    assert "priority" in strategies.failures["twice"]
