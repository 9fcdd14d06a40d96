"""The web process's door with a real database: the lifespan, both planes, and an edit that the next request sees."""

from __future__ import annotations

import asyncio
import gc
from decimal import Decimal

import orjson
import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.db import close_old_connections

from gateway_project import asgi
from inference.models import Trace, UsageRecord
from providers.models import Provider, ProviderModel
from routing import issuing, permits, playground_keys, snapshot
from routing.models import Budget, ClientKey
from tests.inference.door import Client, chat_body

pytestmark = pytest.mark.django_db(transaction=True)


class Process:
    """A server's side of the lifespan, and requests through the door."""

    def __init__(self) -> None:
        self._stop = asyncio.Event()
        self._said: asyncio.Queue[str] = asyncio.Queue()

    async def __aenter__(self) -> Process:
        steps = iter(["lifespan.startup"])

        async def receive() -> dict[str, str]:
            for step in steps:
                return {"type": step}
            await self._stop.wait()
            return {"type": "lifespan.shutdown"}

        async def send(message: dict[str, str]) -> None:
            await self._said.put(message["type"])

        self._task = asyncio.create_task(asgi.application({"type": "lifespan"}, receive, send))
        assert await asyncio.wait_for(self._said.get(), 60) == "lifespan.startup.complete"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        assert await asyncio.wait_for(self._said.get(), 60) == "lifespan.shutdown.complete"
        await self._task
        gc.unfreeze()
        snapshot.replace(None)

    async def call(self, path: str, body: object = None, *, key: str = "", method: str = "POST"):
        client = Client(orjson.dumps(body) if body is not None else b"")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "scheme": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "server": ("127.0.0.1", 8000),
            "client": ("127.0.0.1", 5000),
            "headers": [(b"host", b"127.0.0.1"), (b"authorization", b"Bearer " + key.encode())],
        }
        await asyncio.wait_for(asgi.application(scope, client.receive, client.send), 60)
        return client.answer


@pytest.fixture
def key() -> str:
    provider = Provider.objects.create(provider_id="fake", provider_type="fake")
    ProviderModel.objects.create(provider=provider, model_id="fake-chat")
    _, plaintext = issuing.issue("test", scopes=["generate"])
    return plaintext.reveal() if hasattr(plaintext, "reveal") else plaintext


async def test_a_request_is_served_and_its_row_is_in_the_database_after_the_stop(key) -> None:
    async with Process() as process:
        answer = await process.call("/v1/chat/completions", chat_body("one two"), key=key)
        assert answer.json["choices"][0]["message"]["content"] == "one two"
    row = await Trace.objects.aget()
    assert (row.request_id, row.output_tokens) == (answer.headers["x-gateway-request-id"], 2)
    used = await ClientKey.objects.aget()
    assert (used.last_used_from, used.last_used_at is not None) == ("127.0.0.1", True)


async def test_a_person_s_question_is_on_the_budget_of_the_key_that_it_is_asked_with(key) -> None:
    @sync_to_async
    def permit_for_ada() -> str:
        """Her own key is made while the process serves; it can afford a question or two."""
        ProviderModel.objects.update(input_cost_per_million=1, output_cost_per_million=100)
        text, _, own = playground_keys.permit(User.objects.create_superuser("ada"), playground_keys.OWN)
        Budget.objects.create(subject="key", client_key=own, amount=Decimal("0.0005"), strict=True)
        close_old_connections()
        return text

    async with Process() as process:
        permit = await permit_for_ada()
        question = chat_body("one two", max_tokens=2)
        first = await process.call(permits.TAKEN_AT, question, key=permit)
        elsewhere = await process.call("/v1/chat/completions", question, key=permit)
        later = [await process.call(permits.TAKEN_AT, question, key=permit) for _ in range(4)]
    assert (first.status, elsewhere.status) == (200, 401)
    assert {answer.error["code"] for answer in later if answer.status == 429} == {"insufficient_quota"}

    @sync_to_async
    def booked() -> tuple[Decimal, set[str]]:
        own = ClientKey.objects.get(person__username="ada")
        spent = UsageRecord.objects.filter(client_key_id=own.pk, status=200)
        tags = set(Trace.objects.filter(client_key_id=own.pk).values_list("tags", flat=True))
        told = sum((row.cost for row in spent), Decimal(0)), tags
        close_old_connections()
        return told

    cost, tags = await booked()
    assert cost <= Decimal("0.0005")
    assert tags == {",playground,user:ada,"}


async def test_other_paths_are_django_s(key) -> None:
    async with Process() as process:
        assert (await process.call("/livez", method="GET")).json == {"status": "ok"}
        assert (await process.call("/v1/nothing", key=key)).error["code"] == "unknown_url"
        assert (await process.call("/v1nothing", method="GET")).status == 404


async def test_ollamas_paths_are_the_data_planes(key) -> None:
    async with Process() as process:
        assert (await process.call("/", method="GET")).body == b"Ollama is running"
        asked = {"model": "fake-chat", "prompt": "one two", "stream": False}
        assert (await process.call("/api/generate", asked, key=key)).json["response"] == "one two"


async def test_an_edit_is_served_to_the_next_request(key) -> None:
    @sync_to_async
    def rename() -> None:
        model = ProviderModel.objects.get()
        model.model_id = "renamed"
        model.save()
        close_old_connections()

    async with Process() as process:
        before = await process.call("/v1/chat/completions", chat_body(), key=key)
        await rename()
        after = await process.call("/v1/chat/completions", chat_body(model="renamed"), key=key)
    assert (before.status, after.status) == (200, 200)
    assert int(after.headers["x-gateway-revision"]) > int(before.headers["x-gateway-revision"])


async def test_a_websocket_is_turned_away() -> None:
    said = []

    async def receive() -> dict[str, str]:
        return {"type": "websocket.connect"}

    async def send(message: dict[str, object]) -> None:
        said.append(message["type"])

    await asgi.application({"type": "websocket", "path": "/v1/x"}, receive, send)
    assert said == ["websocket.close"]
