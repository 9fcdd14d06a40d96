"""Anthropic's official client and its message batches, through the door of the web process; batches run in this very process."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import anthropic
import pytest
from django.test import Client
from django.utils import timezone

from inference import batch_running, batches, kept_files, message_batches
from inference.batch_models import Batch, BatchAnswer
from inference.errors import NotFound
from inference.file_models import FilePiece, KeptFile
from providers.models import ApiKey
from routing import client_keys, snapshot
from tests.fakes.anthropic import FakeAnthropic
from tests.inference import workers
from tests.inference.anthropics_client import anthropics_client
from tests.inference.batch_work import work

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("words")]

URL = "/v1/messages/batches"


@pytest.fixture
async def client(secret: str) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropics_client(secret) as client:
        yield client


def request(custom_id: str, text: str = "hello", **params: Any) -> Any:
    asked = {"model": "words", "max_tokens": 50, "messages": [{"role": "user", "content": text}], **params}
    return {"custom_id": custom_id, "params": asked}


async def worked(message_batch_id: str) -> None:
    await workers.aside(lambda: work(row(message_batch_id)))


def row(message_batch_id: str) -> Batch:
    return Batch.objects.get(pk=message_batch_id.removeprefix("msg"))


async def results_of(client: anthropic.AsyncAnthropic, message_batch_id: str) -> dict[str, Any]:
    return {one.custom_id: one.result async for one in await client.messages.batches.results(message_batch_id)}


async def test_a_batch_from_its_requests_to_its_results(client: anthropic.AsyncAnthropic) -> None:
    batch = await client.messages.batches.create(
        requests=[request("a", "say a\nand b"), request("b", "/fail 400"), request("c", model="nobody")]
    )
    assert (batch.type, batch.processing_status, batch.ended_at) == ("message_batch", "in_progress", None)
    assert (batch.request_counts.processing, batch.results_url) == (3, None)
    assert batch.expires_at - batch.created_at == timedelta(days=1)
    with pytest.raises(anthropic.AnthropicError, match="finished processing"):
        await client.messages.batches.results(batch.id)
    await worked(batch.id)
    batch = await client.messages.batches.retrieve(batch.id)
    counts = batch.request_counts
    assert (batch.processing_status, batch.ended_at is not None, batch.archived_at) == ("ended", True, None)
    assert (counts.succeeded, counts.errored, counts.processing, counts.canceled, counts.expired) == (1, 2, 0, 0, 0)
    assert batch.results_url == f"http://127.0.0.1{URL}/{batch.id}/results"
    results = await results_of(client, batch.id)
    assert {name: result.type for name, result in results.items()} == {"a": "succeeded", "b": "errored", "c": "errored"}
    message = results["a"].message
    assert (message.type, message.content[0].text, message.stop_reason) == ("message", "say a\nand b", "end_turn")
    assert message.usage.output_tokens == 4
    assert (results["b"].error.type, results["b"].error.error.type) == ("error", "invalid_request_error")
    assert results["c"].error.error.type == "not_found_error"


async def test_betas_reach_a_provider_that_speaks_the_protocol(client: anthropic.AsyncAnthropic) -> None:
    with FakeAnthropic() as upstream:
        far = {"base_url": upstream.base_url, "allow_private": True}

        def register() -> None:
            provider = workers.add_provider("anthropic", "anthropic", **far)
            ApiKey(provider=provider, secret=upstream.api_key).save()
            workers.add_model(provider, "claude-test", input_cost_per_million=1, output_cost_per_million=1)

        await workers.aside(register)
        asked = [request("a", model="claude-test")]
        batch = await client.beta.messages.batches.create(requests=asked, betas=["some-beta-2026-01-01"])
        await worked(batch.id)
        [result] = [one.result async for one in await client.beta.messages.batches.results(batch.id)]
        assert result.message.content[0].text == "echo: hello"
        betas = upstream.requests[-1].headers["anthropic-beta"].split(",")
        assert "some-beta-2026-01-01" in betas


async def test_both_views_are_of_one_batch(client: anthropic.AsyncAnthropic, secret: str) -> None:
    headers = {"x-gateway-priority": "high", "x-gateway-tags": "night"}
    batch = await client.messages.batches.create(requests=[request("a")], extra_headers=headers)
    caller = Client(headers={"authorization": f"Bearer {secret}"})
    theirs = await workers.aside(lambda: caller.get(f"/v1/batches/{batch.id.removeprefix('msg')}").json())
    assert (theirs["endpoint"], theirs["request_counts"]["total"]) == ("/v1/messages", 1)
    stored = await workers.aside(row, batch.id)
    assert (stored.priority, stored.tags) == (batches.PRIORITIES["high"], "night")
    listed = await workers.aside(lambda: caller.get(URL).json()["data"])
    assert [one["id"] for one in listed] == [batch.id], "a Bearer token opens the same"
    await workers.aside(lambda: Batch.objects.update(endpoint="/v1/chat/completions"))
    assert [one async for one in client.messages.batches.list()] == []


async def test_batches_are_listed_in_pages_both_ways(client: anthropic.AsyncAnthropic) -> None:
    made = [(await client.messages.batches.create(requests=[request("a")])).id for _ in range(4)][::-1]
    assert [one.id async for one in client.messages.batches.list(limit=2)] == made
    page = await client.messages.batches.list(limit=2, before_id=made[3])
    assert ([one.id for one in page.data], page.has_more) == (made[1:3], True)
    assert (page.first_id, page.last_id) == (made[1], made[2])
    page = await client.messages.batches.list(before_id=made[1])
    assert ([one.id for one in page.data], page.has_more) == (made[:1], False)
    for wrong in ({"limit": 0}, {"after_id": made[0], "before_id": made[1]}):
        with pytest.raises(anthropic.BadRequestError):
            await client.messages.batches.list(**wrong)
    with pytest.raises(anthropic.NotFoundError):
        await client.messages.batches.list(after_id="msgbatch_none")


async def test_one_that_is_cancelled_before_it_begins_says_so_of_each_request(client: anthropic.AsyncAnthropic) -> None:
    batch = await client.messages.batches.create(requests=[request("a"), request("b")])
    batch = await client.messages.batches.cancel(batch.id)
    assert (batch.processing_status, batch.request_counts.processing) == ("canceling", 2)
    assert batch.cancel_initiated_at is not None
    await worked(batch.id)
    batch = await client.messages.batches.cancel(batch.id)
    assert (batch.processing_status, batch.request_counts.canceled) == ("ended", 2)
    results = await results_of(client, batch.id)
    assert [(name, result.type) for name, result in results.items()] == [("a", "canceled"), ("b", "canceled")]


async def test_what_is_answered_when_its_time_is_over_is_kept_and_the_rest_is_expired(
    client: anthropic.AsyncAnthropic,
) -> None:
    batch = await client.messages.batches.create(requests=[request("a"), request("b"), request("c")])

    def expire() -> None:
        batch_running.run(row(batch.id).pk)
        answer = (
            b'{"custom_id":"a","response":{"status_code":200,"request_id":"r","body":{"id":"msg_1"}},"error":null}\n'
        )
        BatchAnswer.objects.create(batch=row(batch.id), number=1, ok=True, content=answer.decode())
        Batch.objects.update(expires_at=timezone.now(), completed=1)
        work(row(batch.id))

    await workers.aside(expire)
    counts = (await client.messages.batches.retrieve(batch.id)).request_counts
    assert (counts.succeeded, counts.expired, counts.errored) == (1, 2, 0)
    results = await results_of(client, batch.id)
    assert [result.type for result in results.values()] == ["succeeded", "expired", "expired"]


async def test_one_whose_files_could_not_be_written_has_an_error_for_each_request(
    client: anthropic.AsyncAnthropic,
) -> None:
    batch = await client.messages.batches.create(requests=[request("a"), request("b")])
    wrong = [{"code": "files_not_written", "message": "The answers could not be written.", "param": None, "line": None}]
    now = timezone.now()
    await workers.aside(lambda: Batch.objects.update(state="failed", errors=wrong, completed=2, ended_at=now))
    assert (await client.messages.batches.retrieve(batch.id)).request_counts.errored == 2
    results = await results_of(client, batch.id)
    assert {result.error.error.message for result in results.values()} == {wrong[0]["message"]}


async def test_one_that_has_ended_is_deleted_with_its_files(client: anthropic.AsyncAnthropic) -> None:
    batch = await client.messages.batches.create(requests=[request("a"), request("b", model="nobody")])
    with pytest.raises(anthropic.BadRequestError, match="still being processed"):
        await client.messages.batches.delete(batch.id)
    await worked(batch.id)
    assert await workers.aside(KeptFile.objects.count) == 3
    deleted = await client.messages.batches.delete(batch.id)
    assert (deleted.id, deleted.type) == (batch.id, "message_batch_deleted")
    assert not await workers.aside(lambda: KeptFile.objects.exists() or FilePiece.objects.exists())
    with pytest.raises(anthropic.NotFoundError):
        await client.messages.batches.retrieve(batch.id)


async def test_a_file_that_its_key_left_before_is_not_deleted_with_the_batch(
    client: anthropic.AsyncAnthropic, secret: str
) -> None:
    line = {"custom_id": "a", "method": "POST", "url": "/v1/messages", "body": request("a")["params"]}

    def made() -> Batch:
        owner = snapshot.refresh().client_keys[client_keys.prefix_of(secret)].identity
        file = KeptFile(owner=owner.prefix, filename="mine.jsonl", purpose="batch")
        kept_files.keep(file, [json.dumps(line).encode()])
        asked = {"input_file_id": file.pk, "endpoint": "/v1/messages", "completion_window": "24h"}
        return work(batches.create(asked, owner))

    batch = await workers.aside(made)
    assert [*await results_of(client, f"msg{batch.pk}")] == ["a"]
    await client.messages.batches.delete(f"msg{batch.pk}")
    assert await workers.aside(lambda: [file.filename for file in KeptFile.objects.all()]) == ["mine.jsonl"]


async def test_results_are_archived_when_their_files_are(client: anthropic.AsyncAnthropic, settings: Any) -> None:
    batch = await client.messages.batches.create(requests=[request("a")])
    await worked(batch.id)
    long_ago = timezone.now() - timedelta(days=settings.GATEWAY_FILE_DAYS)
    await workers.aside(lambda: Batch.objects.update(ended_at=long_ago))
    await workers.aside(lambda: KeptFile.objects.update(expires_at=timezone.now()))
    batch = await client.messages.batches.retrieve(batch.id)
    assert (batch.archived_at, batch.results_url) == (long_ago + timedelta(days=settings.GATEWAY_FILE_DAYS), None)
    with pytest.raises(anthropic.NotFoundError):
        await client.get(f"{URL}/{batch.id}/results", cast_to=str)


def test_results_that_are_deleted_while_they_are_read_do_not_look_complete(owner: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(message_batches, "_AT_ONCE_BYTES", 1)
    body = json.dumps({"requests": [request("a"), request("b")]}).encode()
    batch = work(message_batches.create([body], {}, owner))
    told = message_batches.results(batch)
    assert json.loads(next(told))["custom_id"] == "a"
    message_batches.delete(Batch.objects.get(pk=batch.pk))
    with pytest.raises(NotFound):
        list(told)


async def test_what_is_wrong_with_a_request_is_told_in_its_words_and_leaves_nothing(
    client: anthropic.AsyncAnthropic,
) -> None:
    for requests, message in (
        ([], "requests: List should have at least 1 item"),
        ([request("a"), request("a")], "requests.1.custom_id: 'a' is that of another request"),
        ([request("a b")], "requests.0.custom_id: String should match pattern"),
        ([request("a"), {"custom_id": "b", "params": {"model": "words"}}], "requests.1.params.max_tokens: Field"),
    ):
        with pytest.raises(anthropic.BadRequestError) as refused:
            await client.messages.batches.create(requests=requests)
        told = refused.value.body
        assert (told["type"], told["error"]["type"]) == ("error", "invalid_request_error")
        assert told["error"]["message"].startswith(message)
        assert told["request_id"] == refused.value.request_id
    assert not await workers.aside(lambda: KeptFile.objects.exists() or Batch.objects.exists())


async def test_tags_that_cannot_be_are_named_as_they_were_sent(client: anthropic.AsyncAnthropic) -> None:
    with pytest.raises(anthropic.BadRequestError) as refused:
        await client.messages.batches.create(requests=[request("a")], extra_headers={"x-gateway-tags": "x" * 600})
    assert refused.value.body["error"]["param"] == "x-gateway-tags"
    assert not await workers.aside(KeptFile.objects.exists)


async def test_one_key_cannot_leave_more_than_others(client: anthropic.AsyncAnthropic, settings: Any) -> None:
    settings.GATEWAY_MAX_FILE_BYTES = 2000
    settings.GATEWAY_FILE_BYTES_PER_KEY = 1500
    await client.messages.batches.create(requests=[request("a", "x" * 1000)])
    for requests, code in (
        ([request("a", "x" * 1000)], "file_storage_full"),
        ([request("a", "x" * 80_000)], "request_too_large"),
    ):
        with pytest.raises(anthropic.APIStatusError) as refused:
            await client.messages.batches.create(requests=requests)
        told = refused.value.body["error"]
        assert (refused.value.status_code, told["type"], told["code"]) == (413, "request_too_large", code)
    settings.GATEWAY_FILE_BYTES_PER_KEY = 10_000
    with pytest.raises(anthropic.APIStatusError, match="together they are larger"):
        await client.messages.batches.create(requests=[request(name, "x" * 900) for name in "abc"])
    assert await workers.aside(KeptFile.objects.count) == 1


def test_requests_whose_batch_was_never_made_are_not_kept(owner: Any, monkeypatch: Any) -> None:
    class Killed(BaseException):
        """Nothing is cleared up after it."""

    def killed(*_: Any) -> None:
        raise Killed

    body = [json.dumps({"requests": [request("a")]}).encode()]
    with monkeypatch.context() as dying, pytest.raises(Killed):
        dying.setattr(batches, "create", killed)
        dying.setattr(kept_files, "delete", lambda _: False)
        message_batches.create(body, {}, owner)
    made = message_batches.create(body, {}, owner)
    assert kept_files.forget_old(timezone.now() + timedelta(days=2)) == 1
    work(made)
    assert kept_files.forget_old(timezone.now() + timedelta(days=2)) == 0
    assert KeptFile.objects.filter(pk=made.input_file_id).exists()


async def test_who_has_too_many_open_is_told_to_wait(client: anthropic.AsyncAnthropic, monkeypatch: Any) -> None:
    monkeypatch.setattr(batches, "MOST_OPEN", 1)
    await client.messages.batches.create(requests=[request("a")])
    with pytest.raises(anthropic.RateLimitError):
        await client.messages.batches.create(requests=[request("a")])
    assert await workers.aside(KeptFile.objects.count) == 1


async def test_what_is_another_keys_is_not_there_and_a_stranger_is_refused(client: anthropic.AsyncAnthropic) -> None:
    batch = await client.messages.batches.create(requests=[request("a")])
    other = client.with_options(api_key=await workers.aside(lambda: workers.client_key("generate", name="b")[1]))
    api = other.messages.batches
    for call in (api.retrieve, api.cancel, api.delete):
        with pytest.raises(anthropic.NotFoundError):
            await call(batch.id)
    assert [one async for one in api.list()] == []
    reader = client.with_options(api_key=await workers.aside(lambda: workers.client_key("registry:read", name="c")[1]))
    with pytest.raises(anthropic.PermissionDeniedError):
        await reader.messages.batches.retrieve(batch.id)
    stranger = client.with_options(api_key="gw-nobody").messages.batches
    for call in (stranger.list, lambda: stranger.create(requests=[request("a")])):
        with pytest.raises(anthropic.AuthenticationError) as refused:
            await call()
        assert refused.value.body["error"]["type"] == "authentication_error"
        assert refused.value.body["request_id"] == refused.value.request_id
