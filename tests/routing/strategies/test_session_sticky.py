from collections import Counter
from dataclasses import replace

import pytest

from routing.strategies import session_sticky
from routing.types import Identity
from tests.routing.strategies.known import asked, candidates
from tests.routing.views import model

SESSIONS = [f"session-{number}" for number in range(2000)]


def targets(*weights):
    found = candidates(*(model(f"m{place}") for place in range(len(weights))))
    return [replace(one, weight=weight) for one, weight in zip(found, weights, strict=True)]


def winners(pool):
    return {session: session_sticky.order(pool, asked(session_id=session))[0].model.model_id for session in SESSIONS}


@pytest.fixture(scope="module")
def three():
    return winners(targets(1, 1, 1))


def test_sessions_spread_evenly(three):
    assert all(abs(count - 667) < 80 for count in Counter(three.values()).values())


def test_a_model_that_goes_moves_only_its_own_sessions(three):
    after = winners(targets(1, 1, 1)[:2])
    assert all(after[session] == before for session, before in three.items() if before != "m2")


def test_a_model_that_comes_moves_only_the_sessions_that_it_wins(three):
    after = winners(targets(1, 1, 1, 1))
    assert {after[session] for session in SESSIONS if after[session] != three[session]} == {"m3"}
    assert abs(list(after.values()).count("m3") - 500) < 80


def test_the_order_of_the_configuration_does_not_matter(three):
    assert winners(targets(1, 1, 1)[::-1]) == three


def test_weights_are_shares():
    counted = Counter(winners(targets(3, 1, 0)).values())
    assert abs(counted["m0"] - 1500) < 80
    assert "m2" not in counted


def test_without_a_session_the_key_stands_for_it():
    pool = targets(1, 1, 1, 1)
    chosen = {
        prefix: session_sticky.order(pool, asked(identity=Identity(1, prefix, "", frozenset())))[0].model.model_id
        for prefix in (f"gw-{number}" for number in range(50))
    }
    assert len(set(chosen.values())) == 4


def test_a_session_without_proper_letters_is_served_too():
    assert session_sticky.order(targets(1), asked(session_id="\ud800"))
