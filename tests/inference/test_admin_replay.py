"""The page that replays a policy."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.urls import reverse

from inference import admin_replay
from tests.inference.test_replay_policy import policy, row  # noqa: F401

pytestmark = pytest.mark.django_db


@pytest.fixture
def page(client):
    client.force_login(User.objects.create_superuser("ada"))

    def ask(**told):
        url = reverse("admin:replay")
        reply = client.post(url, {"policy": "writer", "span": "7d", **told}) if told else client.get(url)
        return reply.status_code, " ".join(reply.content.decode().split())

    return ask


def test_it_says_what_it_is_for_before_anything_is_asked(page, policy):  # noqa: F811
    status, shown = page()
    assert status == 200
    assert "Try a policy on yesterday" in shown
    assert "manage.py replay_policy" in shown


def test_a_draft_is_shown_beside_the_active_version_and_what_happened(page, policy):  # noqa: F811
    row()
    _, shown = page(document="targets: [cheap]")
    for part in ("1 of 1 requests (100 %) would go elsewhere", "90.0% cheaper", "up/dear", "up/cheap", "r0"):
        assert part in shown


def test_the_active_version_against_itself_makes_no_difference(page, policy):  # noqa: F811
    row()
    assert "1 requests, no difference" in page(document="")[1]


def test_what_is_wrong_with_a_draft_stands_at_its_field(page, policy):  # noqa: F811
    assert "strategy: &#x27;luck&#x27; is none of" in page(document="strategy: luck")[1]
    assert "neither YAML nor JSON" in page(document="{")[1]


def test_what_cannot_be_replayed_is_said(page, policy):  # noqa: F811
    assert "has no version 9" in page(version="9")[1]


def test_it_looks_at_the_newest_only_and_says_so(page, policy, monkeypatch):  # noqa: F811
    monkeypatch.setattr(admin_replay, "MOST_REQUESTS", 1)
    row()
    row(1)
    assert "Only the newest 1 requests" in page(document="targets: [cheap]")[1]


def test_it_needs_the_right_to_see_requests(client):
    client.force_login(User.objects.create_user("bob", is_staff=True))
    assert client.get(reverse("admin:replay")).status_code == 403
