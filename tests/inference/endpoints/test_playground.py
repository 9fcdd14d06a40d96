"""A person with a permit asks as the key that it names, and is told apart from it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

import pytest

from inference.limits import Limits
from routing import permits, snapshot
from routing.allowances import MINUTE, REQUESTS, AllowanceIndex
from routing.client_addresses import networks
from tests.inference import registry
from tests.inference.door import Answer, Door, chat_body
from tests.routing.test_metering import allowance

PREFIX = "gw-0123456789ab"
PEPPERS = {"1": registry.PEPPER}


def permit(prefix: str = PREFIX, person: str = "ada", now: float | None = None) -> str:
    return permits.issue(prefix, person, PEPPERS, now=time.time() if now is None else now)[0]


@pytest.fixture
def fake(serve):
    def put(**key: Any):
        return serve(registry.model(registry.provider()), keys=[registry.key_view(**key)])

    return put


async def ask(door: Door, shown: str, body: dict[str, Any] | None = None, **more: Any) -> Answer:
    return await door.call(permits.TAKEN_AT, body or chat_body(), key=shown, **more)


async def test_a_permit_asks_as_its_key_and_the_row_says_who_asked(fake) -> None:
    fake()
    async with Door() as door:
        answer = await ask(door, permit(), chat_body(stream=True))
    assert (answer.status, answer.events[-1]) == (200, "[DONE]")
    (row,) = door.rows
    assert (row.client_key_id, row.client_key_prefix, row.status) == (7, PREFIX, 200)
    assert row.tags == ",playground,user:ada,"
    assert row.session_id == "user:ada"
    assert row.output_tokens > 0


async def test_who_asks_is_said_whatever_the_request_says(fake) -> None:
    fake()
    async with Door() as door:
        body = chat_body(user="bob", metadata={"tags": "user:bob"})
        answer = await ask(door, permit(), body, headers={"x-gateway-tags": "try"})
    assert answer.status == 200
    (row,) = door.rows
    assert {"playground", "user:ada", "try"} <= set(row.tags.split(","))
    assert row.session_id == "user:ada"


async def test_nobody_asks_in_another_persons_name_or_in_none(serve) -> None:
    crowd = ",".join(f"a{number:015}" for number in range(13))
    view = registry.key_view()
    of_key = replace(view, identity=replace(view.identity, tags=("a" * 60,)))
    serve(registry.model(registry.provider()), keys=[of_key])
    async with Door() as door:
        await ask(door, permit(), chat_body(session_id="user:bob", metadata={"tags": ["user:bob", "try"]}))
        await ask(door, permit(), headers={"x-gateway-tags": crowd})
    told, crowded = door.rows
    assert set(told.tags.strip(",").split(",")) == {"a" * 60, "playground", "try", "user:ada"}
    assert told.session_id == "user:ada"
    assert "user:ada" in crowded.tags.split(",")


async def test_a_permit_is_no_key(fake) -> None:
    fake()
    async with Door() as door:
        elsewhere = await door.call("/v1/chat/completions", chat_body(), key=permit())
        models = await door.get("/v1/models", key=permit())
        here = await ask(door, registry.CLIENT_KEY)
    assert (elsewhere.status, models.status, here.status) == (401, 401, 401)
    assert door.rows == []


async def test_a_permit_that_is_over_or_was_changed_is_refused(fake) -> None:
    fake()
    async with Door() as door:
        over = await ask(door, permit(now=time.time() - permits.GOOD_FOR_SECONDS - 1))
        forged = await ask(door, permit(person="bob").rpartition(".")[0] + "." + permit().rpartition(".")[2])
    assert (over.status, over.error["code"]) == (401, "expired_api_key")
    assert (forged.status, forged.error["code"]) == (401, "invalid_api_key")


@pytest.mark.parametrize(
    ("of_key", "status", "code"),
    [
        ({"enabled": False}, 401, "invalid_api_key"),
        ({"enabled": False, "revoked": True}, 401, "invalid_api_key"),
        ({"expires_at": 5.0}, 401, "expired_api_key"),
        ({"team_enabled": False}, 401, "invalid_api_key"),
        ({"networks": networks(["10.0.0.0/8"])}, 401, "ip_not_authorized"),
        ({"scopes": {"registry:read"}}, 403, "insufficient_scope"),
        ({"allowed_models": ("other-*",)}, 404, "model_not_found"),
    ],
)
async def test_what_the_key_may_not_its_permit_may_not(fake, of_key, status, code) -> None:
    fake(**of_key)
    async with Door() as door:
        answer = await ask(door, permit(), client=("192.0.2.1", 5))
    assert (answer.status, answer.error["code"]) == (status, code)


async def test_the_keys_limits_hold_for_whoever_asks_with_it(serve) -> None:
    index = AllowanceIndex(keys={7: (allowance(REQUESTS, MINUTE, 1),)})
    serve(registry.model(registry.provider()), allowances=index)
    async with Door() as door:
        first = await ask(door, permit())
        second = await ask(door, permit(person="bob"))
    assert first.status == 200
    assert first.headers["x-ratelimit-remaining-requests"] == "0"
    assert (second.status, second.error["code"]) == (429, "rate_limit_exceeded")


async def test_a_key_that_was_made_a_moment_ago_is_waited_for(fake) -> None:
    late = fake()
    snapshot.replace(replace(late, client_keys={}))
    async with Door(Limits()) as door:
        asking = asyncio.create_task(ask(door, permit()))
        await asyncio.sleep(0.1)
        assert not asking.done()
        snapshot.replace(late)
        assert (await asking).status == 200
