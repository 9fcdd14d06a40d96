"""Two teams that must not see each other: by lists, ids guessed in addresses, search, forms, actions, history and figures."""

import re
from contextlib import suppress
from decimal import Decimal

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, User
from django.db.models import ForeignKey
from django.test import Client, RequestFactory
from django.urls import NoReverseMatch, reverse

from gateway_project import roles
from inference.models import Job, Trace
from routing import issuing
from routing.client_keys import SCOPES
from routing.models import Budget, ClientKey, RateLimit, Team, TeamMember
from routing.team_pages import OfTeams
from routing.teams import MANAGES, VIEWS
from tests.inference.ledger import record

pytestmark = pytest.mark.django_db

OURS, THEIRS = "research", "salesfolk"
MARK = "zz-theirs"
"""Stands in everything of the other team's that a page could show."""


@pytest.fixture
def teams():
    return {name: Team.objects.create(name=name) for name in (OURS, THEIRS)}


@pytest.fixture
def rows(teams):
    """One row of every kind for each team, by the kind's name."""
    made = {}
    for name, team in teams.items():
        text = "zz-ours" if name == OURS else MARK
        key, _ = issuing.issue(text, ["generate"])
        key.team = team
        key.save()
        record(
            request_id=f"req-{text}",
            requested_model=text,
            provider_id=text,
            model_id=text,
            tags=f",{text},",
            status=200 if name == OURS else 503,
            error_code="" if name == OURS else MARK,
            error_owner="" if name == OURS else "provider",
            client_key_id=key.pk,
            client_key_prefix=key.prefix,
            team_id=team.pk,
            cost=Decimal(1 if name == OURS else "76.54"),
        )
        made[name] = {
            "routing_team": team,
            "routing_clientkey": key,
            "routing_ratelimit": RateLimit.objects.create(subject="team", team=team, requests_per_minute=5),
            "routing_budget": Budget.objects.create(subject="key", client_key=key, amount=5, name=text),
            "inference_trace": Trace.objects.get(request_id=f"req-{text}"),
            "inference_job": Job.objects.create(owner=key.prefix, request={}, model=text),
        }
    return made


def somebody(role, teams):
    """A member of the first team, signed in."""
    person = User.objects.create_user(role, is_staff=True)
    TeamMember.objects.create(team=teams[OURS], user=person, role=role)
    client = Client()
    client.force_login(person)
    return client


@pytest.fixture
def member(teams, rows):
    return somebody(VIEWS, teams)


@pytest.fixture
def manager(teams, rows):
    return somebody(MANAGES, teams)


def name_of(row):
    """By which the pages of a row go: a request's own id, else the number."""
    return getattr(row, "request_id", row.pk)


def pages_of(row, name):
    model_admin = admin.site._registry.get(type(row))
    for url in model_admin.get_urls() if model_admin else ():
        if url.name and url.name.startswith(name):
            for arguments in ([name_of(row)], [name_of(row), 1], []):
                with suppress(NoReverseMatch):
                    yield reverse(f"admin:{url.name}", args=arguments), bool(arguments)


def kinds(rows):
    """What has pages."""
    return [(name, row) for name, row in rows.items() if type(row) in admin.site._registry]


def test_a_member_finds_what_is_theirs(member, rows):
    for name in ("routing_team", "routing_clientkey", "inference_trace"):
        page = member.get(reverse(f"admin:{name}_changelist")).content.decode()
        shown = OURS if name == "routing_team" else "zz-ours"
        assert shown in page, name
        assert member.get(reverse(f"admin:{name}_change", args=[name_of(rows[OURS][name])])).status_code == 200, name


@pytest.mark.parametrize("role", [VIEWS, MANAGES])
def test_no_page_shows_or_takes_anything_of_the_other_team(teams, rows, role):
    client, wrong = somebody(role, teams), []
    for name, row in kinds(rows[THEIRS]):
        for address, by_id in pages_of(row, name):
            for method in ("get", "post"):
                response = getattr(client, method)(address)
                text = getattr(response, "content", b"").decode(errors="replace")
                if MARK in text or THEIRS in text or (by_id and response.status_code == 200):
                    wrong.append((method, address, response.status_code))
    assert wrong == []
    for row in rows[THEIRS].values():
        row.refresh_from_db()


@pytest.mark.parametrize("query", [f"q={MARK}", f"q={THEIRS}", "team=2", "o=1", "all=", f"team__id__exact={2}"])
def test_neither_search_nor_a_filter_finds_it(member, rows, query):
    for name, _ in kinds(rows[THEIRS]):
        page = member.get(f"{reverse(f'admin:{name}_changelist')}?{query}", follow=True)
        text = (
            page.content.decode()
            .replace(f"q={MARK}", "")
            .replace(f'value="{MARK}"', "")
            .replace(f'value="{THEIRS}"', "")
        )
        assert THEIRS not in text.replace(f"q={THEIRS}", ""), (name, query)
        assert f"req-{MARK}" not in text, (name, query)
        assert f"<strong>{MARK}" not in text, (name, query)


