import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser, Permission

from routing import visibility
from routing.models import ClientKey, Team, TeamMember
from routing.teams import MANAGES

pytestmark = pytest.mark.django_db


@pytest.fixture
def teams():
    return [Team.objects.create(name=name) for name in ("research", "sales")]


@pytest.fixture
def keys(teams):
    return [
        ClientKey.objects.create(name=str(team), prefix=f"gw-{number}", team=team)
        for number, team in enumerate([*teams, None])
    ]


def user(name="ada", **fields):
    return get_user_model().objects.create_user(name, password=None, **fields)


def seen_by(who):
    return {key.name for key in visibility.visible(ClientKey.objects.all(), who)}


def test_a_user_of_no_team_sees_nothing(keys):
    assert seen_by(user()) == set()


def test_nobody_sees_nothing(keys):
    assert seen_by(AnonymousUser()) == seen_by(None) == set()


def test_a_member_sees_what_belongs_to_the_teams_of_theirs(teams, keys):
    member = user()
    TeamMember.objects.create(team=teams[0], user=member)
    assert seen_by(member) == {"research"}


def test_whoever_may_see_every_team_sees_what_belongs_to_none_too(keys):
    viewer = user()
    viewer.user_permissions.add(Permission.objects.get(codename="see_every_team"))
    assert seen_by(viewer) == {"research", "sales", "None"}


def test_a_user_who_was_switched_off_sees_nothing(teams, keys):
    gone = user(is_active=False, is_superuser=True)
    TeamMember.objects.create(team=teams[0], user=gone)
    assert seen_by(gone) == set()


def test_a_row_may_belong_by_several_fields(teams, keys):
    member = user()
    TeamMember.objects.create(team=teams[1], user=member)
    either = visibility.visible(ClientKey.objects.all(), member, ("team_id", "team__members__team_id"))
    assert [key.name for key in either] == ["sales"]


def test_only_the_managers_of_a_team_manage_its_keys(teams, keys):
    member = user()
    TeamMember.objects.create(team=teams[0], user=member)
    TeamMember.objects.create(team=teams[1], user=member, role=MANAGES)
    assert [key.name for key in visibility.managed(ClientKey.objects.all(), member)] == ["sales"]
