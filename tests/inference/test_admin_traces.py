from __future__ import annotations

import json
import re
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from inference.models import Trace, TraceContent, UsageRecord
from routing.teams import Team, TeamMember

pytestmark = pytest.mark.django_db

LIST = reverse("admin:inference_trace_changelist")


def a_request(name: str, minutes_ago: float = 1, **fields: Any) -> Trace:
    told = {
        "operation": "chat",
        "requested_model": "writer",
        "provider_id": "openrouter",
        "model_id": "gemini",
        "status": 200,
        "attempts": 1,
        "duration_ms": 120.0,
        "upstream_ms": 100.0,
        "overhead_ms": 2.0,
        "at": timezone.now() - timedelta(minutes=minutes_ago),
        **fields,
    }
    return Trace.objects.create(request_id=f"req_{name}", **told)


def page_of(name: str) -> str:
    return reverse("admin:inference_trace_change", args=[f"req_{name}"])


def listed(client: Client, **words: Any) -> list[str]:
    return re.findall(r'title="req_(\w+)"', client.get(LIST, words).content.decode())


def test_the_list_never_counts_and_asks_little(admin_client: Client) -> None:
    for number in range(60):
        a_request(str(number))
    admin_client.get(LIST)
    with CaptureQueriesContext(connection) as queries:
        assert admin_client.get(LIST).status_code == 200
    assert not [query["sql"] for query in queries if "COUNT(" in query["sql"].upper()]
    assert len([query for query in queries if "inference_trace" in query["sql"]]) <= 10


def test_a_page_leads_to_the_older_ones_and_back_to_the_newest(admin_client: Client) -> None:
    for number in range(60):
        a_request(str(number), number)
    first = admin_client.get(LIST)
    assert len(re.findall('title="req_', first.content.decode())) == 50
    second = admin_client.get(first.context["older"]).content.decode()
    assert re.findall(r'title="req_(\w+)"', second) == [str(number) for number in range(50, 60)]
    assert "Newest" in second


def test_filters_stand_in_the_address(admin_client: Client) -> None:
    a_request("good")
    a_request("bad", status=502, error_code="upstream_unreachable")
    a_request("old", 90)
    assert listed(admin_client, outcome="failed") == listed(admin_client, outcome="bad") == ["bad"]
    assert listed(admin_client, hours="1", outcome="answered") == ["good"]
    assert listed(admin_client, id="req_old") == ["old"]


@pytest.mark.parametrize("words", [{"status": "7"}, {"since": "yesterday"}, {"slower_than_ms": "-1"}, {"owner": "x"}])
def test_a_filter_that_makes_no_sense_is_told_at_its_field(admin_client: Client, words: dict[str, str]) -> None:
    a_request("any")
    answer = admin_client.get(LIST, words)
    assert answer.status_code == 200
    assert set(answer.context["form"].errors) == set(words)
    assert 'role="alert"' in answer.content.decode()


def test_an_address_of_a_page_that_never_was_says_so(admin_client: Client) -> None:
    assert "leads to no page" in admin_client.get(LIST, {"cursor": "x"}).content.decode()


def test_a_page_for_every_tab_of_a_request_with_mishaps(admin_client: Client) -> None:
    at = timezone.now()
    log = [
        {"provider_id": "a", "model_id": "m", "reason": "target", "status": 503, "started": at.timestamp(),
         "code": "upstream_error", "duration_ms": 40.0, "key_id": 1},
        {"provider_id": "b", "model_id": "m", "reason": "breaker", "status": None, "started": at.timestamp() + 0.04},
    ]  # fmt: skip
    a_request("1", at=at, attempts=2, attempts_log=json.dumps(log), session_id="s-1", tags=",a,b,", trace_id="order-7")
    UsageRecord.objects.create(
        request_id="req_1", at=at, operation="chat", requested_model="writer", status=200, cost=Decimal("0.0034")
    )
    shown = {tab: admin_client.get(page_of("1"), {"tab": tab}).content.decode() for tab in
             ("summary", "timeline", "decision", "cost", "content", "headers")}  # fmt: skip
    assert "order-7" in shown["summary"]
    assert "?session=s-1" in shown["summary"]
    assert "?tag=b" in shown["summary"]
    assert "upstream_error" in shown["timeline"]
    assert "not asked" in shown["timeline"]
    assert "No explanation is kept" in shown["decision"]
    assert "0.0034" in shown["cost"]
    assert "was not kept" in shown["content"]
    assert "x-gateway-request-id" in shown["headers"]
    assert all(f"{reverse('admin:explain')}?trace=req_1" in html for html in shown.values())


def test_a_request_is_found_by_its_senders_name_and_a_strange_one_is_not(admin_client: Client) -> None:
    a_request("1", trace_id="order-7")
    assert admin_client.get(reverse("admin:inference_trace_change", args=["order-7"])).status_code == 200
    assert admin_client.get(reverse("admin:inference_trace_change", args=["order-8"])).status_code == 404


@pytest.fixture
def member(client: Client, django_user_model: Any) -> Client:
    """May look at requests, and sees one team's."""
    user = django_user_model.objects.create_user("ada", password="x", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_trace"))
    TeamMember.objects.create(team=Team.objects.create(pk=1, name="research"), user=user)
    client.force_login(user)
    return client


def test_a_member_of_a_team_sees_its_requests_and_no_others(member: Client) -> None:
    a_request("ours", team_id=1)
    a_request("theirs", team_id=2)
    a_request("nobodys")
    assert listed(member) == ["ours"]
    assert member.get(page_of("ours")).status_code == 200
    assert member.get(page_of("theirs")).status_code == 404


def test_what_was_said_is_for_those_who_may_read_it(member: Client, admin_client: Client) -> None:
    a_request("1", team_id=1)
    TraceContent.objects.create(request_id="req_1", at=timezone.now(), request="<b>a plan</b>", answer="yes")
    told = member.get(page_of("1"), {"tab": "content"}).content.decode()
    assert "a plan" not in told
    assert "may not read" in told
    assert "&lt;b&gt;a plan&lt;/b&gt;" in admin_client.get(page_of("1"), {"tab": "content"}).content.decode()


def test_who_may_not_look_at_requests_does_not(client: Client, django_user_model: Any) -> None:
    client.force_login(django_user_model.objects.create_user("eve", password="x", is_staff=True))
    a_request("1")
    assert (client.get(LIST).status_code, client.get(page_of("1")).status_code) == (403, 403)


def test_without_any_request_the_page_teaches(admin_client: Client) -> None:
    assert "No requests yet" in admin_client.get(LIST).content.decode()
    assert "No request of the hours" in admin_client.get(LIST, {"key": "gw-x"}).content.decode()
