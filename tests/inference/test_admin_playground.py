"""The playground's own views: who is let in with which key, what may be asked, and what is told of what was asked."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from gateway_project import roles
from inference import playground_looks
from inference.models import DecisionRecord, Trace, TraceContent
from providers.models import Provider
from providers.secrets import Secret
from routing import building, issuing, permits, snapshot
from routing.models import ClientKey, Policy, Team, TeamMember
from tests.inference import workers

pytestmark = pytest.mark.django_db

PAGE = "admin:playground"


@pytest.fixture(autouse=True)
def _registry(db: None) -> Iterator[None]:
    workers.fresh_registry()
    near = workers.add_provider("near", "fake", priority=1)
    workers.add_model(near, "words", capabilities=["chat"])
    workers.add_model(near, "eyes", capabilities=["chat", "vision"])
    Policy.objects.create(name="writer", kind="node", document={"targets": ["words"]})
    yield
    snapshot.replace(None)


def somebody(name: str, *groups: str, team: Team | None = None) -> Client:
    roles.make()
    user = User.objects.create_user(name, is_staff=True)
    user.groups.set(Group.objects.filter(name__in=groups))
    if team is not None:
        TeamMember.objects.create(team=team, user=user)
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def operator() -> Client:
    return somebody("ada", "operator")


@pytest.fixture
def team() -> Team:
    return Team.objects.create(name="research")


def config(response: Any) -> dict[str, Any]:
    assert response.status_code == 200
    return response.context["config"]


def asked(person: str, request_id: str = "req_1", **more: Any) -> Trace:
    told = {
        "at": timezone.now(),
        "operation": "chat",
        "status": 200,
        "requested_model": "writer",
        "provider_id": "near",
        "model_id": "words",
        "attempts": 1,
        "input_tokens": 3,
        "output_tokens": 4,
        "cost": "0.000011",
        "tags": f",{','.join(permits.marks_of(person))},",
        **more,
    }
    return Trace.objects.create(request_id=request_id, **told)


def test_the_page_opens_on_a_name_that_can_be_asked_in_ones_own_name(operator: Client) -> None:
    told = config(operator.get(reverse(PAGE)))
    assert (told["own"], told["key"], told["first"]) == (True, "own", "writer")
    assert ClientKey.objects.count() == 0  # looking makes no key


def test_the_page_asks_the_database_little(operator: Client, django_assert_max_num_queries: Any) -> None:
    for number in range(30):
        issuing.issue(f"key {number}", ["generate"])
    operator.get(reverse(PAGE))
    with django_assert_max_num_queries(16):
        operator.get(reverse(PAGE))


def test_without_a_model_or_a_key_the_page_says_what_to_do(operator: Client, team: Team) -> None:
    nobody = somebody("mia", team=team).get(reverse(PAGE))
    assert "There is no client key to ask with yet" in nobody.content.decode()
    Policy.objects.all().delete()
    Provider.objects.all().delete()
    snapshot.replace(None)
    empty = operator.get(reverse(PAGE)).content.decode()
    assert "There is no model to ask yet" in empty
    assert reverse("admin:providers_provider_add") in empty


def test_a_permit_is_for_the_person_and_the_key(operator: Client) -> None:
    told = operator.post(reverse("admin:playground-permit"), {"key": "own"}).json()
    read = permits.read(told["permit"], building.build().peppers, now=time.time())
    assert read.person == "ada"
    assert ClientKey.objects.get(prefix=read.prefix).person.get_username() == "ada"
    again = operator.post(reverse("admin:playground-permit"), {"key": "own"}).json()
    assert again["key"] == told["key"]


def test_a_member_gets_no_permit_for_another_teams_key_nor_sees_its_names(team: Team) -> None:
    own, _ = issuing.issue("own", ["generate"], team=team, allowed_models=["eyes"])
    other, _ = issuing.issue("other", ["generate"], team=Team.objects.create(name="sales"))
    mia = somebody("mia", "viewer", team=team)
    assert [key["prefix"] for key in config(mia.get(reverse(PAGE)))["keyList"]] == [own.prefix]
    for prefix, status in ((own.prefix, 200), (other.prefix, 403), ("own", 403)):
        assert mia.post(reverse("admin:playground-permit"), {"key": prefix}).status_code == status
        assert mia.get(reverse("admin:playground-names"), {"key": prefix}).status_code == status
    names = mia.get(reverse("admin:playground-names"), {"key": own.prefix}).json()
    assert [one["name"] for group in names["groups"] for one in group["names"]] == ["eyes"]


def test_a_permit_takes_the_forms_token(operator: Client) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(User.objects.get(username="ada"))
    assert strict.post(reverse("admin:playground-permit"), {"key": "own"}).status_code == 403
    assert ClientKey.objects.count() == 0


def test_names_are_searched_and_told_with_what_they_cost_and_see(operator: Client) -> None:
    url = reverse("admin:playground-names")
    groups = operator.get(url, {"key": "own"}).json()["groups"]
    assert [(group["title"], [one["name"] for one in group["names"]]) for group in groups] == [
        ("Nodes", ["writer"]),
        ("Models", ["words", "eyes"]),
    ]
    assert operator.get(url, {"key": "own", "name": "eyes"}).json()["name"]["sees"] is True
    assert operator.get(url, {"key": "own", "name": "nothing"}).json()["name"] is None
    assert operator.get(url, {"key": "own", "q": "wri"}).json()["groups"][0]["names"][0]["name"] == "writer"


def test_only_keys_that_let_somebody_in_are_offered(operator: Client) -> None:
    good, _ = issuing.issue("good", ["generate"])
    gone, _ = issuing.issue("gone", ["generate"])
    gone.revoke("lost")
    issuing.issue("late", ["generate"], expires_at=timezone.now())
    found = operator.get(reverse("admin:playground-keys"), {"q": "o"}).json()["keys"]
    assert [key["prefix"] for key in found] == [good.prefix]


def test_the_figures_of_ones_own_requests_are_told_and_of_nobody_elses(operator: Client) -> None:
    asked("ada")
    asked("bob", "req_2")
    url = reverse("admin:playground-told")
    told = operator.get(url, {"request": "req_1"}).json()
    assert (told["served_by"], told["input_tokens"], told["cost"]) == ("near/words", 3, "0.000011\u202fUSD")
    assert told["address"] == reverse("admin:inference_trace_change", args=["req_1"])
    for other in ("req_2", "req_3", "", "a\0b"):
        assert operator.get(url, {"request": other}).status_code == 404
        assert operator.get(reverse("admin:playground-decision"), {"request": other}).status_code == 404


def test_the_reasons_are_told_for_a_narrow_place(operator: Client) -> None:
    body = {
        "reason": "near/words: the only one that may serve <b>",
        "policy": None,
        "strategy": "",
        "confidence": 1.0,
        "notices": [],
        "nearest": [],
        "candidates": [],
        "dropped": [{"route": "near/eyes", "reason": "breaker_open", "detail": "its breaker is open"}],
        "left_out": {"candidates": 0, "dropped": 0},
        "bucket": None,
    }
    DecisionRecord.objects.create(digest="d", body=json.dumps(body), at=timezone.now())
    asked("ada", decision="d")
    html = operator.get(reverse("admin:playground-decision"), {"request": "req_1"}).content.decode()
    assert "the only one that may serve &lt;b&gt;" in html
    assert "breaker_open" in html


def kept(request_id: str, text: str) -> None:
    TraceContent.objects.create(request_id=request_id, at=timezone.now(), request=Secret(text), answer=Secret("so"))


def test_a_trace_whose_prompt_was_kept_fills_the_form_for_those_who_may_read_it(operator: Client) -> None:
    asked("bob")
    kept("req_1", "system: Be short.\nuser: What is\nthis?\nassistant: A test.\nuser: Why?")
    told = config(operator.get(reverse(PAGE), {"trace": "req_1"}))["prefill"]
    assert told["models"] == ["writer"]
    assert [(one["role"], one["content"]) for one in told["messages"]] == [
        ("system", "Be short."),
        ("user", "What is\nthis?"),
        ("assistant", "A test."),
        ("user", "Why?"),
    ]
    keeper = somebody("kim", "keys").get(reverse(PAGE), {"trace": "req_1"})
    hidden = config(keeper)["prefill"]
    assert (hidden["models"], hidden["messages"]) == (["writer"], [])
    assert "What is" not in keeper.content.decode()


def test_a_trace_of_another_team_fills_nothing(team: Team) -> None:
    issuing.issue("own", ["generate"], team=team)
    asked("bob", requested_model="secret-model")
    told = config(somebody("mia", team=team).get(reverse(PAGE), {"trace": "req_1"}))["prefill"]
    assert (told["models"], told["messages"]) == ([], [])


def test_a_text_without_roles_is_one_question() -> None:
    assert playground_looks.turns("Once upon") == [{"role": "user", "content": "Once upon"}]
    assert playground_looks.turns("") == []


def test_no_text_of_a_link_is_read_as_html(operator: Client) -> None:
    html = operator.get(reverse(PAGE), {"model": "</script><script>alert(1)"}).content.decode()
    assert "<script>alert(1)" not in html
