import asyncio

from providers.breaker_settings import DEFAULTS
from routing.leases import Leases


def test_a_lease_is_taken_back_once_and_by_its_own_route():
    held = Leases()
    token = held.new_token()
    held.hold(token, "p/m", DEFAULTS)
    assert held.take("p/other") == ""
    assert held.take("p/m") == token
    assert held.take("p/m") == ""
    assert not held.held


async def test_another_task_has_no_lease():
    held = Leases()

    async def granted():
        held.hold(held.new_token(), "p/m", DEFAULTS)
        held.begin("p/m")

    await asyncio.create_task(granted())
    assert held.take("p/m") == ""
    assert held.take_unused("p/m", in_flight=1) == ""
    assert held.take_unused("p/m", in_flight=0)
    assert not held.held


def test_only_calls_under_way_are_renewed():
    held = Leases()
    held.hold(held.new_token(), "p/m", DEFAULTS)
    assert held.due() == []
    held.begin("p/m")
    assert held.due() == []  # it is not time again
    held._renewed_at = 0.0
    assert [lease.route for lease in held.due()] == ["p/m"]


def test_tokens_of_two_processes_differ():
    assert Leases().new_token() != Leases().new_token()
