from __future__ import annotations

import json
import re
import shlex
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from inference.models import Trace, TraceContent, UsageRecord
from routing import issuing
from routing.teams import Team, TeamMember
from tests.callers import caller
from tests.inference.ledger import record

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


def test_the_twin_over_rest_is_the_same_search(admin_client: Client) -> None:
    a_request("good")
    a_request("bad", status=502)
    a_request("early", minutes_ago=400, status=502)
    (_rest, told), *_others = admin_client.get(LIST, {"outcome": "failed", "hours": "6"}).context["twins"]
    answer = caller("admin").get(shlex.split(told)[1].removeprefix("$GATEWAY"))
    assert [row["request_id"] for row in answer.json()["results"]] == ["req_bad"]


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


def test_an_answer_that_was_given_again_says_where_it_came_from_and_what_it_saved(admin_client: Client) -> None:
    saved = {"cost": "0.000019", "input_tokens": 5, "output_tokens": 7}
    cached = {"provider_id": "openrouter", "model_id": "gemini", "reason": "answered_from_cache", "status": None}
    again: dict[str, Any] = {"provider_id": "", "model_id": "", "attempts": 0, "cost": 0, "upstream_ms": 0}
    a_request("hit", policy="writer", attempts_log=json.dumps([{**cached, "started": 1.0, "saved": saved}]), **again)
    a_request("replay", **again)
    html = admin_client.get(LIST).content.decode()
    assert "the cache" in html
    assert "an earlier answer" in html
    told = admin_client.get(page_of("hit"), {"tab": "cost"}).content.decode()
    assert "openrouter/gemini had made it of 5 tokens in and 7 out, for 0.000019 USD." in told


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


def test_the_playground_is_offered_to_those_who_may_ask_there(client: Client, django_user_model: Any) -> None:
    user = django_user_model.objects.create_user("vera", is_staff=True)
    user.user_permissions.add(*Permission.objects.filter(codename__in=("view_trace", "see_every_team")))
    client.force_login(user)
    a_request("one")
    assert "Open in playground" not in client.get(page_of("one")).content.decode()
    user.user_permissions.add(Permission.objects.get(codename="use_playground"))
    assert "Open in playground" in client.get(page_of("one")).content.decode()


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


def test_filters_in_use_are_chips_that_go_one_by_one(admin_client: Client) -> None:
    a_request("good")
    html = admin_client.get(LIST, {"outcome": "answered", "hours": "24", "nonsense": "1"}).content.decode()
    assert 'href="?outcome=answered"' in html
    assert 'href="?hours=24"' in html
    assert "nonsense" not in html


def test_the_chart_counts_what_is_listed_or_is_not_there(admin_client: Client) -> None:
    team = Team.objects.create(name="search")
    record(3, team_id=team.pk)
    record(2, status=502, error_code="upstream_unreachable", error_owner="provider")
    record(1, status=499, error_code="client_closed_request", tags=",a,")
    record(1, error_code="stream_broken")
    record(1, side="probe")

    def bars(**asked: Any) -> tuple[int, int] | None:
        page = admin_client.get(LIST, asked)
        counts = page.context["counts"]
        if counts is not None:
            assert counts.answered + counts.failed == len(page.context["rows"])
        return None if counts is None else (counts.answered, counts.failed)

    assert bars() == (3, 4)
    assert bars(hours="1") == (3, 4)
    assert bars(side="probe") == (1, 0)
    assert bars(side="all") == (4, 4)
    assert bars(outcome="failed") == (0, 4)
    assert bars(outcome="cut") == (0, 1)
    assert bars(team=team.pk) == (3, 0)
    assert bars(tag="a") == (0, 1)
    assert bars(error="upstream_unreachable", owner="provider") == (0, 2)
    assert bars(served_by="up/gpt-test", outcome="answered") == (3, 0)
    for unknown in ({"model": "gpt-test"}, {"slower_than_ms": "1"}, {"outcome": "rescued"}, {"error": "x", "tag": "a"}):
        assert bars(**unknown) is None, unknown
    assert "would mislead" in admin_client.get(LIST, {"model": "gpt-test"}).content.decode()


def test_neighbours_are_of_the_search_that_led_here(admin_client: Client) -> None:
    for number, status in enumerate((200, 502, 200, 502, 200)):
        a_request(str(number), 10 - number, status=status)
    page = admin_client.get(page_of("2"))
    assert (page.context["newer"].split("/")[-3], page.context["older"].split("/")[-3]) == ("req_3", "req_1")
    among_failed = admin_client.get(page_of("1"), {"outcome": "failed"})
    assert "req_3" in among_failed.context["newer"]
    assert among_failed.context["older"] == ""
    assert among_failed.context["above"][0][1].endswith("?outcome=failed")