def test_the_filter_by_team_names_the_users_own_teams(member, rows):
    for name in ("routing_clientkey", "inference_trace"):
        response = member.get(f"{reverse(f'admin:{name}_changelist')}?team={rows[THEIRS]['routing_team'].pk}")
        assert f"<strong>{MARK}" not in response.content.decode()
        assert THEIRS not in response.content.decode()


def test_autocompletion_offers_nothing_of_the_other_team(manager, rows):
    for model_admin in admin.site._registry.values():
        options = model_admin.model._meta
        for field in options.get_fields():
            if isinstance(field, ForeignKey):
                asked = {"app_label": options.app_label, "model_name": options.model_name, "field_name": field.name}
                response = manager.get(reverse("admin:autocomplete"), {**asked, "term": ""})
                assert MARK not in response.content.decode(), asked
                assert THEIRS not in response.content.decode(), asked


def test_the_search_over_everything_finds_nothing_of_the_other_team(manager, rows):
    for word in (MARK, THEIRS):
        response = manager.get(reverse("admin:search"), {"s": word, "extended": "1"})
        assert "/change/" not in response.content.decode()


def test_actions_pass_over_what_is_not_the_users_to_change(teams, rows):
    # In two teams: a manager of the one, a member of the other.
    both = User.objects.create_user("both", is_staff=True)
    TeamMember.objects.create(team=teams[OURS], user=both, role=MANAGES)
    TeamMember.objects.create(team=teams[THEIRS], user=both)
    client = Client()
    client.force_login(both)
    keys = [rows[name]["routing_clientkey"].pk for name in (OURS, THEIRS)]
    address = reverse("admin:routing_clientkey_changelist")
    client.post(address, {"action": "disable", "_selected_action": keys})
    client.post(address, {"action": "disable", "_selected_action": keys[:1], "select_across": "1", "index": "0"})
    client.post(address, {"action": "delete_selected", "_selected_action": keys, "post": "yes"})
    assert {key.team.name: key.enabled for key in ClientKey.objects.all()} == {OURS: False, THEIRS: True}


def test_a_role_that_sees_everything_does_not_make_a_manager_of_every_team(teams, rows):
    viewer = User.objects.create_user("viewer", is_staff=True)
    viewer.groups.add(Group.objects.get(name="viewer"))
    TeamMember.objects.create(team=teams[OURS], user=viewer, role=MANAGES)
    client = Client()
    client.force_login(viewer)
    theirs, ours = (rows[name]["routing_clientkey"] for name in (THEIRS, OURS))
    assert client.get(reverse("admin:routing_clientkey_change", args=[theirs.pk])).status_code == 200
    assert client.post(reverse("admin:routing_clientkey_change", args=[theirs.pk]), {"name": "x"}).status_code == 403
    assert client.post(reverse("admin:routing_clientkey_rotate", args=[theirs.pk])).status_code == 403
    assert client.get(reverse("admin:routing_clientkey_rotate", args=[ours.pk])).status_code == 200
    for name in ("routing_team", "routing_ratelimit", "routing_budget"):
        if type(rows[OURS][name]) in admin.site._registry:
            address = reverse(f"admin:{name}_change", args=[rows[OURS][name].pk])
            assert client.post(address, {"name": "x"}).status_code == 403


def test_a_manager_issues_keys_for_their_own_team_alone(manager, teams):
    sent = {"name": "new", "scopes": ["generate"], "team": teams[THEIRS].pk, "tags": "", "role": ""}
    page = manager.get(reverse("admin:routing_clientkey_add")).content.decode()
    assert OURS in page
    assert THEIRS not in page
    for team in (teams[THEIRS].pk, ""):
        manager.post(reverse("admin:routing_clientkey_add"), {**sent, "team": team})
    assert not ClientKey.objects.filter(name="new").exists()
    manager.post(reverse("admin:routing_clientkey_add"), {**sent, "team": teams[OURS].pk})
    assert ClientKey.objects.get(name="new").team == teams[OURS]


def test_a_manager_lends_no_scope_and_no_factor_that_is_not_theirs(manager, teams):
    sent = {"name": "new", "team": teams[OURS].pk, "tags": ""}
    for scope in ("admin", "secrets:read", "registry:read", "registry:write"):
        manager.post(reverse("admin:routing_clientkey_add"), {**sent, "scopes": ["generate", scope]})
    assert not ClientKey.objects.filter(name="new").exists()
    manager.post(reverse("admin:routing_clientkey_add"), {**sent, "scopes": ["generate"], "role": "premium"})
    assert ClientKey.objects.get(name="new").role == ""


def test_what_a_form_offers_one_user_changes_nothing_for_another(manager, admin_user):
    pages, request = admin.site._registry[ClientKey], RequestFactory().get("/")
    forms = []
    for user in (admin_user, User.objects.get(username=MANAGES)):
        request.user = user
        forms.append(pages.get_form(request))
    scopes = [{name for name, _ in form.base_fields["scopes"].choices} for form in forms]
    assert scopes == [set(SCOPES), {"generate"}]
    assert [form.base_fields["role"].disabled for form in forms] == [False, True]


