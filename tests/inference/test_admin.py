from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from inference.models import Job
from providers.models import AuditEntry
from routing import snapshot
from tests.callers import caller
from tests.inference import workers

pytestmark = pytest.mark.django_db

LIST = reverse("admin:inference_job_changelist")


@pytest.fixture
def demo_registry() -> Iterator[str]:
    """A model that answers, and the prefix of a key that may ask it."""
    workers.fresh_registry()
    workers.add_model(workers.add_provider("echo", "fake"), "words")
    yield workers.client_key("generate")[0]
    snapshot.replace(None)


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


def test_jobs_are_found_by_state_key_and_model_page_by_page(admin_client: Client) -> None:
    for number in range(55):
        Job.objects.create(owner="gw-1", request={}, model=f"m{number % 2}", state="failed" if number % 5 else "queued")
    first = admin_client.get(LIST)
    assert (len(first.context["rows"]), len(admin_client.get(first.context["older"]).context["rows"])) == (50, 5)
    assert len(admin_client.get(LIST, {"state": "queued"}).context["rows"]) == 11
    narrowed = admin_client.get(LIST, {"model": "m1", "key": "gw-1"})
    assert len(narrowed.context["rows"]) == 27
    rest, command = (shlex.split(text) for _, text in narrowed.context["twins"])
    assert caller("admin").get(rest[1].removeprefix("$GATEWAY")).json()["results"][0]["model"] == "m1"
    assert command[2:] == ["--key", "gw-1", "--model", "m1"]
    assert admin_client.get(LIST, {"key": "gw-2"}).context["rows"] == []
    assert "leads to no page" in admin_client.get(LIST, {"cursor": "x"}).content.decode()


def test_a_waiting_job_is_cancelled_and_one_that_is_over_asked_again(admin_client: Client, demo_registry: str) -> None:
    job = Job.objects.create(
        owner=demo_registry, request={"prompt_content": "hi", "config": {"model_identifier": "words"}}, model="words"
    )
    cancel, retry = (reverse(f"admin:inference_job_{what}", args=[job.pk]) for what in ("cancel", "retry"))
    assert "not over yet" in admin_client.post(retry, follow=True).content.decode()
    assert "is cancelled" in admin_client.post(cancel, follow=True).content.decode()
    assert "asks the same" in admin_client.post(retry, follow=True).content.decode()
    assert Job.objects.filter(state="queued", request__prompt_content="hi").count() == 1
    assert [entry.action for entry in AuditEntry.objects.filter(target_type="job").order_by("id")] == [
        "cancel",
        "retry",
    ]
    assert admin_client.get(cancel).status_code == 405
    call_command("jobs", "--cancel", str(Job.objects.get(state="queued").pk))
    assert not Job.objects.exclude(state="cancelled").exists()


def test_what_a_job_said_is_for_those_who_may_read_it(admin_client: Client, django_user_model: Any) -> None:
    job = Job.objects.create(
        owner="gw-1", state="succeeded", request={"prompt": "private words"}, result={"text": "<b>"}, model="m"
    )
    page = reverse("admin:inference_job_change", args=[job.pk]) + "?tab=content"
    shown = admin_client.get(page).content.decode()
    assert "private words" in shown
    assert "&lt;b&gt;" in shown
    viewer = django_user_model.objects.create_user("vic", is_staff=True)
    viewer.user_permissions.add(*Permission.objects.filter(codename__in=("view_job", "see_every_team")))
    client = Client()
    client.force_login(viewer)
    assert "may not read" in client.get(page).content.decode()
    assert "private words" not in client.get(page).content.decode()
    assert client.post(reverse("admin:inference_job_cancel", args=[job.pk])).status_code == 403
