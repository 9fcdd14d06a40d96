from __future__ import annotations

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from inference.models import Job

pytestmark = pytest.mark.django_db


def test_the_list_of_jobs_never_counts(admin_client: Client) -> None:
    Job.objects.create(owner="gw-1", request={"prompt": "private words"}, model="gpt-test")

    with CaptureQueriesContext(
        connection,
    ) as queries:
        response = admin_client.get(reverse("admin:inference_job_changelist"))

    assert response.status_code == 200
    assert not [query["sql"] for query in queries if "COUNT(" in query["sql"].upper()]
    assert "9999999999" not in response.content.decode()


def test_neither_list_nor_page_of_a_job_shows_what_was_said(admin_client: Client) -> None:
    job = Job.objects.create(
        owner="gw-1",
        state="failed",
        request={"prompt": "private words"},
        result={"text": "private answer"},
        error={"code": "OUT_OF_LUCK", "message": "cannot say: private words", "details": {"status": 400}},
        model="gpt-test",
    )

    for url in (reverse("admin:inference_job_changelist"), reverse("admin:inference_job_change", args=[job.pk])):
        response = admin_client.get(url)
        assert response.status_code == 200
        assert "private" not in response.content.decode()
        assert "OUT_OF_LUCK (status 400)" in response.content.decode()


@pytest.mark.parametrize("name", ["trace", "job"])
def test_records_are_not_added_by_hand(admin_client: Client, name: str) -> None:
    assert admin_client.get(reverse(f"admin:inference_{name}_add")).status_code == 403
