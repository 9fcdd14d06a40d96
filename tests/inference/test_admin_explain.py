"""The page that explains a route: what the API says, for people, without JavaScript and without anything happening."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from html import unescape
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from inference.models import DecisionRecord, Trace
from routing import issuing, snapshot
from routing.models import Override, Policy, Team
from routing.teams import TeamMember
from tests.inference import workers

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _registry(db: None) -> Iterator[None]:
    workers.fresh_registry()
    workers.add_model(workers.add_provider("first", "fake", priority=1), "words")
    workers.add_model(workers.add_provider("second", "fake", priority=2), "words", capabilities=["chat", "vision"])
    Policy.objects.create(name="writer", kind="node", document={"targets": ["words"]})
    yield
    snapshot.replace(None)


def text(response: Any) -> str:
    assert response.status_code == 200
    return unescape(response.content.decode())


def url() -> str:
    return reverse("admin:explain")


def test_a_link_to_a_policy_explains_it(admin_client: Client) -> None:
    html = text(admin_client.get(url(), {"policy": "writer"}))
    assert "first/words: first by priority" in html
    assert "writer · version 1" in html
    assert "Its provider's priority is 2, the first one's 1" in html


def test_a_provider_without_a_readable_key_is_no_matter_of_waiting(admin_client: Client) -> None:
    keyless = workers.add_provider("keyless", "openai", priority=0)
    keyless.api_keys.create(secret="env:NOT_SET_ANYWHERE")
    workers.add_model(keyless, "words")
    html = text(admin_client.get(url(), {"policy": "writer"}))
    assert "store one, or set the variable or file that it refers to" in html
    assert "passes by itself" not in html
    assert f'href="{reverse("admin:providers_provider_change", args=[keyless.pk])}?tab=keys">keyless</a>' in html


def test_a_prompt_and_wishes_are_taken_and_shown_again(admin_client: Client) -> None:
    html = text(admin_client.post(url(), {"name": "writer", "said": "Hello <b>", "require_vision": "on"}))
    assert "second/words: the only one that may serve" in html
    assert "missing_vision" in html
    assert "Hello <b>" in html
    assert "Hello <b>" not in admin_client.post(url(), {"name": "writer", "said": "Hello <b>"}).content.decode()


def test_a_whole_request_is_pasted(admin_client: Client) -> None:
    request = {"model": "words", "messages": [{"role": "user", "content": "x"}], "max_tokens": 77}
    assert "77 out" in text(admin_client.post(url(), {"said": json.dumps(request)}))
    assert "begins like JSON and is none" in text(admin_client.post(url(), {"said": "{oops"}))


def test_a_button_asks_what_would_choose_a_model(admin_client: Client) -> None:
    html = text(admin_client.post(url(), {"name": "writer", "wanted": "typed/before", "want": "second/words"}))
    assert "second/words may serve, and first/words comes first by priority." in html
    assert "Send preferred_model 'second/words'." in html
    assert "Lower the priority number of the provider second from 2 to 0." in html


def test_what_is_wrong_is_a_sentence_at_the_top(admin_client: Client) -> None:
    assert "max_cost" in text(admin_client.post(url(), {"name": "words", "max_cost": "dear"}))
    html = text(admin_client.get(url(), {"model": "wards"}))
    assert "404 model_not_found" in html
    assert 'model=words">words</a>' in html


def test_the_twin_says_the_same_over_rest(admin_client: Client) -> None:
    html = text(admin_client.post(url(), {"name": "writer", "max_cost": "0.5"}))
    assert """-d '{"model": "writer", "max_cost": "0.5"}'""" in html
    assert "manage.py explain_route --file -" in html


def test_a_past_request_is_shown_as_it_was_and_as_it_would_be(admin_client: Client) -> None:
    html = text(admin_client.post(url(), {"name": "words"}))
    document = json.loads(html[html.index('gw-code">{') + len('gw-code">') : html.index("</pre></details>")])
    del document["request"], document["estimate"], document["made_at"]
    document["candidates"] = document["candidates"][1:]
    document["reason"] = "second/words: as it was then"
    DecisionRecord.objects.create(digest="d" * 32, body=json.dumps(document), at=datetime.now(UTC))
    Trace.objects.create(
        request_id="req_1",
        at=datetime.now(UTC),
        operation="chat",
        requested_model="words",
        provider_id="second",
        model_id="words",
        status=200,
        decision="d" * 32,
        asked='{"prompt_bytes":9}',
        attempts_log='[{"provider_id":"first","model_id":"words","reason":"target","status":502,'
        '"started":1800000000.0,"code":"upstream_failed"}]',
    )
    html = text(admin_client.get(url(), {"trace": "req_1"}))
    assert "second/words: as it was then" in html
    assert "502 upstream_failed" in html
    assert "another choice" in html
    assert "first/words: first by priority" in html
    address = reverse("admin:inference_trace_change", args=["req_1"])
    assert f"{address}?tab=decision" in text(admin_client.get(reverse("admin:inference_trace_changelist")))
    detail = text(admin_client.get(address, {"tab": "decision"}))
    assert "second/words: as it was then" in detail
    assert "Explain again today" in detail


def test_a_request_that_is_not_recorded_says_so(admin_client: Client) -> None:
    assert "No request with the id 'req_0' is recorded." in text(admin_client.get(url(), {"trace": "req_0"}))


def test_an_override_is_named(admin_client: Client) -> None:
    Override.objects.create(policy=Policy.objects.get(), target="second/words")
    html = text(admin_client.get(url(), {"policy": "writer"}))
    assert "Overridden by" in html
    assert "second/words: an override puts it first" in html


def test_an_empty_page_teaches(admin_client: Client) -> None:
    assert "Every decision can be asked for" in text(admin_client.get(url()))


def test_it_needs_the_right_to_see_models_and_for_a_past_request_to_see_requests(client: Client) -> None:
    user = User.objects.create_user("eve", password="x", is_staff=True)
    client.force_login(user)
    assert client.get(url()).status_code == 403
    user.user_permissions.add(Permission.objects.get(codename="view_providermodel"))
    assert client.get(url()).status_code == 200
    assert client.get(url(), {"trace": "req_1"}).status_code == 403
    assert Client().get(url()).status_code == 302


def test_only_keys_that_the_user_may_see_are_offered(client: Client) -> None:
    mine, theirs = Team.objects.create(name="mine"), Team.objects.create(name="theirs")
    for team in (mine, theirs):
        issuing.issue(f"key of {team.name}", ["generate"], team=team)
    user = User.objects.create_user("eve", password="x", is_staff=True)
    TeamMember.objects.create(team=mine, user=user)
    user.user_permissions.add(*Permission.objects.filter(codename__in=("view_providermodel", "view_clientkey")))
    client.force_login(user)
    page = text(client.get(url()))
    assert "key of mine" in page
    assert "key of theirs" not in page
