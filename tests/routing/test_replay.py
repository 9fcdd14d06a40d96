"""Past requests through two registries: where nothing differs, what differs, and what it costs."""

from dataclasses import replace
from decimal import Decimal
from random import Random

from routing.policy_documents import PolicyDocument, Requirements, Target
from routing.replay import Past, Report, replay, report
from routing.resolving import with_document
from routing.types import Prices, RequestFacts
from tests.routing.views import model, provider, snapshot

NOW = 1_000.0
CHEAP = model("cheap", of=provider("a"), prices=Prices(Decimal(1), Decimal(2)), capabilities=("chat",))
DEAR = model("dear", of=provider("b"), prices=Prices(Decimal(10), Decimal(20)), capabilities=("chat", "tools"))
UNPRICED = model("unpriced", of=provider("c"), capabilities=("chat", "vision"))
HELD = snapshot(CHEAP, DEAR, UNPRICED)


def of(*targets, **said):
    return PolicyDocument(targets=tuple(Target(name) for name in targets), **said)


def policies(**documents):
    held = HELD
    for name, document in documents.items():
        held = with_document(held, name, document, number=1)
    return held


def past(number=0, name="p", *, tokens=(1000, 500), route="b/dear", cost=None, **told) -> Past:
    facts = RequestFacts(model=name, prompt_bytes=4 * (tokens or (0, 0))[0], **told)
    read, written = tokens or (None, None)
    return Past(f"r{number}", facts, route, 200, "", read, written, 0, cost)


def compare(before, after, *pasts, always="") -> Report:
    return report(replay(pasts, before, after, now=NOW, always=always))


def requests(count=300):
    """Of every sort: sizes, sessions, limits, names and demands by chance."""
    chance = Random(7)
    for number in range(count):
        yield past(
            number,
            chance.choice(["p", "dear", "", "nobody", "sticky", "weighted"]),
            tokens=chance.choice([None, (chance.randint(1, 90_000), chance.randint(0, 900))]),
            session_id=chance.choice([None, f"s{number}"]),
            max_cost=chance.choice([None, Decimal("0.001")]),
            capabilities=chance.choice([frozenset(), frozenset({"tools"})]),
            preferred_model=chance.choice([None, "cheap", "gone"]),
        )


def test_a_registry_replayed_against_itself_makes_no_difference_whatever_is_asked():
    strategies = {name: of("cheap", "dear", strategy=name) for name in ("weighted",)}
    held = policies(
        p=of("dear", "cheap", max_cost=Decimal("0.05")),
        sticky=of("cheap", "dear", strategy="session_sticky"),
        **strategies,
    )
    told = compare(held, with_document(held, "p", held.policies["p"].active.document), *requests())
    assert told.requests == 300
    assert (told.different, told.differences, told.examples) == (0, {}, [])
    assert told.comparable_before == told.comparable_after > 0
    assert told.saving == 0


def test_each_side_costs_the_tokens_that_were_counted_at_its_own_models_price():
    told = compare(policies(p=of("dear")), policies(p=of("cheap")), past(cost=Decimal("0.03")))
    assert told.happened_cost == Decimal("0.03")
    assert told.before.cost == Decimal("0.02")
    assert told.after.cost == Decimal("0.002")
    assert told.saving == 0.9
    [difference] = told.differences.values()
    assert (difference.before, difference.after, difference.requests) == ("b/dear", "a/cheap", 1)


def test_an_unknown_price_stays_unknown_and_is_in_no_sum():
    told = compare(policies(p=of("dear")), policies(p=of("unpriced")), past(), past(1, "cheap"))
    assert (told.after.unknown, told.comparable) == (1, 1)
    assert told.comparable_before == told.comparable_after


def test_tokens_that_nobody_counted_cost_nothing_known_unless_an_estimate_is_wanted():
    alone = past(tokens=None)
    assert compare(policies(p=of("dear")), policies(p=of("cheap")), alone).before.unknown == 1
    guessed = alone._replace(facts=replace(alone.facts, prompt_bytes=4000, max_output_tokens=500), estimated=True)
    told = compare(policies(p=of("dear")), policies(p=of("cheap")), guessed)
    assert (told.before.cost, told.estimated) == (Decimal("0.02"), 1)


def test_what_was_cached_is_cheaper_only_where_it_was_cached():
    held = replace(CHEAP, prices=Prices(Decimal(1), Decimal(2), Decimal("0.1")))
    other = replace(DEAR, prices=Prices(Decimal(1), Decimal(2), Decimal("0.1")))
    both = snapshot(held, other)
    cached = past(tokens=(1000, 0), route="a/cheap")._replace(cached_tokens=1000)
    told = compare(with_document(both, "p", of("cheap")), with_document(both, "p", of("dear")), cached)
    assert (told.before.cost, told.after.cost) == (Decimal("0.0001"), Decimal("0.001"))


def test_whoever_would_hit_the_limit_of_cost_is_named():
    limited = of("dear", max_cost=Decimal("0.01"))
    told = compare(policies(p=of("dear")), policies(p=limited), past(), past(1, tokens=(10, 5), max_output_tokens=5))
    assert told.after.reasons == {"max_cost": 1}
    assert (told.newly_refused, told.newly_limited, told.after.limited) == (1, 1, 1)
    assert told.examples[0].after.route == ""


def test_a_limit_that_only_moves_a_request_is_counted_too():
    told = compare(policies(p=of("dear")), policies(p=of("dear", "cheap", max_cost=Decimal("0.01"))), past())
    assert (told.newly_refused, told.newly_limited) == (0, 1)


def test_what_nothing_can_serve_is_counted_by_what_is_missing():
    demanding = of("cheap", requirements=Requirements(capabilities=frozenset({"tools"})))
    told = compare(policies(p=of("dear")), policies(p=demanding), past())
    assert told.after.reasons == {"missing_capability": 1}


def test_what_happened_stands_beside_what_would_be_chosen_now():
    told = compare(policies(p=of("dear")), policies(p=of("dear")), past(route="b/dear"), past(1, route="a/cheap"))
    assert (told.served_then, told.as_happened, told.different) == (2, 1, 0)


def test_the_cost_with_routing_compares_with_one_model_for_everything():
    routed = policies(p=of("cheap"))
    told = compare(routed, routed, past(), past(1), always="dear")
    assert told.saving == 0.9


def test_a_draft_reaches_the_requests_that_come_by_another_policy():
    held = policies(inner=of("dear"), alias=of("inner"), p=of("inner", strategy="balanced"))
    told = compare(held, with_document(held, "inner", of("cheap")), past(0, "alias"), past(1, "p"), past(2, "dear"))
    assert told.different == 2


def test_pairs_without_end_are_counted_together(monkeypatch):
    monkeypatch.setattr("routing.replay.MOST_DIFFERENCES", 1)
    before = policies(p=of("dear"), q=of("cheap"))
    after = with_document(with_document(before, "p", of("cheap")), "q", of("dear"))
    told = compare(before, after, past(0, "p"), past(1, "q"), past(2, "q"))
    assert {pair: one.requests for pair, one in told.differences.items()} == {
        ("b/dear", "a/cheap"): 1,
        ("others", "others"): 2,
    }
