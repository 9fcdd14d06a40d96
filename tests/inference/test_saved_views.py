from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.test import Client
from django.urls import reverse

from inference import saved_views
from inference.models import SavedView
from routing.models import Team, TeamMember
from tests.callers import caller

pytestmark = pytest.mark.django_db

PAGE, LIST = reverse("admin:saved-views"), reverse("admin:inference_trace_changelist")


def member(name: str, team: Team | None = None) -> User:
    user = User.objects.create_user(name, is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_trace"))
    if team is not None:
        TeamMember.objects.create(team=team, user=user)
    return user


def as_(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def saved(client: Client, **told: Any) -> Any:
    return client.post(PAGE, {"page": "requests", "name": "failures", "query": "outcome=failed", "settings": 1} | told)


def test_a_view_keeps_what_its_page_takes_and_nothing_else() -> None:
    client = as_(member("ada"))
    answer = saved(client, query="outcome=failed&next=//evil.example&cursor=x&model=<b>")
    view = SavedView.objects.get()
    assert view.query == "model=%3Cb%3E&outcome=failed" or view.query == "outcome=failed&model=%3Cb%3E"
    assert answer["Location"] == saved_views.address(view)
    assert answer["Location"].startswith(f"{LIST}?")
    assert "<b>" not in client.get(answer["Location"]).content.decode().split("gw-views", 1)[1][:4000]


@pytest.mark.parametrize("told", [{"query": "status=7"}, {"name": " "}, {"name": "x" * 61}])
def test_a_view_that_makes_no_sense_is_refused_with_a_sentence(told: dict[str, str]) -> None:
    answer = saved(as_(member("ada")), **told)
    assert answer.status_code == 302
    assert not SavedView.objects.exists()


def test_a_name_is_taken_once_by_each() -> None:
    ada, bob = as_(member("ada")), as_(member("bob"))
    for client in (ada, ada, bob):
        saved(client)
    assert SavedView.objects.count() == 2


def test_own_views_are_nobody_elses_and_shared_ones_are_the_teams() -> None:
    team = Team.objects.create(name="search")
    ada, bob, eve = member("ada", team), member("bob", team), member("eve")
    saved(as_(ada), name="mine")
    saved(as_(ada), name="ours", share=f"team-{team.pk}")
    saved(as_(ada), name="all", share="everybody")
    seen = {user.username: {view.name for view in saved_views.seen_by(user)} for user in (ada, bob, eve)}
    assert seen == {"ada": {"mine", "ours", "all"}, "bob": {"ours", "all"}, "eve": {"all"}}


def test_nobody_shares_with_a_team_of_others() -> None:
    team = Team.objects.create(name="search")
    assert saved(as_(member("ada")), share=f"team-{team.pk}").status_code == 403


def test_only_its_owner_changes_or_deletes_a_view(admin_client: Client) -> None:
    ada = as_(member("ada"))
    saved(ada, share="everybody")
    view = SavedView.objects.get()
    strangers = (as_(User.objects.create_user("bob", is_staff=True)), as_(member("eve")))
    for action in ("change", "delete"):
        told = {"page": "requests", "action": action, "view": view.pk, "name": "taken"}
        assert [stranger.post(PAGE, told).status_code for stranger in strangers] == [403, 403]
    ada.post(PAGE, {"page": "requests", "action": "change", "view": view.pk, "name": "renamed"})
    assert SavedView.objects.get().name == "renamed"
    admin_client.post(PAGE, {"page": "requests", "action": "delete", "view": view.pk})
    assert not SavedView.objects.exists()


def test_a_superuser_who_tidies_up_leaves_the_owners_default(admin_client: Client) -> None:
    saved(as_(member("ada")), share="everybody", default="on")
    view = SavedView.objects.get()
    told = {"page": "requests", "action": "change", "view": view.pk, "name": "renamed", "settings": 1}
    admin_client.post(PAGE, told)
    view.refresh_from_db()
    assert (view.name, view.is_default) == ("renamed", True)
    assert "push_pin" not in admin_client.get(LIST).content.decode().split("gw-view-tools")[0]


def test_a_page_begins_with_its_users_default_and_all_leads_past_it() -> None:
    ada = member("ada")
    client = as_(ada)
    saved(client, default="on")
    saved(client, name="other", query="outcome=cut", default="on")
    assert SavedView.objects.filter(is_default=True).count() == 1
    assert "outcome=cut" in client.get(LIST)["Location"]
    assert client.get(LIST, {"view": "all"}).status_code == 200
    assert as_(member("bob")).get(LIST).status_code == 200


def test_a_view_of_a_page_that_one_may_not_open_is_not_there() -> None:
    saved_views.keep(SavedView(page="usage"), name="spend", query="by=team", share="everybody")
    assert not saved_views.seen_by(member("ada")).exists()
    with pytest.raises(ValidationError):
        saved_views.keep(SavedView(page="secrets"), name="x", query="")


def test_the_api_keeps_views_for_a_team_or_everybody_and_the_command_lists_them(capsys: Any) -> None:
    Team.objects.create(name="search")
    admin = caller("admin")
    told = {"page": "requests", "name": "cut off", "query": "outcome=cut&evil=//x"}
    made = admin.post("/api/v1/saved-views", told, format="json")
    assert (made.status_code, made.json()["query"], made.json()["for_everybody"]) == (201, "outcome=cut", True)
    one = f"/api/v1/saved-views/{made.json()['id']}"
    assert admin.patch(one, {"name": "broken", "team": "search"}, format="json").json()["team"] == "search"
    assert admin.post("/api/v1/saved-views", told | {"query": "status=7"}, format="json").status_code == 400
    assert admin.patch(one, ["name"], format="json").status_code == 400
    call_command("saved_views", "--keep", "slow", "--query", "slower_than_ms=2000")
    assert "slower_than_ms=2000" in capsys.readouterr().out
    assert {view["name"] for view in admin.get("/api/v1/saved-views").json()} == {"broken", "slow"}
    assert (admin.delete(one).status_code, admin.delete(one).status_code) == (204, 404)
    assert caller("registry:read").get("/api/v1/saved-views").status_code == 403
