import asyncio

from providers.breaker_settings import DEFAULTS
from routing import leases
from routing.leases import RENEW_SECONDS, Leases


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


def test_only_calls_under_way_are_renewed(monkeypatch):
    now = 1_000.0
    monkeypatch.setattr(leases, "monotonic", lambda: now)
    held = Leases()
    held.hold(held.new_token(), "p/m", DEFAULTS)
    assert held.due() == []
    held.begin("p/m")
    assert held.due() == []  # it is not time again
    now += RENEW_SECONDS
    assert [lease.route for lease in held.due()] == ["p/m"]


def test_tokens_of_two_processes_differ():
    assert Leases().new_token() != Leases().new_token()
