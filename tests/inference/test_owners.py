"""Rows that name a client key: who sees them, and how the key is called."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import AnonymousUser, User

from inference import owners
from inference.models import Job
from routing.models import ClientKey, Team, TeamMember

pytestmark = pytest.mark.django_db


@pytest.fixture
def jobs() -> list[Job]:
    team = Team.objects.create(name="research")
    ClientKey.objects.create(name="theirs", prefix="gw-1", team=team)
    ClientKey.objects.create(name="nobody's", prefix="gw-2")
    TeamMember.objects.create(team=team, user=User.objects.create_user("ada"))
    return [Job.objects.create(owner=owner, request={}, model="m") for owner in ("gw-1", "gw-2", "gw-gone")]


def seen_by(user: object) -> set[str]:
    return set(owners.visible(Job.objects.all(), user).values_list("owner", flat=True))


def test_members_see_what_the_keys_of_their_teams_asked_for(jobs: list[Job]) -> None:
    assert seen_by(User.objects.get(username="ada")) == {"gw-1"}
    assert seen_by(User(is_superuser=True)) == {"gw-1", "gw-2", "gw-gone"}
    assert seen_by(AnonymousUser()) == set()


def test_a_key_that_is_gone_has_no_name(jobs: list[Job]) -> None:
    assert owners.names(jobs) == {"gw-1": "theirs", "gw-2": "nobody's"}
