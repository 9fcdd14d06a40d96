from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from inference.models import Job, Trace

pytestmark = pytest.mark.django_db


def a_request(number: int, **fields: Any) -> Trace:
    fields = {"operation": "chat", "requested_model": "gpt-test", "status": 200, "at": timezone.now()} | fields
    return Trace.objects.create(request_id=f"req_{number}", **fields)


@pytest.mark.parametrize("name", ["trace", "job"])
def test_the_lists_never_count(admin_client: Client, name: str) -> None:
    a_request(1)
    Job.objects.create(owner="gw-1", request={"prompt": "private words"}, model="gpt-test")

    with CaptureQueriesContext(
        connection,
    ) as queries:
        response = admin_client.get(reverse(f"admin:inference_{name}_changelist"))

    assert response.status_code == 200
    assert not [query["sql"] for query in queries if "COUNT(" in query["sql"].upper()]
    assert "9999999999" not in response.content.decode()


def test_a_page_has_its_rows_and_the_next_one(admin_client: Client) -> None:
    for number in range(60):
        a_request(number)
    url = reverse("admin:inference_trace_changelist")

    assert admin_client.get(url).content.decode().count('title="req_') == 50
    assert admin_client.get(url, {"p": 2}).content.decode().count('title="req_') == 10


def test_failed_requests_are_found_by_their_outcome(admin_client: Client) -> None:
    a_request(1)
    a_request(2, status=502, error_code="upstream_unreachable")
    a_request(3, attempts=2)
    url = reverse("admin:inference_trace_changelist")

    for outcome, found in (("good", "13"), ("bad", "2"), ("retried", "3")):
        html = admin_client.get(url, {"outcome": outcome}).content.decode()
        assert "".join(number for number in "123" if f'title="req_{number}"' in html) == found


def test_neither_list_nor_page_of_a_job_shows_what_was_said(admin_client: Client) -> None:
    job = Job.objects.create(
        owner="gw-1", request={"prompt": "private words"}, result={"text": "private answer"}, model="gpt-test"
    )

    for url in (reverse("admin:inference_job_changelist"), reverse("admin:inference_job_change", args=[job.pk])):
        response = admin_client.get(url)
        assert response.status_code == 200
        assert "private" not in response.content.decode()


@pytest.mark.parametrize("name", ["trace", "job"])
def test_records_are_not_added_by_hand(admin_client: Client, name: str) -> None:
    assert admin_client.get(reverse(f"admin:inference_{name}_add")).status_code == 403
