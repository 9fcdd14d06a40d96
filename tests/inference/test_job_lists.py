"""Lists of jobs: what Redis tells of those that run."""

from __future__ import annotations

import uuid

import pytest

from inference import events, job_lists
from inference.models import Job

pytestmark = pytest.mark.django_db


def test_pieces_are_counted_without_what_workers_say_of_themselves(redis_url: str) -> None:
    job = Job.objects.create(owner="gw-1", request={}, model="m", state="running", fence=2)
    Job.objects.create(owner="gw-1", request={}, model="m")
    for kind, fence in (("running", 1), ("chunk", 1), ("restarted", 2), ("chunk", 2), ("chunk", 2)):
        events.note(redis_url, job.pk, kind, fence)

    assert job_lists.page(Job.objects.all()).pieces == {job.pk: 3}
    noted, pieces = events.summary(redis_url, job.pk)
    assert ([event.kind for event in noted], pieces) == (["running", "restarted"], 3)


def test_without_redis_nothing_is_known_of_pieces() -> None:
    nowhere = "redis://127.0.0.1:1/0"
    assert events.lengths(nowhere, [uuid.uuid4()]) == [0]
    assert events.summary(nowhere, uuid.uuid4()) == ([], 0)
