"""Responses in the database: gone on from while they are there, and forgotten when their days are over."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from inference import events, kept_responses, tasks
from inference.errors import BodyTooLarge, InvalidRequest
from inference.models import Job, KeptItem, KeptResponse
from inference.response_keeping import Turn

pytestmark = pytest.mark.django_db

THOUGHT = {"type": "reasoning", "id": "rs_1", "encrypted_content": "sealed"}


def kept(number: int, previous: str = "", **more: Any) -> KeptResponse:
    asked = {"role": "user", "content": f"ask {number}"}
    said = {"type": "message", "id": f"msg_{number}", "role": "assistant", "content": []}
    response = {"id": f"resp_{number}", "status": "completed", "output": [THOUGHT, said], **more}
    return kept_responses.keep(Turn("gw-owner", "m", previous, [asked], response))


def kinds(previous: str, model: str = "m") -> list[str]:
    return [item["type"] for item in kept_responses.before("gw-owner", previous, [], model).items]


def test_a_conversation_is_told_from_its_beginning_along_its_own_branch() -> None:
    kept(1)
    kept(2, "resp_1")
    kept(3, "resp_1")
    items = kept_responses.before("gw-owner", "resp_3", [], "m").items
    texts = [item["content"][0]["text"] for item in items if item.get("role") == "user"]
    assert texts == ["ask 1", "ask 3"]
    assert all(item["id"] for item in items)
    assert KeptResponse.objects.get(response_id="resp_3").thread == "resp_1"


def test_thoughts_go_to_the_model_that_thought_them_alone() -> None:
    kept(1)
    assert kinds("resp_1") == ["message", "reasoning", "message"]
    assert kinds("resp_1", "other") == ["message", "message"]


def test_a_conversation_ends_where_a_part_of_it_is_gone() -> None:
    first = kept(1)
    kept(2, "resp_1")
    kept_responses.delete(first)
    for previous in ("resp_1", "resp_2"):
        with pytest.raises(InvalidRequest) as refused:
            kept_responses.before("gw-owner", previous, [], "m")
        assert refused.value.code == "previous_response_not_found"


def test_what_was_told_while_a_response_was_made_is_forgotten_with_it(redis_url: str) -> None:
    job = Job.objects.create(owner="gw-owner", request={}, model="m")
    events.note(redis_url, job.pk, "chunk", 1, text="hello")
    row = kept(1)
    row.job = job
    row.save()
    assert events.lengths(redis_url, [job.pk]) == [1]
    kept_responses.delete(row)
    assert events.lengths(redis_url, [job.pk]) == [0]


def test_a_response_is_deleted_while_redis_is_away(settings: Any) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1"
    row = kept(1)
    row.job = Job.objects.create(owner="gw-owner", request={}, model="m")
    row.save()
    kept_responses.delete(row)
    assert not KeptResponse.objects.exists()


def test_what_is_not_over_cannot_be_gone_on_from_and_without_its_job_is_lost() -> None:
    row = kept(1, status="queued")
    assert kept_responses.as_it_stands(row)["status"] == "failed"
    assert kept_responses.as_it_stands(row)["error"]["code"] == "server_error"


def test_items_are_found_by_their_ids_for_their_owner_alone() -> None:
    kept(1)
    found = kept_responses.before("gw-owner", "", ["msg_1", "rs_1", "nothing"], "m").named
    assert set(found) == {"msg_1", "rs_1"}
    assert kept_responses.before("gw-other", "", ["msg_1"], "m").named == {}


def test_what_is_older_than_its_days_is_forgotten_with_its_items(settings: Any) -> None:
    settings.GATEWAY_RESPONSES_DAYS = 30
    kept(1)
    kept(2)
    KeptResponse.objects.filter(response_id="resp_1").update(at=timezone.now() - timedelta(days=31))
    assert tasks.forget_responses() == 1
    assert [row.response_id for row in KeptResponse.objects.all()] == ["resp_2"]
    assert not KeptItem.objects.filter(item_id="msg_1").exists()


def test_a_conversation_that_would_fill_the_memory_is_not_even_read(
    settings: Any, django_assert_max_num_queries: Any
) -> None:
    settings.GATEWAY_MAX_BODY_BYTES = 4096
    kept(1)
    for number in range(2, 6):
        kept(number, f"resp_{number - 1}", note="x" * 2048)
    kept(6, "resp_1")
    assert len(kinds("resp_6")) == 6
    with django_assert_max_num_queries(2), pytest.raises(BodyTooLarge):
        kinds("resp_5")
    with pytest.raises(BodyTooLarge):
        kept_responses.before("gw-owner", "", [f"msg_{number}" for number in range(1, 6)], "m")


def test_many_items_of_one_response_are_read_once(django_assert_num_queries: Any) -> None:
    output = [{"type": "message", "id": f"msg_{number}", "content": []} for number in range(50)]
    kept(1, output=output)
    with django_assert_num_queries(3):
        found = kept_responses.before("gw-owner", "", [one["id"] for one in output], "m").named
    assert list(found.values()) == output
