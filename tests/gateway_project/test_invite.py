import re
from io import StringIO

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command

from providers.models import AuditEntry
from routing.models import Team, TeamMember

pytestmark = pytest.mark.django_db


def invite(*arguments):
    out = StringIO()
    call_command("invite", *arguments, "--base-url", "https://gw.example/", stdout=out)
    return out.getvalue()


def test_a_link_lets_somebody_in_once_with_what_they_may(client):
    Team.objects.create(name="research")
    said = invite("marie", "--role", "viewer", "--team", "research:manages", "--email", "marie@example.org")
    link = re.search(r"https://gw\.example(/welcome/\S+/)", said)[1]
    marie = User.objects.get()
    assert (marie.is_staff, marie.is_superuser, marie.email) == (True, False, "marie@example.org")
    assert [group.name for group in marie.groups.all()] == ["viewer"]
    assert TeamMember.objects.get().role == "manages"
    assert client.get(link)["Location"] == "/admin/"
    assert client.get("/admin/routing/clientkey/").status_code == 200
    assert client.get(link).status_code == 410
    assert AuditEntry.objects.filter(actor="command:invite", target_type="user", target_id="marie").exists()


def test_said_again_it_says_what_they_may_now(client):
    invite("ada", "--role", "viewer")
    invite("ada", "--role", "operator")
    assert [group.name for group in User.objects.get().groups.all()] == ["operator"]


def test_a_place_in_a_team_takes_no_role_away():
    Team.objects.create(name="research")
    invite("ada", "--role", "operator")
    invite("ada", "--team", "research")
    ada = User.objects.get()
    assert [group.name for group in ada.groups.all()] == ["operator"]
    assert TeamMember.objects.get().user == ada


def test_who_has_a_password_gets_no_link():
    User.objects.create_user("ada", password="correct horse battery")
    assert "welcome" not in invite("ada", "--role", "viewer")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["ada"], "--role or --team"),
        (["ada", "--team", "nowhere"], "no team nowhere"),
        (["ada", "--team", "research:owns"], "research:owns"),
        (["a b", "--role", "viewer"], "valid username"),
        (["off", "--role", "viewer"], "switched off"),
    ],
)
def test_what_cannot_be_is_said_and_nothing_is_made(arguments, complaint):
    User.objects.create_user("off", is_active=False)
    Team.objects.create(name="research")
    with pytest.raises(CommandError, match=complaint):
        invite(*arguments)
    assert User.objects.count() == 1
