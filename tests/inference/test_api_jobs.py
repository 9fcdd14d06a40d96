"""Jobs over REST: made, found, cancelled and followed, by those whose they are."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
import redis
from django.test import AsyncClient, Client

from inference import events, jobs
from inference.models import Job, Trace
from tests.inference import workers

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("words")]

BODY = {"prompt_content": "one two three", "config": {"model_identifier": "words"}}


@pytest.fixture
def key(words: None) -> str:
    return workers.client_key("generate")[1]


@pytest.fixture
def other(words: None) -> str:
    return workers.client_key("generate", name="other")[1]


@pytest.fixture
def admin(words: None) -> str:
    return workers.client_key("admin", name="admin")[1]


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def post(key: str, path: str = "/api/v1/jobs", body: Any = BODY) -> Any:
    return Client().post(path, json.dumps(body), content_type="application/json", headers=bearer(key))


def get(key: str, path: str, **headers: str) -> Any:
    return Client().get(path, headers={**bearer(key), **headers})


async def stream_of(key: str, job_id: str, **headers: str) -> list[dict[str, str]]:
    """The events, read to the stream's end."""
    reply = await AsyncClient().get(
        f"/api/v1/jobs/{job_id}/events", headers={**bearer(key), "Accept": "text/event-stream", **headers}
    )
    assert reply.status_code == 200
    assert reply["Content-Type"] == "text/event-stream; charset=utf-8"
    body = b"".join([part async for part in reply.streaming_content]).decode()
    await workers.close_async_connection()
    found = [
        dict(line.split(": ", 1) for line in block.split("\n")) for block in body.split("\n\n") if "data: " in block
    ]
    return found


@pytest.mark.parametrize("path", ["/api/v1/jobs", "/api/v1/jobs/"])
def test_a_job_is_accepted_and_says_where_it_is(key: str, path: str) -> None:
    reply = post(key, path)
    assert reply.status_code == 202
    job = reply.json()
    assert reply["Location"] == f"/api/v1/jobs/{job['id']}"
    assert (job["state"], job["result"]) == ("queued", None)
    assert get(key, reply["Location"]).json()["id"] == job["id"]


def test_a_finished_job_shows_its_result(key: str) -> None:
    job_id = post(key).json()["id"]
    assert jobs.run(uuid.UUID(job_id))
    job = get(key, f"/api/v1/jobs/{job_id}").json()
    assert (job["state"], job["error"]) == ("succeeded", None)
    assert job["result"]["generated_content"] == "one two three"
    assert Trace.objects.filter(request_id=jobs.request_id(uuid.UUID(job_id))).count() == 1


def test_a_job_that_nobody_can_serve_is_refused_at_once(key: str) -> None:
    assert post(key, body={**BODY, "config": {"model_identifier": "nothing"}}).status_code == 404
    assert post(key, body={"config": {"model_identifier": "words"}}).status_code == 400
    assert not Job.objects.exists()


@pytest.mark.parametrize("suffix", ["", "/", "/events", "/cancel"])
def test_another_keys_job_is_not_there(key: str, other: str, suffix: str) -> None:
    job_id = post(key).json()["id"]
    path = f"/api/v1/jobs/{job_id}{suffix}"
    reply = post(other, path, {}) if suffix == "/cancel" else get(other, path)
    assert reply.status_code == 404
    assert Job.objects.get(pk=job_id).state == "queued"


def test_an_admin_sees_every_job(key: str, admin: str) -> None:
    job_id = post(key).json()["id"]
    assert get(admin, f"/api/v1/jobs/{job_id}").status_code == 200
    assert [job["id"] for job in get(admin, "/api/v1/jobs").json()["results"]] == [job_id]


def test_the_list_holds_own_jobs_newest_first_in_pages(key: str, other: str) -> None:
    made = [post(key).json()["id"] for _ in range(3)]
    post(other)
    page = get(key, "/api/v1/jobs?limit=2").json()
    assert [job["id"] for job in page["results"]] == made[:0:-1]
    rest = get(key, page["next"]).json()
    assert [job["id"] for job in rest["results"]] == made[:1]
    assert get(key, "/api/v1/jobs?state=running").json()["results"] == []
    assert get(key, "/api/v1/jobs?state=gone").status_code == 400


