from collections import Counter
from dataclasses import replace

from routing.strategies import weighted
from tests.routing.strategies.known import asked, candidates
from tests.routing.views import model


def targets(*weights):
    found = candidates(*(model(f"m{place}") for place in range(len(weights))))
    return [replace(one, weight=weight) for one, weight in zip(found, weights, strict=True)]


def ordered(pool, chance):
    return [one.model.model_id for one in weighted.order(pool, asked(chance=chance))]


def test_each_target_wins_exactly_the_share_of_chances_that_its_weight_is():
    pool, steps = targets(50, 30, 20), 1000
    winners = Counter(ordered(pool, step / steps)[0] for step in range(steps))
    assert winners == {"m0": 500, "m1": 300, "m2": 200}


def test_the_second_place_is_shared_by_the_weights_of_the_others():
    pool, steps = targets(50, 30, 20), 1000
    seconds = Counter(tuple(ordered(pool, step / steps)[:2]) for step in range(steps))
    expected = {
        ("m0", "m1"): 500 * 30 / 50,
        ("m0", "m2"): 500 * 20 / 50,
        ("m1", "m0"): 300 * 50 / 70,
        ("m1", "m2"): 300 * 20 / 70,
        ("m2", "m0"): 200 * 50 / 80,
        ("m2", "m1"): 200 * 30 / 80,
    }
    assert all(abs(seconds[pair] - count) <= 1 for pair, count in expected.items())


def test_no_weight_never_comes_first():
    pool = targets(0, 1, 0)
    assert {tuple(ordered(pool, step / 100)) for step in range(100)} == {("m1", "m0", "m2")}


def test_without_any_weight_the_configuration_decides():
    assert ordered(targets(0, 0), 0.99) == ["m0", "m1"]


def test_the_largest_chance_falls_on_somebody():
    assert ordered(targets(1, 1, 1), 1 - 2**-53)[0] == "m2"


def test_places_that_are_not_drawn_go_by_weight():
    assert ordered(targets(*range(1, 13)), 0.0)[8:] == ["m11", "m10", "m9", "m8"]


def test_the_share_is_shown():
    assert dict(weighted.order(targets(3, 1), asked())[0].parts) == {"weight": 3.0, "share": 0.75}
