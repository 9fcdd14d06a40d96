"""Copies for comparison: a request through the door, and what the other side was asked afterwards, in both directions."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import Any

import orjson
import pytest
from asgiref.sync import sync_to_async
from django.db import connections

from inference import shadow_pairs, shadowing
from inference.models import ShadowPair
from inference.shadow_budget import Budget
from inference.shadowing import Shadowing, is_sampled
from routing import snapshot
from routing.rollout import BUCKETS, GATEWAY, LEGACY, SHADOW
from routing.types import Prices, RolloutView
from tests.fakes.upstream import FakeUpstream, failure, no_answer, redirect
from tests.inference import registry
from tests.inference.door import Door, chat_body

pytestmark = pytest.mark.django_db(transaction=True)

CHEAP = Prices(Decimal(1), Decimal(2))


@pytest.fixture(autouse=True)
def one_day(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a copy costs is of the day on which it was made."""
    monkeypatch.setattr(shadowing, "time", partial(float, time.time()))


class ShadowedDoor(Door):
    """The data plane behind the roll-out's choice, as `gateway_project.asgi` puts them together."""

    def __init__(self, redis_url: str, **options: Any) -> None:
        super().__init__()
        self.side = GATEWAY
        self.rollout: RolloutView | None = None
        self.shadowing = Shadowing(redis_url, self.metrics, **options)
        self.inner = self.app
        self.app = self._asgi  # type: ignore[assignment]

    async def __aenter__(self) -> ShadowedDoor:
        await self.inner.startup(follow_registry=False)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.shadowing.aclose()
        await self.inner.shutdown()

    async def _asgi(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        rollout = self.rollout
        assert rollout is not None
        serve = self.inner if self.side == GATEWAY else partial(self.inner.forward, rollout)
        copied = self.shadowing.listen(rollout, self.side, scope) if rollout.shadow_share else None
        await (serve(scope, receive, send) if copied is None else copied.serve(serve, receive, send))

    def part(self, url: str, **changes: Any) -> None:
        """Put the roll-out in force, with a model `fake-chat` of known prices."""
        self.rollout = replace(
            RolloutView(
                legacy_base_url=url,
                gateway_enabled=True,
                share=BUCKETS,
                salt=b"salt",
                digest_key=b"d" * 32,
                shadow_share=BUCKETS,
                shadow_daily_cap=Decimal(1),
            ),
            **changes,
        )
        built = registry.snapshot(registry.model(registry.provider(), prices=CHEAP))
        snapshot.replace(replace(built, rollout=self.rollout))

    def serve_slowly(self) -> None:
        slow = registry.provider(settings={"delay_seconds": 30})
        snapshot.replace(replace(registry.snapshot(registry.model(slow)), rollout=self.rollout))

    async def ask(self, text: str = "hello", *, key: str | None = registry.CLIENT_KEY, **headers: str) -> Any:
        """A chat with further headers, their names spelled with underscores."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.call("/v1/chat/completions", chat_body(text), headers=sent, key=key)

    async def pairs(self) -> list[ShadowPair]:
        await self.shadowing.idle()
        return await sync_to_async(_stored)()

    @property
    def outcomes(self) -> dict[str, int]:
        return dict(self.metrics.shadow)


def _stored() -> list[ShadowPair]:
    return list(ShadowPair.objects.order_by("id"))


@pytest.fixture
def legacy() -> Iterator[FakeUpstream]:
    with FakeUpstream() as fake:
        yield fake


@pytest.fixture
async def door(redis_url: str, legacy: FakeUpstream, transactional_db: None) -> AsyncIterator[ShadowedDoor]:
    async with ShadowedDoor(redis_url) as opened:
        opened.part(base(legacy))
        yield opened
    snapshot.replace(None)
    await sync_to_async(connections.close_all)()


def base(legacy: FakeUpstream) -> str:
    return legacy.base_url.removesuffix("/v1")


def says(text: str) -> dict[str, Any]:
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    message = {"role": "assistant", "content": text}
    return {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage}


# The gateway answers, the legacy side gets the copy


async def test_a_request_served_here_is_copied_to_the_legacy_side(door: ShadowedDoor, legacy: FakeUpstream) -> None:
    reply = await door.ask("hello there", x_request_id="r-1", x_odd="kept")

    [pair] = await door.pairs()

    assert reply.json["choices"][0]["message"]["content"] == "hello there"
    [copy] = legacy.requests
    assert copy.json == chat_body("hello there")
    assert (copy.path, copy.headers["x-odd"]) == ("/v1/chat/completions", "kept")
    assert copy.headers["x-gateway-shadow"].startswith("gw-")
    assert (pair.answered_by, pair.request_id, pair.model, pair.path) == (
        GATEWAY,
        "r-1",
        "fake-chat",
        "/v1/chat/completions",
    )
    assert pair.request_text.reveal() == "user: hello there"
    assert (pair.gateway_text.reveal(), pair.legacy_text.reveal()) == ("hello there", "echo: hello there")
    assert (pair.gateway_status, pair.legacy_status, pair.equal, pair.similarity) == (200, 200, False, 0.8)
    assert (pair.gateway_output_tokens, pair.legacy_output_tokens) == (2, 3)
    assert pair.legacy_cost == Decimal(2 * 1 + 3 * 2) / 1_000_000
    assert door.outcomes == {"stored": 1}


async def test_equal_answers_are_told_as_equal(door: ShadowedDoor, legacy: FakeUpstream) -> None:
    legacy.reply_with(json=says("hello there"))
    await door.chat("hello there")
    [pair] = await door.pairs()
    assert (pair.equal, pair.similarity) == (True, 1.0)


async def test_a_stream_is_compared_as_the_text_that_it_made(door: ShadowedDoor, legacy: FakeUpstream) -> None:
    reply = await door.chat("one two three", stream=True)
    [pair] = await door.pairs()
    assert reply.events[-1] == "[DONE]"
    assert legacy.requests[0].json["stream"] is True
    assert (pair.gateway_text.reveal(), pair.legacy_text.reveal()) == ("one two three", "echo: one two three")


async def test_a_compressed_copy_is_not_asked_for(door: ShadowedDoor, legacy: FakeUpstream) -> None:
    await door.ask(accept_encoding="gzip")
    await door.pairs()
    assert legacy.requests[0].headers["accept-encoding"] == "identity"


async def test_the_client_does_not_wait_for_the_copy(door: ShadowedDoor, legacy: FakeUpstream) -> None:
    legacy.reply_with(no_answer(), times=None)
    reply = await door.chat("hello")
    assert reply.status == 200
    await asyncio.to_thread(_wait_until_asked, legacy)
    assert door.outcomes == {}


def _wait_until_asked(upstream: FakeUpstream) -> None:
    assert upstream.wait_for_requests(1)


async def test_a_legacy_side_that_fails_is_what_is_compared(door: ShadowedDoor, legacy: FakeUpstream) -> None:
    legacy.reply_with(failure(503, "down", code="overloaded"))
    reply = await door.chat("hello")
    [pair] = await door.pairs()
    assert reply.status == 200
    assert (pair.legacy_status, pair.legacy_error, pair.equal, pair.similarity) == (503, "overloaded", False, None)


async def test_a_legacy_side_that_cannot_be_reached_is_too(door: ShadowedDoor, legacy: FakeUpstream) -> None:
    legacy.stop()
    reply = await door.chat("hello")
    [pair] = await door.pairs()
    assert (reply.status, pair.legacy_error) == (200, "upstream_unreachable")


async def test_a_silent_legacy_side_is_given_up(redis_url: str, legacy: FakeUpstream) -> None:
    legacy.reply_with(no_answer(), times=None)
    async with ShadowedDoor(redis_url, copy_seconds=0.2) as door:
        door.part(base(legacy))
        await door.chat("hello")
        [pair] = await door.pairs()
        spent = await _spent(redis_url)
    assert pair.legacy_error == "upstream_timeout"
    assert spent > 0, "what may be billed all the same stays counted"
    snapshot.replace(None)


async def _spent(redis_url: str) -> Decimal:
    budget = Budget(redis_url)
    try:
        return await budget.spent(shadowing.time())
    finally:
        await budget.aclose()


# The legacy side answers, the gateway gets the copy


async def test_a_request_served_by_the_legacy_side_is_copied_to_the_gateway(
    door: ShadowedDoor, legacy: FakeUpstream
) -> None:
    door.side = LEGACY
    reply = await door.chat("hello there", stream=True)
    [pair] = await door.pairs()
    assert b"echo: " in reply.body
    assert pair.answered_by == LEGACY
    assert (pair.gateway_text.reveal(), pair.legacy_text.reveal()) == ("hello there", "echo: hello there")
    assert len(legacy.requests) == 1


async def test_a_copy_goes_no_further_than_the_client_s_key_may(door: ShadowedDoor) -> None:
    door.side = LEGACY
    limited = registry.key_view(allowed_providers=("elsewhere",))
    snapshot.replace(replace(snapshot.current(), client_keys={limited.identity.prefix: limited}))
    assert (await door.chat("hello there")).status == 200
    await door.pairs()
    await door.inner.shutdown()
    copies = [row for row in door.rows if row.side == SHADOW]
    assert [(row.provider_id, row.status) for row in copies] == [("", 404)]


async def test_the_copys_usage_is_marked_and_belongs_to_no_client(door: ShadowedDoor) -> None:
    door.side = LEGACY
    await door.chat("hello there")
    await door.pairs()
    await door.inner.shutdown()
    sides = {row.side: row for row in door.rows}
    assert set(sides) == {LEGACY, SHADOW}
    copy = sides[SHADOW]
    assert (copy.client_key_id, copy.client_key_prefix) == (None, "")
    assert (copy.provider_id, copy.model_id, copy.output_tokens) == ("fake", "fake-chat", 2)
    assert dict(door.metrics.requests) == {}, "requests of clients only"


async def test_a_model_that_the_gateway_does_not_have_is_a_difference(door: ShadowedDoor) -> None:
    door.side = LEGACY
    door.part(door.rollout.legacy_base_url, shadow_daily_cap=Decimal(1000))
    await door.chat("hello there", model="only-there")
    [pair] = await door.pairs()
    assert (pair.gateway_status, pair.gateway_error) == (404, "model_not_found")
    assert pair.gateway_cost is None
    assert pair.legacy_status == 200


async def test_the_old_gateways_requests_are_copied_in_its_shape(door: ShadowedDoor, legacy: FakeUpstream) -> None:
    door.side = LEGACY
    legacy.reply_with(json={"generated_content": "hello", "finish_reason": "stop"})
    body = {"prompt_content": "hello", "config": {"model_identifier": "fake-chat"}}
    await door.call("/generate", body)
    [pair] = await door.pairs()
    assert (pair.path, pair.equal) == ("/generate", True)


async def test_a_compressed_answer_is_read_all_the_same(door: ShadowedDoor, legacy: FakeUpstream) -> None:
    door.side = LEGACY
    packed = gzip.compress(orjson.dumps(says("hello there")))
    legacy.reply_with(body=packed, headers={"content-encoding": "gzip"}, content_type="application/json")
    await door.ask("hello there", accept_encoding="gzip")
    [pair] = await door.pairs()
    assert pair.equal


# Who is copied


@pytest.mark.parametrize(
    ("path", "method", "headers"),
    [
        ("/v1/models", "GET", {}),
        ("/v1/embeddings", "POST", {}),
        ("/v1/chat/completions", "GET", {}),
        ("/v1/chat/completions", "POST", {"x-gateway-shadow": "1"}),
    ],
)
def test_only_requests_that_make_text_are_copied_and_no_copy_is(
    redis_url: str, path: str, method: str, headers: dict[str, str]
) -> None:
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {"path": path, "method": method, "headers": raw}
    assert Shadowing(redis_url).listen(view(BUCKETS), GATEWAY, scope) is None


def view(share: int) -> RolloutView:
    return RolloutView("http://x", True, BUCKETS, b"salt", b"d" * 32, shadow_share=share)


def test_the_share_is_kept_and_an_id_always_falls_the_same_way() -> None:
    ids = [f"req-{number}".encode() for number in range(10_000)]
    sampled = [name for name in ids if is_sampled(view(2500), name)]
    assert abs(len(sampled) - 2500) < 150
    assert all(is_sampled(view(2500), name) for name in sampled)
    assert all(is_sampled(view(5000), name) for name in sampled), "a larger share only adds"
    assert not any(is_sampled(view(0), name) for name in ids)


async def test_a_copy_that_comes_back_here_is_refused(door: ShadowedDoor, legacy: FakeUpstream) -> None:
    await door.ask()
    await door.pairs()
    returned = await door.ask(x_gateway_shadow=legacy.requests[0].headers["x-gateway-shadow"])
    assert (returned.status, returned.error["code"]) == (508, "loop_detected")
    assert len(await door.pairs()) == 1


async def test_who_was_not_let_in_is_not_copied(door: ShadowedDoor, legacy: FakeUpstream) -> None:
    reply = await door.ask(key=None)
    assert (reply.status, await door.pairs(), legacy.requests) == (401, [], [])
    assert door.outcomes == {"refused": 1}


async def test_who_was_sent_elsewhere_to_log_in_is_not_copied(door: ShadowedDoor, legacy: FakeUpstream) -> None:
    door.side = LEGACY
    legacy.reply_with(redirect("/login", 302))
    reply = await door.ask(key=None)
    assert (reply.status, await door.pairs()) == (302, [])
    assert door.outcomes == {"refused": 1}


async def test_a_copy_leaves_the_operator_s_session_here(door: ShadowedDoor, legacy: FakeUpstream) -> None:
    door.part(base(legacy), own_cookies=frozenset({b"gateway_session"}))
    await door.ask(cookie="gateway_session=ours; sessionid=theirs")
    await door.pairs()
    assert legacy.requests[0].headers["cookie"] == "sessionid=theirs"


async def test_a_client_that_leaves_is_not_copied(door: ShadowedDoor, legacy: FakeUpstream) -> None:
    door.serve_slowly()
    client, task = door.open("/v1/chat/completions", chat_body("hello", stream=True))
    client.leave()
    await asyncio.wait_for(task, 60)
    assert await door.pairs() == []
    assert door.outcomes == {"not_answered": 1}


async def test_a_request_too_large_to_keep_is_not_copied(door: ShadowedDoor, legacy: FakeUpstream) -> None:
    reply = await door.chat("x" * (shadowing.MOST_BYTES + 1))
    assert (reply.status, await door.pairs()) == (200, [])
    assert door.outcomes == {"too_large": 1}


async def test_nothing_is_done_for_requests_outside_the_share(door: ShadowedDoor, legacy: FakeUpstream) -> None:
    door.part(base(legacy), shadow_share=0)
    await door.chat("hello")
    assert (await door.pairs(), door.outcomes) == ([], {})


# Money and room


async def test_the_cap_ends_the_copies_and_the_clients_notice_nothing(door: ShadowedDoor, legacy: FakeUpstream) -> None:
    door.part(base(legacy), shadow_daily_cap=Decimal("0.000000001"))
    reply = await door.chat("hello")
    assert (reply.status, await door.pairs(), legacy.requests) == (200, [], [])
    assert door.outcomes == {"cap_reached": 1}


async def test_a_copy_is_settled_at_what_it_cost(door: ShadowedDoor, legacy: FakeUpstream, redis_url: str) -> None:
    legacy.reply_with(json=says("fine"))
    await door.chat("hello")
    await door.pairs()
    assert await _spent(redis_url) == Decimal(7 * 1 + 3 * 2) / 1_000_000


async def test_a_copy_that_was_refused_costs_nothing(door: ShadowedDoor, legacy: FakeUpstream, redis_url: str) -> None:
    legacy.reply_with(failure(400))
    await door.chat("hello")
    await door.pairs()
    assert await _spent(redis_url) == 0


async def test_without_redis_nothing_is_copied(legacy: FakeUpstream) -> None:
    async with ShadowedDoor("redis://127.0.0.1:1/0") as door:
        door.part(base(legacy))
        reply = await door.chat("hello")
        assert (reply.status, await door.pairs(), legacy.requests) == (200, [], [])
        assert door.outcomes == {"store_away": 1}
    snapshot.replace(None)


async def test_copies_beyond_the_queue_are_dropped_and_counted(redis_url: str, legacy: FakeUpstream) -> None:
    legacy.reply_with(no_answer(), times=None)
    async with ShadowedDoor(redis_url, at_once=1, waiting=2) as door:
        door.part(base(legacy))
        for _ in range(5):
            assert (await door.chat("hello")).status == 200
        assert door.outcomes == {"queue_full": 2}
    assert door.outcomes == {"queue_full": 2, "stopped": 3}
    snapshot.replace(None)


async def test_a_database_that_is_away_loses_the_pair_and_nothing_else(
    door: ShadowedDoor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(pair: Any) -> None:
        raise RuntimeError("private question")

    monkeypatch.setattr(shadow_pairs, "store", away)
    reply = await door.chat("private question")
    assert (reply.status, await door.pairs()) == (200, [])
    assert door.outcomes == {"failed": 1}
    assert "private question" not in caplog.text


async def test_no_credential_is_stored(door: ShadowedDoor) -> None:
    await door.ask(cookie="session=canary-cookie")
    [pair] = await door.pairs()
    shown = {field.name: str(getattr(pair, field.name)) for field in ShadowPair._meta.fields}
    texts = [pair.request_text.reveal(), pair.gateway_text.reveal(), pair.legacy_text.reveal()]
    everything = json.dumps([shown, texts])
    assert registry.CLIENT_KEY not in everything
    assert "canary-cookie" not in everything


async def test_a_door_that_closed_may_be_opened_again(redis_url: str, legacy: FakeUpstream) -> None:
    shadow = Shadowing(redis_url)
    await shadow.aclose()
    scope = {"path": "/v1/chat/completions", "method": "POST", "headers": []}
    assert shadow.listen(view(BUCKETS), GATEWAY, scope) is not None
