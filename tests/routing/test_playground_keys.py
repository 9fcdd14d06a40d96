import time

import pytest
from django.contrib.auth.models import Group, User
from django.core.exceptions import ValidationError

from gateway_project import roles
from providers.models import AuditEntry
from routing import building, issuing, permits, playground_keys
from routing.models import ClientKey, Team, TeamMember
from routing.playground_keys import OWN, NotYours

pytestmark = pytest.mark.django_db


@pytest.fixture
def keys():
    teams = [Team.objects.create(name=name) for name in ("research", "sales")]
    return {str(team): issuing.issue(str(team), ["generate"], team=team)[0] for team in [*teams, None]}


def person(name, *groups, team=None):
    roles.make()
    made = User.objects.create_user(name, is_staff=True)
    made.groups.set(Group.objects.filter(name__in=groups))
    if team is not None:
        TeamMember.objects.create(team=Team.objects.get(name=team), user=made)
    return User.objects.get(pk=made.pk)


def names(user):
    return {key.name for key in playground_keys.usable(user)}


@pytest.mark.parametrize("role", ["operator", "keys", "admin"])
def test_those_who_run_the_gateway_ask_with_every_key_and_in_their_own_name(keys, role):
    who = person("ada", role)
    assert names(who) == {"research", "sales", "None"}
    assert playground_keys.may_ask_in_own_name(who)


@pytest.mark.parametrize("role", ["viewer", "finance"])
def test_those_who_look_spend_nobodys_money(keys, role):
    who = person("ada", role)
    assert names(who) == set()
    for prefix in (OWN, keys["research"].prefix):
        with pytest.raises(NotYours):
            playground_keys.permit(who, prefix)


@pytest.mark.parametrize("groups", [(), ("viewer",)])
def test_a_member_asks_with_the_keys_of_their_team_alone_whatever_else_they_see(keys, groups):
    who = person("mia", *groups, team="research")
    assert names(who) == {"research"}
    assert playground_keys.permit(who, keys["research"].prefix)[1].person == "mia"
    for prefix in (OWN, keys["sales"].prefix, keys["None"].prefix, "gw-nothing"):
        with pytest.raises(NotYours):
            playground_keys.permit(who, prefix)


def test_a_persons_own_key_is_made_once_and_is_nobody_elses(keys):
    ada, bob = person("ada", "operator"), person("bob", "admin")
    assert playground_keys.own(ada) is None
    text, said, key = playground_keys.permit(ada, OWN)
    assert playground_keys.permit(ada, OWN)[2] == key
    assert (key.name, key.scopes, key.tags, key.person) == ("Playground of ada", ["generate"], ["playground"], ada)
    assert "Playground of ada" not in names(bob)
    with pytest.raises(NotYours):
        playground_keys.permit(bob, key.prefix)
    assert permits.read(text, building.build().peppers, now=time.time()) == said
    assert AuditEntry.objects.filter(target_id=key.audit_name()).count() == 1


def test_nobody_gets_a_secret_for_a_persons_own_key(keys):
    _, _, key = playground_keys.permit(person("ada", "operator"), OWN)
    with pytest.raises(ValidationError, match="nobody has its secret"):
        issuing.rotate(key)


def test_a_person_who_goes_leaves_the_books_of_their_key(keys):
    ada = person("ada", "operator")
    _, _, key = playground_keys.permit(ada, OWN)
    ada.delete()
    assert ClientKey.objects.get(pk=key.pk).person is None