def test_the_cost_is_reckoned_before_ones_eyes(admin_client: Client) -> None:
    a_request("1")
    prices = {"input": "2", "output": "8", "cached_input": "0.5", "source": "list", "note": "list price"}
    line: dict[str, Any] = {
        "request_id": "req_1", "at": timezone.now(), "operation": "chat", "requested_model": "writer", "status": 200,
        "input_tokens": 1000, "cached_tokens": 400, "output_tokens": 100, "prices": json.dumps(prices),
    }  # fmt: skip
    UsageRecord.objects.create(**line, cost=Decimal("0.0022"))
    html = admin_client.get(page_of("1"), {"tab": "cost"}).content.decode()
    for figure in ("0.0012", "0.0002", "0.0008", "0.0022"):
        assert f">{figure}" in html
    assert "do not come to" not in html
    UsageRecord.objects.create(**line | {"attempt": 1}, cost=Decimal("0.5"))
    assert "do not come to" in admin_client.get(page_of("1"), {"tab": "cost"}).content.decode()


def test_a_row_unfolds_and_the_list_renews_itself_by_fragments(admin_client: Client) -> None:
    a_request("1")
    part = {"X-Fragment": "1"}
    fall = admin_client.get(page_of("1"), headers=part)
    assert fall.templates[0].name == "admin/traces/glance.html"
    rows = admin_client.get(LIST, {"view": "all"}, headers=part).content.decode()
    assert "req_1" in rows
    assert "<html" not in rows
    assert "data-live=" not in admin_client.get(LIST).content.decode()
    assert "data-live=" in admin_client.get(LIST, {"live": "1"}).content.decode()


def test_what_was_kept_is_shown_as_talk_and_as_curl(admin_client: Client) -> None:
    a_request("1", stream=True)
    asked = "system: be brief\nuser: what's <up>?"
    TraceContent.objects.create(request_id="req_1", at=timezone.now(), request=asked, answer="much")
    page = admin_client.get(page_of("1"), {"tab": "content"})
    assert page.context["turns"] == [("system", "be brief"), ("user", "what's <up>?")]
    command = shlex.split(page.context["curl"].replace("\\\n", ""))
    body = json.loads(command[-1])
    assert body["messages"][1] == {"role": "user", "content": "what's <up>?"}
    assert body["stream"] is True


def test_the_command_lists_what_the_page_does(capsys: pytest.CaptureFixture[str]) -> None:
    a_request("good")
    a_request("bad", status=502, error_code="upstream_unreachable")
    call_command("traces", "--outcome", "failed", "--json")
    assert [row["request_id"] for row in json.loads(capsys.readouterr().out)["results"]] == ["req_bad"]
    call_command("traces", "--outcome", "failed")
    assert "req_bad" in capsys.readouterr().out
    with pytest.raises(CommandError, match="--status"):
        call_command("traces", "--status", "7")


def test_a_refused_request_says_why_and_leads_to_what_bounds_its_key(admin_client: Client) -> None:
    key, _ = issuing.issue("crawler", ["generate"])
    refused = {"status": 429, "error_code": "insufficient_quota", "error_owner": "policy", "attempts": 0}
    nobody = {"provider_id": "", "model_id": "", "cost": None, "input_tokens": 0, "output_tokens": 0}
    record(request_id="req_spent", client_key_id=key.pk, client_key_prefix=key.prefix, **refused, **nobody)

    page = admin_client.get(page_of("spent")).content.decode()
    booked = admin_client.get(page_of("spent"), {"tab": "cost"}).content.decode()

    assert "more than was left of a budget" in page
    assert reverse("admin:routing_clientkey_overview", args=[key.pk]) in page
    assert "no model was asked" in booked


def test_the_list_names_keys_as_people_do(admin_client: Client) -> None:
    key, _ = issuing.issue("crawler", ["generate"])
    a_request("named", client_key_prefix=key.prefix)
    a_request("of_a_deleted_key", client_key_prefix="gw-gone")

    page = admin_client.get(LIST).content.decode()

    assert ">crawler</a>" in page
    assert ">gw-gone</a>" in page


def test_what_a_provider_refused_is_not_called_a_refusal_of_ours(admin_client: Client) -> None:
    a_request("theirs", status=429, error_code="insufficient_quota", error_owner="provider")

    assert "Refused before" not in admin_client.get(page_of("theirs")).content.decode()
