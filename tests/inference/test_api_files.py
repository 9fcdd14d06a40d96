"""Anthropic's official client and the files at `/v1/files`, through the door of the web process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import anthropic
import pytest
from django.test import Client

from inference import kept_files
from inference.batch_models import Batch
from inference.file_models import KeptFile
from routing import client_keys
from tests.inference import workers
from tests.inference.anthropics_client import anthropics_client

pytestmark = [pytest.mark.django_db(transaction=True)]

THEIRS = {"anthropic-version": "2023-06-01"}


@pytest.fixture
async def client(secret: str) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropics_client(secret) as client:
        yield client


async def test_a_file_from_its_upload_to_its_end(client: anthropic.AsyncAnthropic) -> None:
    files = client.beta.files
    file = await files.upload(file=("paper.pdf", b"%PDF-1.7", "application/pdf"), expires_in_seconds=7200)
    assert (file.type, file.filename, file.mime_type, file.size_bytes) == ("file", "paper.pdf", "application/pdf", 8)
    assert file.expires_at is not None
    assert (file.expires_at - file.created_at, file.downloadable) == (timedelta(seconds=7200), True)
    assert await files.retrieve_metadata(file.id) == file
    assert await (await files.download(file.id)).read() == b"%PDF-1.7"
    assert [one async for one in files.list()] == [file]
    gone = await files.delete(file.id)
    assert (gone.id, gone.type) == (file.id, "file_deleted")
    with pytest.raises(anthropic.NotFoundError) as caught:
        await files.download(file.id)
    told: Any = caught.value.body
    assert (told["type"], told["error"]["type"]) == ("error", "not_found_error")
    assert told["request_id"] == caught.value.request_id != ""


async def test_files_are_listed_in_pages_of_both_kinds(client: anthropic.AsyncAnthropic, secret: str) -> None:
    files = client.beta.files
    made = [(await files.upload(file=(f"{n}.txt", b"x"))).id for n in range(5)][::-1]
    assert [one.id async for one in files.list(limit=2)] == made
    assert [one.id async for one in files.list(ids=[made[3], made[0], "file_none"])] == [made[0], made[3]]
    page = await files.list(limit=2, extra_query={"before_id": made[3]})
    assert ([one.id for one in page.data], page.has_next_page()) == (made[1:3], False)
    caller = Client(headers={"x-api-key": secret, **THEIRS})
    page = await workers.aside(lambda: caller.get("/v1/files", {"after_id": made[3], "limit": 1}).json())
    assert (page["first_id"], page["last_id"], page["has_more"]) == (made[4], made[4], False)


async def test_who_deletes_what_is_listed_comes_to_the_end(client: anthropic.AsyncAnthropic) -> None:
    files = client.beta.files
    made = [(await files.upload(file=("a.txt", b"x"))).id for _ in range(5)]
    gone = [(await files.delete(one.id)).id async for one in files.list(limit=2)]
    assert sorted(gone) == sorted(made)


async def test_openais_clients_see_the_same_files_in_their_own_words(
    client: anthropic.AsyncAnthropic, secret: str
) -> None:
    made = await client.beta.files.upload(file=("a.md", b"x"))
    caller = Client(headers={"authorization": f"Bearer {secret}"})
    told = await workers.aside(lambda: caller.get(f"/v1/files/{made.id}").json())
    assert (told["object"], told["purpose"], told["expires_at"]) == ("file", "user_data", None)
    assert (await workers.aside(lambda: caller.get("/v1/files").json()))["object"] == "list"
    lost = await workers.aside(lambda: caller.get("/v1/files/none").json())
    assert (lost["error"]["param"], "type" in lost) == ("file_id", False)


@pytest.mark.parametrize(
    "asked",
    [
        {"limit": 0},
        {"page": "page_x"},
        {"after_id": "a", "before_id": "b"},
        {"ids[]": [f"file-{n}" for n in range(101)]},
        {"ids[]": ["a\0", "b"]},
    ],
    ids=["limit", "page", "both", "ids", "nul"],
)
def test_what_is_wrong_with_a_list_is_told_in_anthropics_words(secret: str, asked: dict[str, Any]) -> None:
    answer = Client(headers={"x-api-key": secret, **THEIRS}).get("/v1/files", asked)
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")


async def test_what_cannot_be_taken_in_is_told_in_anthropics_words(
    client: anthropic.AsyncAnthropic, settings: Any
) -> None:
    with pytest.raises(anthropic.BadRequestError, match="expires_in_seconds"):
        await client.beta.files.upload(file=("a", b"x"), expires_in_seconds=60)
    settings.GATEWAY_MAX_FILE_BYTES = 1000
    for size in (1001, 100_000):  # seen by the view, and by its announcement
        with pytest.raises(anthropic.APIStatusError) as caught:
            await client.beta.files.upload(file=("a", b"x" * size))
        told: Any = caught.value.body
        assert (caught.value.status_code, told["error"]["type"]) == (413, "request_too_large")
    stranger = client.with_options(api_key="gw-nobody")
    for asked in (stranger.beta.files.upload(file=("a", b"x")), stranger.beta.files.list()):
        with pytest.raises(anthropic.AuthenticationError) as refused:
            await asked
        told = refused.value.body
        assert told["error"]["type"] == "authentication_error"


def test_a_file_that_a_batch_reads_is_a_conflict_to_anthropics_clients(secret: str) -> None:
    file = kept_files.keep(KeptFile(owner=client_keys.prefix_of(secret), filename="a", purpose="batch"), [b"{}"])
    Batch.objects.create(owner=file.owner, endpoint="/v1/messages", input_file_id=file.pk, expires_at=file.created_at)
    answer = Client(headers={"x-api-key": secret, **THEIRS}).delete(f"/v1/files/{file.pk}")
    assert (answer.status_code, answer.json()["error"]["type"]) == (409, "conflict_error")
