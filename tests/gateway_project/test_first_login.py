import pytest
from django.contrib.auth import get_user_model
from django.core import signing
from django.urls import reverse

from gateway_project import first_login

pytestmark = pytest.mark.django_db


@pytest.fixture
def admin():
    return get_user_model().objects.create_superuser("admin", password=None)


def signed_in(client):
    return "_auth_user_id" in client.session


def test_the_link_opens_the_admin(client, admin):
    reply = client.get(first_login.path_for(admin))
    assert reply.status_code == 302
    assert reply["Location"] == reverse("admin:index")
    assert signed_in(client)


def test_the_link_works_once(client, admin):
    link = first_login.path_for(admin)
    client.get(link)
    client.logout()
    assert client.get(link).status_code == 410
    assert not signed_in(client)


def test_a_used_link_takes_older_ones_with_it(client, admin):
    older, newer = first_login.path_for(admin), first_login.path_for(admin)
    client.get(newer)
    client.logout()
    assert client.get(older).status_code == 410


def test_of_two_visits_at_once_one_wins(admin):
    token = first_login.token_for(admin)
    first_login.claim(token)
    with pytest.raises(first_login.LinkRefused):
        first_login.claim(token)


def test_a_fresh_link_works_after_a_used_one(client, admin):
    client.get(first_login.path_for(admin))
    client.logout()
    admin.refresh_from_db()
    assert client.get(first_login.path_for(admin)).status_code == 302


def test_an_old_link_is_refused(client, admin, monkeypatch):
    link = first_login.path_for(admin)
    monkeypatch.setattr(first_login, "LIFETIME_SECONDS", -1)
    assert client.get(link).status_code == 410


def test_a_link_signed_for_something_else_is_refused(client, admin):
    forged = signing.dumps({"user": admin.pk, "state": ""}, salt="another")
    assert client.get(reverse("first_login", args=[forged])).status_code == 410


def test_no_link_opens_an_account_with_a_password(client, admin):
    link = first_login.path_for(admin)
    admin.set_password("a long enough one")
    admin.save()
    assert client.get(link).status_code == 410


def test_no_link_opens_an_inactive_account(client, admin):
    link = first_login.path_for(admin)
    get_user_model().objects.update(is_active=False)
    assert client.get(link).status_code == 410


def test_a_preview_of_the_link_does_not_use_it_up(client, admin):
    link = first_login.path_for(admin)
    assert client.head(link).status_code == 200
    assert client.get(link).status_code == 302


def test_a_password_is_set_without_an_old_one(client, admin):
    client.get(first_login.path_for(admin))
    password = "correct horse battery"
    reply = client.post(reverse("first_password"), {"new_password1": password, "new_password2": password})
    assert reply.status_code == 302
    assert signed_in(client)
    client.logout()
    client.post(reverse("admin:login"), {"username": "admin", "password": password})
    assert signed_in(client)


def test_a_weak_password_is_refused_with_its_reason(client, admin):
    client.get(first_login.path_for(admin))
    reply = client.post(reverse("first_password"), {"new_password1": "short", "new_password2": "short"})
    assert reply.status_code == 200
    assert b"at least 12 characters" in reply.content


def test_who_has_a_password_changes_it_in_the_admin(client, admin):
    admin.set_password("correct horse battery")
    admin.save()
    client.force_login(admin)
    assert client.get(reverse("first_password"))["Location"] == reverse("admin:password_change")


def test_the_password_page_is_for_the_signed_in(client):
    assert client.get(reverse("first_password")).status_code == 302