def test_a_waiting_job_is_cancelled(key: str) -> None:
    job_id = post(key).json()["id"]
    assert post(key, f"/api/v1/jobs/{job_id}/cancel", {}).json()["state"] == "cancelled"
    assert jobs.run(uuid.UUID(job_id)) is False


def test_a_job_that_is_over_is_asked_again_in_its_keys_name(key: str, other: str, admin: str) -> None:
    job_id = post(key).json()["id"]
    path = f"/api/v1/jobs/{job_id}"
    assert post(key, f"{path}/retry", {}).status_code == 409
    post(key, f"{path}/cancel", {})
    assert post(other, f"{path}/retry", {}).status_code == 404
    again = post(admin, f"{path}/retry", {})
    assert again.status_code == 202
    assert get(key, again["Location"]).json()["state"] == "queued"


@pytest.mark.parametrize(
    "path", ["/api/v1/jobs", f"/api/v1/jobs/{uuid.UUID(int=1)}", f"/api/v1/jobs/{uuid.UUID(int=1)}/events"]
)
def test_every_path_needs_a_key(path: str) -> None:
    assert Client().get(path).status_code == 401


def test_an_unknown_job_and_a_malformed_id_are_not_found(key: str) -> None:
    assert get(key, f"/api/v1/jobs/{uuid.uuid4()}").status_code == 404
    assert get(key, "/api/v1/jobs/1").status_code == 404


async def test_events_tell_the_answer_and_end_with_the_jobs_state(key: str) -> None:
    job_id = (await workers.aside(post, key)).json()["id"]
    following = asyncio.create_task(stream_of(key, job_id))
    assert await workers.aside(jobs.run, uuid.UUID(job_id))
    told = await following
    assert told[0]["event"] == "running"
    deltas = [json.loads(event["data"]) for event in told if event["event"] == "chunk"]
    assert "".join(c["delta"].get("content") or "" for delta in deltas for c in delta["choices"]) == "one two three"
    assert told[-1]["event"] == "succeeded"
    assert json.loads(told[-1]["data"])["result"]["generated_content"] == "one two three"
    assert [event["event"] for event in told].count("succeeded") == 1


async def test_a_reader_resumes_after_the_event_it_had_last(key: str) -> None:
    job_id = (await workers.aside(post, key)).json()["id"]
    await workers.aside(jobs.run, uuid.UUID(job_id))
    told = await stream_of(key, job_id)
    again = await stream_of(key, job_id, **{"Last-Event-ID": told[2]["id"]})
    assert again == told[3:]
    at_the_end = await stream_of(key, job_id, **{"Last-Event-ID": told[-1]["id"]})
    assert at_the_end == told[-1:]


async def test_a_job_whose_log_is_lost_still_tells_its_end(key: str, redis_url: str) -> None:
    job_id = (await workers.aside(post, key)).json()["id"]
    await workers.aside(jobs.run, uuid.UUID(job_id))
    with redis.Redis.from_url(redis_url) as store:
        store.delete(events.key(job_id))
    [end] = await stream_of(key, job_id)
    assert end["event"] == "succeeded"


async def test_what_came_while_the_row_was_looked_at_is_told_before_the_end(key: str, monkeypatch: Any) -> None:
    job_id = (await workers.aside(post, key)).json()["id"]
    await workers.aside(jobs.run, uuid.UUID(job_id))
    follow = events.follow

    async def follow_when_it_was_silent(*asked: Any) -> AsyncIterator[events.Event | None]:
        yield None
        async with aclosing(follow(*asked)) as log:
            async for event in log:
                yield event

    monkeypatch.setattr(events, "follow", follow_when_it_was_silent)
    told = await stream_of(key, job_id)
    assert (told[0]["event"], told[-1]["event"]) == ("running", "succeeded")


def test_a_made_up_event_id_is_a_bad_request(key: str) -> None:
    job_id = post(key).json()["id"]
    assert get(key, f"/api/v1/jobs/{job_id}/events", **{"Last-Event-ID": "$"}).status_code == 400
