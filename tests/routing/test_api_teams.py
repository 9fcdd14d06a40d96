import pytest
from django.contrib.auth import get_user_model

from providers.models import AuditEntry
from routing import issuing
from routing.models import ClientKey, Team, TeamMember
from tests.callers import caller, with_key

pytestmark = pytest.mark.django_db


@pytest.fixture
def api():
    return caller("admin")


def fields_named(response):
    return [error["field"] for error in response.json()["errors"]]


def test_a_team_is_made_renamed_and_removed(api):
    made = api.post("/api/v1/teams", {"name": "research", "description": "Finds out."})
    assert made.status_code == 201
    address = f"/api/v1/teams/{made.json()['id']}"
    assert api.patch(address, {"name": "science"}).json()["name"] == "science"
    assert api.delete(address).status_code == 204
    assert {entry.action for entry in AuditEntry.objects.filter(target_type="team")} == {"create", "update", "delete"}


def test_a_team_has_one_name_and_an_unknown_field_is_named(api):
    Team.objects.create(name="research")
    assert fields_named(api.post("/api/v1/teams", {"name": "research"})) == ["name"]
    assert fields_named(api.post("/api/v1/teams", {"name": "sales", "budget": 5})) == ["budget"]


def test_a_team_with_keys_stays(api):
    team = Team.objects.create(name="research")
    ClientKey.objects.create(name="app", prefix="gw-1", team=team)
    response = api.delete(f"/api/v1/teams/{team.pk}")
    assert response.status_code == 409
    assert Team.objects.filter(pk=team.pk).exists()


def test_members_go_by_names(api):
    Team.objects.create(name="research")
    get_user_model().objects.create_user("ada")
    made = api.post("/api/v1/team-members", {"team": "research", "user": "ada", "role": "manages"})
    assert made.status_code == 201
    assert TeamMember.objects.get().role == "manages"
    assert len(api.get("/api/v1/team-members?team=research").json()["results"]) == 1
    assert api.get("/api/v1/team-members?user=bob").json()["results"] == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"team": "nowhere", "user": "ada"}, "team"),
        ({"team": "research", "user": "nobody"}, "user"),
        ({"team": "research", "user": "ada", "role": "owns"}, "role"),
    ],
)
def test_a_bad_member_is_refused_by_the_name_of_the_field(api, body, field):
    Team.objects.create(name="research")
    get_user_model().objects.create_user("ada")
    response = api.post("/api/v1/team-members", body)
    assert response.status_code == 400
    assert fields_named(response) == [field]
    assert not TeamMember.objects.exists()


def test_nobody_is_in_a_team_twice(api):
    team, ada = Team.objects.create(name="research"), get_user_model().objects.create_user("ada")
    TeamMember.objects.create(team=team, user=ada)
    assert api.post("/api/v1/team-members", {"team": "research", "user": "ada"}).status_code == 400


def test_teams_are_for_admins():
    client = caller("registry:read", "registry:write", "generate", "secrets:read")
    for path in ("/api/v1/teams", "/api/v1/team-members"):
        assert client.get(path).status_code == 403
        assert client.post(path, {"name": "x"}).status_code == 403


def test_a_key_of_a_team_manages_that_teams_members_alone():
    own, other = (Team.objects.create(name=name) for name in ("research", "sales"))
    ada = get_user_model().objects.create_user("ada")
    theirs = TeamMember.objects.create(team=other, user=ada)
    client = with_key(issuing.issue("of research", ["admin"], team=own)[1].reveal())
    assert client.post("/api/v1/team-members", {"team": "sales", "user": "ada"}).status_code == 400
    assert client.delete(f"/api/v1/team-members/{theirs.pk}").status_code == 404
    made = client.post("/api/v1/team-members", {"team": "research", "user": "ada"})
    assert made.status_code == 201
    assert client.patch(f"/api/v1/team-members/{made.json()['id']}", {"team": "sales"}).status_code == 400
    assert [row["team"] for row in client.get("/api/v1/team-members").json()["results"]] == ["research"]
