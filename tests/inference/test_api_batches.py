"""`/v1/files` and `/v1/batches` through the door of the web process, mostly by OpenAI's own client."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import openai
import pytest
from django.test import Client

from gateway_project import asgi
from inference import kept_files
from inference.batch_models import Batch
from inference.file_models import FilePiece, KeptFile
from routing import client_keys
from tests.inference import workers
from tests.inference.batch_work import CHAT, line, work

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("words")]


@pytest.fixture
async def client(secret: str) -> AsyncIterator[openai.AsyncOpenAI]:
    transport = httpx.ASGITransport(app=asgi.application)
    async with httpx.AsyncClient(transport=transport) as http:
        yield openai.AsyncOpenAI(base_url="http://127.0.0.1/v1", api_key=secret, http_client=http, max_retries=0)
    await workers.close_async_connection()


def lines(count: int) -> bytes:
    return b"\n".join(json.dumps(line(f"c{n}", f"say {n}")).encode() for n in range(count))


async def test_openais_client_from_the_file_to_the_answers(client: openai.AsyncOpenAI) -> None:
    file = await client.files.create(file=("in.jsonl", lines(3)), purpose="batch")
    assert (file.object, file.filename, file.bytes, file.status) == ("file", "in.jsonl", len(lines(3)), "processed")
    asked = {"input_file_id": file.id, "endpoint": CHAT, "completion_window": "24h"}
    batch = await client.batches.create(**asked, metadata={"for": "me"})
    assert (batch.status, batch.metadata, batch.errors) == ("validating", {"for": "me"}, None)
    with pytest.raises(openai.ConflictError):
        await client.files.delete(file.id)
    await workers.aside(lambda: work(Batch.objects.get(pk=batch.id)))
    batch = await client.batches.retrieve(batch.id)
    assert (batch.status, batch.request_counts.completed, batch.usage.output_tokens) == ("completed", 3, 6)
    content = await client.files.content(batch.output_file_id)
    assert [json.loads(one)["custom_id"] for one in content.text.splitlines()] == ["c0", "c1", "c2"]
    assert [one.id async for one in client.batches.list()] == [batch.id]
    assert (await client.batches.cancel(batch.id)).status == "completed", "one that is over stays so"
    assert (await client.files.delete(file.id)).deleted


async def test_files_are_listed_a_page_at_a_time(client: openai.AsyncOpenAI) -> None:
    made = [(await client.files.create(file=b"x", purpose="user_data")).id for _ in range(3)]
    made.append((await client.files.create(file=b"x", purpose="batch")).id)
    assert [one.id async for one in client.files.list(limit=2)] == made[::-1]
    page = await client.files.list(limit=2, order="asc", after=made[0], purpose="user_data")
    assert ([one.id for one in page.data], page.has_more) == (made[1:3], False)


async def test_a_file_is_written_and_read_in_pieces_and_encrypted(client: openai.AsyncOpenAI) -> None:
    data = bytes(range(256)) * 3000
    file = await client.files.create(
        file=data, purpose="user_data", expires_after={"anchor": "created_at", "seconds": 3600}
    )
    assert file.expires_at == file.created_at + 3600
    assert (await client.files.content(file.id)).read() == data

    def stored() -> list[str]:
        return [piece.__dict__["content"].ciphertext[:4] for piece in FilePiece.objects.all()]

    assert await workers.aside(stored) == ["gw1."] * 3


async def test_one_key_cannot_fill_the_disk(client: openai.AsyncOpenAI, settings: Any) -> None:
    settings.GATEWAY_FILE_BYTES_PER_KEY = 1500
    kept = await client.files.create(file=b"x" * 1000, purpose="user_data")
    with pytest.raises(openai.APIStatusError) as caught:
        await client.files.create(file=b"x" * 501, purpose="batch")
    assert (caught.value.status_code, caught.value.code) == (413, "file_storage_full")
    await client.files.delete(kept.id)
    await client.files.create(file=b"x" * 501, purpose="batch")


async def test_what_is_too_large_or_a_strangers_is_refused_unread(client: openai.AsyncOpenAI, settings: Any) -> None:
    settings.GATEWAY_MAX_FILE_BYTES = 1000
    with pytest.raises(openai.APIStatusError) as caught:
        await client.files.create(file=b"x" * 1001, purpose="batch")
    assert (caught.value.status_code, caught.value.code) == (413, "request_too_large")
    for key, body in (("gw-nobody", b""), (client.api_key, b"x" * 70_000)):
        read: list[int] = []

        async def receive(read: list[int] = read, body: bytes = body) -> dict[str, Any]:
            read.append(1)
            return {"type": "http.request", "body": body, "more_body": True}

        said: list[dict[str, Any]] = []

        async def send(message: dict[str, Any], said: list[dict[str, Any]] = said) -> None:
            said.append(message)

        headers = [(b"authorization", b"Bearer " + key.encode()), (b"content-type", b"multipart/form-data; boundary=b")]
        scope = {"type": "http", "method": "POST", "path": "/v1/files", "headers": headers, "query_string": b""}
        await asgi.application({**scope, "client": ("127.0.0.1", 1)}, receive, send)
        assert (said[0]["status"], len(read)) == ((401, 0) if key == "gw-nobody" else (413, 1))


@pytest.mark.parametrize("path", ["/v1/files", "/v1/batches", "/v1/messages/batches"])
async def test_a_body_that_is_encoded_is_refused_by_its_encoding(client: openai.AsyncOpenAI, path: str) -> None:
    with pytest.raises(openai.BadRequestError, match="gzip"):
        await client.post(
            path.removeprefix("/v1"), content=b"x", cast_to=object, options={"headers": {"content-encoding": "gzip"}}
        )


def test_what_is_another_keys_is_not_there(secret: str) -> None:
    other = workers.client_key("admin", name="another")[1]
    mine = {"HTTP_AUTHORIZATION": f"Bearer {secret}"}
    owner = client_keys.prefix_of(secret)
    file = kept_files.keep(KeptFile(owner=owner, filename="a", purpose="batch"), [lines(1)])
    asked = {"input_file_id": file.pk, "endpoint": CHAT, "completion_window": "24h"}
    ours = Client().post("/v1/batches", asked, content_type="application/json", **mine).json()
    for secret_of, status in ((secret, 200), (other, 404)):
        caller = Client(headers={"authorization": f"Bearer {secret_of}"})
        for path in (f"/v1/files/{file.pk}", f"/v1/files/{file.pk}/content", f"/v1/batches/{ours['id']}"):
            assert caller.get(path).status_code == status, path
    theirs = Client().post(
        "/v1/batches", asked, content_type="application/json", headers={"authorization": f"Bearer {other}"}
    )
    assert (theirs.status_code, theirs.json()["error"]["param"]) == (404, "input_file_id")
    assert not Client(headers={"authorization": f"Bearer {other}"}).get("/v1/files").json()["data"]


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"endpoint": "/v1/images/generations"}, "endpoint"),
        ({"completion_window": "1h"}, "completion_window"),
        ({"metadata": {"priority": "first"}}, "metadata.priority"),
        ({"metadata": {"window": "at night"}}, "metadata.window"),
        ({"metadata": {"n": 1}}, "metadata"),
        ({"metadata": {"tags": ",".join("abcdefghijklmnop")}}, "metadata.tags"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 1}}, "output_expires_after.seconds"),
    ],
)
def test_what_is_wrong_with_a_batch_is_named(secret: str, change: dict[str, Any], param: str) -> None:
    file = kept_files.keep(KeptFile(owner=client_keys.prefix_of(secret), filename="a", purpose="batch"), [b"{}"])
    asked = {"input_file_id": file.pk, "endpoint": CHAT, "completion_window": "24h", **change}
    caller = Client(headers={"authorization": f"Bearer {secret}"})
    answer = caller.post("/v1/batches", asked, content_type="application/json")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


async def test_a_stranger_leaves_nothing_on_the_disk_and_a_key_no_more_than_a_body_may_have(
    client: openai.AsyncOpenAI, secret: str, settings: Any
) -> None:
    settings.GATEWAY_MAX_BODY_BYTES = 1024
    for path in ("/v1/batches", "/v1/responses/resp_1/cancel"):
        for key, body, status in (("none", b"{}", 401), (secret, b"x" * 100_000, 413)):
            heard: list[dict[str, Any]] = []
            reads = 0

            async def receive(body: bytes = body) -> dict[str, Any]:
                nonlocal reads
                reads += 1
                return {"type": "http.request", "body": body, "more_body": reads < 1000}

            async def send(message: dict[str, Any], heard: list[dict[str, Any]] = heard) -> None:
                heard.append(message)

            head = [(b"host", b"127.0.0.1"), (b"authorization", b"Bearer " + key.encode())]
            scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b""}
            await asgi.application(scope | {"headers": head, "client": ("127.0.0.1", 5000)}, receive, send)
            assert (heard[0]["status"], reads < 10) == (status, True)


@pytest.mark.parametrize(
    "asked",
    [{"input_file_id": "\ud800"}, {"input_file_id": ["a"]}, {"metadata": {"a": "\ud800"}}, {"metadata": {"a": "\0"}}],
)
def test_what_no_database_takes_is_the_callers_mistake(asked: dict[str, Any], secret: str) -> None:
    file = KeptFile.objects.create(owner=client_keys.prefix_of(secret), filename="f", purpose="batch", ready=True)
    body = {"input_file_id": file.pk, "endpoint": CHAT, "completion_window": "24h", **asked}
    answer = Client().post(
        "/v1/batches", json.dumps(body), content_type="application/json", headers={"authorization": f"Bearer {secret}"}
    )
    assert answer.status_code in (400, 404)


@pytest.mark.parametrize(
    "path", ["/v1/files/a%00", "/v1/files?after=a%00", "/v1/batches?limit=%C2%B2", "/v1/files?limit=1" + "0" * 5000]
)
def test_what_no_database_can_look_for_is_the_callers_error(secret: str, path: str) -> None:
    assert Client(headers={"authorization": f"Bearer {secret}"}).get(path).status_code == 400
