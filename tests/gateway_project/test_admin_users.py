import re

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from django.urls import reverse

from providers.models import AuditEntry

pytestmark = pytest.mark.django_db


@pytest.fixture
def boss(client):
    """Somebody with the role admin, signed in; no superuser."""
    person = User.objects.create_user("boss", is_staff=True)
    person.groups.add(Group.objects.get(name="admin"))
    client.force_login(person)
    return person


def page_of(user):
    return reverse("admin:auth_user_change", args=[user.pk])


def test_a_new_user_may_come_in_and_gets_roles_and_the_audit_log_says_so(client, boss):
    sent = {"username": "ada", "usable_password": "false"}
    client.post(reverse("admin:auth_user_add"), sent)
    ada = User.objects.get(username="ada")
    assert ada.is_staff
    assert not ada.is_superuser
    viewer = Group.objects.get(name="viewer")
    sent = {"username": "ada", "is_active": "on", "is_staff": "on", "groups": [viewer.pk]}
    assert client.post(page_of(ada), sent).status_code == 302
    assert list(ada.groups.all()) == [viewer]
    entries = AuditEntry.objects.filter(target_type="user", target_id="ada").order_by("id")
    assert [(entry.action, entry.after["roles"]) for entry in entries] == [("create", []), ("update", ["viewer"])]
    assert {entry.actor for entry in entries} == {"user:boss"}


def test_nobody_but_a_superuser_makes_or_touches_one(client, boss):
    root = User.objects.create_superuser("root")
    sent = {
        "username": "boss",
        "is_active": "on",
        "is_staff": "on",
        "is_superuser": "on",
        "groups": [boss.groups.get().pk],
    }
    client.post(page_of(boss), sent)
    assert not User.objects.get(pk=boss.pk).is_superuser
    assert client.post(page_of(root), {"username": "boot"}).status_code == 403
    assert client.post(reverse("admin:auth_user_delete", args=[root.pk]), {"post": "yes"}).status_code == 403
    password = {"usable_password": "true", "password1": "correct horse battery", "password2": "correct horse battery"}
    assert client.post(reverse("admin:auth_user_password_change", args=[root.pk]), password).status_code == 403
    chosen = {"action": "delete_selected", "_selected_action": [root.pk], "post": "yes"}
    client.post(reverse("admin:auth_user_changelist"), chosen)
    assert User.objects.filter(username="root").exists()


def test_who_only_keeps_users_gives_no_roles(client):
    clerk = User.objects.create_user("clerk", is_staff=True)
    clerk.user_permissions.add(*_permissions("view_user", "change_user", "view_group", "change_group", "add_group"))
    client.force_login(clerk)
    sent = {"username": "clerk", "is_active": "on", "is_staff": "on", "groups": [Group.objects.get(name="admin").pk]}
    client.post(page_of(clerk), sent)
    assert not clerk.groups.exists()
    assert client.post(reverse("admin:auth_group_add"), {"name": "mine"}).status_code == 403


@pytest.mark.parametrize("method", ["change", "delete"])
def test_the_five_roles_are_the_products_even_for_a_superuser(admin_client, method):
    viewer = Group.objects.get(name="viewer")
    before = viewer.permissions.count()
    response = admin_client.post(reverse(f"admin:auth_group_{method}", args=[viewer.pk]), {"name": "x", "post": "yes"})
    assert response.status_code == 403
    assert Group.objects.get(name="viewer").permissions.count() == before


def test_a_role_says_what_it_may(admin_client):
    page = admin_client.get(reverse("admin:auth_group_change", args=[Group.objects.get(name="keys").pk]))
    assert "issues and revokes client keys" in page.content.decode()
    assert "<td>client key</td><td>add, change, delete, view</td>" in page.content.decode()


def test_the_lists_ask_the_same_for_one_user_and_for_many(admin_client, django_assert_max_num_queries):
    for number in range(12):
        User.objects.create_user(f"u{number}").groups.add(Group.objects.get(name="viewer"))
    with django_assert_max_num_queries(9):
        admin_client.get(reverse("admin:auth_user_changelist"))


def _permissions(*codenames):
    from django.contrib.auth.models import Permission

    return Permission.objects.filter(codename__in=codenames)


def test_somebody_without_a_password_is_let_in_by_a_link_that_is_shown_once(client, boss):
    ada = User.objects.create_user("ada", is_staff=True)
    assert "Make a link" in client.get(page_of(ada)).content.decode()
    shown = client.post(reverse("admin:auth_user_invite", args=[ada.pk]))
    link = re.search(r'<pre id="gw-invite">http://testserver(/welcome/[^<]+)</pre>', shown.content.decode())[1]
    assert "no-store" in shown["Cache-Control"]
    entry = AuditEntry.objects.get(action="invite")
    assert (entry.actor, entry.target_id) == ("user:boss", "ada")
    visitor = Client()
    assert visitor.get(link).status_code == 302
    assert visitor.session["_auth_user_id"] == str(ada.pk)


def test_nobody_makes_a_link_for_a_superuser_or_for_who_has_a_password(client, boss):
    root = User.objects.create_superuser("root")
    known = User.objects.create_user("known", password="a-password-of-her-own", is_staff=True)
    assert client.post(reverse("admin:auth_user_invite", args=[root.pk])).status_code == 403
    assert client.post(reverse("admin:auth_user_invite", args=[known.pk])).status_code == 302
    assert not AuditEntry.objects.filter(action="invite").exists()


def test_the_page_of_roles_says_what_each_may(client, boss):
    told = re.sub(
        r"\s+", " ", re.sub(r"<[^>]+>", " ", client.get(reverse("admin:auth_group_changelist")).content.decode())
    )
    assert "Budgets and their raises sees sees sees sees and changes sees and changes" in told
