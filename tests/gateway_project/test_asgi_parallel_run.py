"""The door during a parallel run: requests of either plane are copied to the other side, and old paths leave their count."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import orjson
import pytest
from asgiref.sync import sync_to_async

from gateway_project import asgi
from inference import old_paths
from inference.models import OldPathTracking, OldPathUse, ShadowPair, Trace
from routing.models import Rollout
from tests.fakes.upstream import FakeUpstream
from tests.gateway_project.test_asgi import Process
from tests.inference import workers
from tests.inference.door import Answer, Client, chat_body

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _nobody_counted_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Earlier tests of this process used old paths too, and left counts that nobody wrote."""
    monkeypatch.setattr(old_paths, "counting", old_paths.Counting())


@pytest.fixture
def legacy() -> Iterator[FakeUpstream]:
    with FakeUpstream() as fake:
        yield fake


@pytest.fixture
def key(legacy: FakeUpstream) -> str:
    """A client's key, for a gateway that runs beside a legacy system and copies everything."""
    workers.fresh_registry()
    workers.add_model(workers.add_provider("web", "fake"))
    Rollout.objects.create(
        legacy_base_url=legacy.base_url.removesuffix("/v1"),
        shadow_percentage=100,
        shadow_daily_cap=Decimal(1000),
    )
    return workers.client_key()[1]


async def post(path: str, body: Any, key: str) -> Answer:
    raw = orjson.dumps(body)
    client = Client(raw)
    headers = {"host": "127.0.0.1", "authorization": f"Bearer {key}", "content-type": "application/json"}
    headers["content-length"] = str(len(raw))
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "scheme": "http",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 5000),
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    await asyncio.wait_for(asgi.application(scope, client.receive, client.send), 60)
    return client.answer


def _pairs() -> list[tuple[str, str, str]]:
    rows = ShadowPair.objects.order_by("id")
    return [(row.path, row.answered_by, row.gateway_text.reveal()) for row in rows]


async def test_requests_of_both_planes_are_copied_and_old_paths_are_counted(key: str, legacy: FakeUpstream) -> None:
    asked = {"prompt_content": "hello", "config": {"model_identifier": "words"}}
    async with Process():
        chat = await post("/v1/chat/completions", chat_body("hello", "words"), key)
        generated = await post("/generate", asked, key)
        await asgi.shadowing.idle()
    assert (chat.status, generated.status) == (200, 200)
    assert [request.path for request in legacy.requests] == ["/v1/chat/completions", "/generate"]
    assert await sync_to_async(_pairs)() == [
        ("/v1/chat/completions", "gateway", "hello"),
        ("/generate", "gateway", "hello"),
    ]
    [(family, requests)] = await sync_to_async(list)(OldPathUse.objects.values_list("family", "requests"))
    assert (family, requests) == ("/generate", 1)
    assert await OldPathTracking.objects.acount() == 1


async def test_what_the_legacy_side_serves_is_copied_to_the_gateway(key: str, legacy: FakeUpstream) -> None:
    await Rollout.objects.aupdate(percentage=0)
    async with Process():
        reply = await post("/v1/chat/completions", chat_body("hello", "words"), key)
        await asgi.shadowing.idle()
    assert b"echo: hello" in reply.body
    assert await sync_to_async(_pairs)() == [("/v1/chat/completions", "legacy", "hello")]
    sides = await sync_to_async(list)(Trace.objects.values_list("side", flat=True))
    assert sorted(sides) == ["legacy", "shadow"]