@pytest.mark.parametrize("role", ["keys", MANAGES])
def test_a_key_with_scopes_beyond_the_users_own_cannot_be_rotated_into_their_hands(teams, rows, role):
    key = rows[OURS]["routing_clientkey"]
    ClientKey.objects.filter(pk=key.pk).update(scopes=["admin"])
    if role == MANAGES:
        client = somebody(MANAGES, teams)
    else:
        roles.make()
        person = User.objects.create_user("keeper", is_staff=True)
        person.groups.add(Group.objects.get(name="keys"))
        client = Client()
        client.force_login(person)
    for name in ("rotate", "revoke", "switch", "change"):
        response = client.post(reverse(f"admin:routing_clientkey_{name}", args=[key.pk]), {"name": "x", "overlap": "0"})
        assert response.status_code == 403, name
    assert ClientKey.objects.get(pk=key.pk).digest == key.digest


def test_the_first_page_adds_up_the_members_own_team(member, rows):
    page = member.get(reverse("admin:index"))
    text = page.content.decode()
    assert MARK not in text
    assert THEIRS not in text
    spend = next(kpi for kpi in page.context["kpis"] if kpi.label == "Spend")
    assert "1.00" in str(spend.value)
    assert "of your teams" in text
    assert "provider_states" not in page.context


@pytest.mark.parametrize("by", ["key", "team", "model", "provider", "tag", "day"])
def test_spend_is_the_members_own_by_whatever_it_is_asked(member, admin_client, rows, by):
    theirs = rows[THEIRS]
    everybodys = admin_client.get(reverse("admin:spend-file"), {"by": by, "group_by": by, "as": "csv"})
    assert {"76.54"} == figures(b"".join(everybodys).decode()) or by == "day"
    narrowed = ({}, {"team": theirs["routing_team"].pk}, {"key": theirs["routing_clientkey"].prefix}, {"model": MARK})
    for words in narrowed:
        asked = {"by": by, "group_by": by, **words}
        for answer in (
            member.get(reverse("admin:spend"), asked),
            member.get(reverse("admin:spend-file"), {**asked, "as": "csv"}),
            member.get(reverse("admin:spend-file"), {**asked, "as": "json"}),
        ):
            text = b"".join(answer).decode()
            assert not figures(text), words
            assert THEIRS not in text, words
            assert MARK not in text or words.get("model") == MARK, words


def figures(text):
    """What the other team's request cost, wherever a page or file tells it."""
    return set(re.findall(r"(?<![\d.])(76\.54)0*(?!\d)", text))


def test_who_was_taken_out_of_the_team_sees_nothing_from_the_next_page_on(member, rows):
    TeamMember.objects.all().delete()
    for name in ("routing_team", "routing_clientkey", "inference_trace"):
        assert member.get(reverse(f"admin:{name}_changelist")).status_code == 403


def test_every_table_that_belongs_to_teams_is_narrowed():
    """A new page of rows with a team in them goes through `OfTeams`, or narrows its rows by itself and is named here."""
    narrowed_otherwise = {"routing.teammember"}
    wide = []
    for model, model_admin in admin.site._registry.items():
        fields = {field.attname for field in model._meta.concrete_fields} & {"team_id", "client_key_id"}
        if fields and not isinstance(model_admin, OfTeams) and model._meta.label_lower not in narrowed_otherwise:
            wide.append((model._meta.label, sorted(fields)))
    assert wide == []


def test_a_jobs_page_is_for_those_who_own_its_key(teams, rows):
    person = User.objects.create_user("own-group", is_staff=True)
    from django.contrib.auth.models import Permission

    person.user_permissions.add(Permission.objects.get(codename="view_job"))
    TeamMember.objects.create(team=teams[OURS], user=person)
    client = Client()
    client.force_login(person)
    page = client.get(reverse("admin:inference_job_changelist")).content.decode()
    assert "zz-ours" in page
    assert MARK not in page


def test_a_member_sees_what_stands_for_each_key_but_not_where_others_stand(member, rows):
    shared = Budget.objects.create(subject="each_key", period="month", amount=100, name="for each of us")
    RateLimit.objects.create(subject="each_key", requests_per_minute=77)
    assert "77" in member.get(reverse("admin:routing_ratelimit_changelist")).content.decode()
    for address in (
        reverse("admin:routing_budget_changelist"),
        reverse("admin:routing_budget_change", args=[shared.pk]),
    ):
        html = member.get(address).content.decode()
        assert "for each of us" in html
        assert MARK not in html
        assert "76.54" not in html


def test_a_member_reads_the_names_of_colleagues_without_links_that_refuse_them(member, teams):
    TeamMember.objects.create(team=teams[OURS], user=User.objects.create_user("colleague"))
    html = member.get(reverse("admin:routing_team_change", args=[teams[OURS].pk])).content.decode()
    assert "colleague" in html
    assert "/admin/auth/user/" not in html
