"""The search box names rows that one may see, and never more than a handful of a kind."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from gateway_project.admin_site import MOST_FOUND
from providers.models import Provider

pytestmark = pytest.mark.django_db


def found(client: Client, words: str) -> str:
    return client.get(reverse("admin:search"), {"s": words, "extended": "1"}).content.decode()


def staff(name: str, *permissions: str) -> Client:
    user = User.objects.create_user(name, is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


def test_it_reads_a_handful_of_rows_however_many_match() -> None:
    Provider.objects.bulk_create(
        [Provider(provider_id=f"many-{number}", provider_type="openai_compatible") for number in range(MOST_FOUND + 5)]
    )
    assert found(staff("ada", "view_provider"), "many-").count("/admin/providers/provider/") == MOST_FOUND


def test_it_names_no_row_to_whoever_may_only_add_some() -> None:
    Provider.objects.create(provider_id="hidden-one", provider_type="openai_compatible")
    assert "hidden-one" not in found(staff("bob", "add_provider"), "hidden")
    assert "hidden-one" in found(staff("cleo", "view_provider"), "hidden")


@pytest.mark.parametrize("page", ["abc", "", "0", "-1", "999", "1.5"])
def test_a_page_that_is_not_there_is_the_first(admin_client: Client, page: str) -> None:
    Provider.objects.create(provider_id="the-one", provider_type="openai_compatible")
    asked = {"s": "the-one", "extended": "1", "page": page}
    shown = admin_client.get(reverse("admin:search"), asked)
    assert shown.status_code == 200
    assert "the-one" in shown.content.decode()


@pytest.mark.parametrize("asked", ["page=abc", "p=abc", "p=-1", "p=99999999999999999999"])
@pytest.mark.parametrize("kind", ["providers_provider", "inference_trace"])
def test_nor_does_a_list_fail_of_it(admin_client: Client, kind: str, asked: str) -> None:
    shown = admin_client.get(f"{reverse(f'admin:{kind}_changelist')}?{asked}", follow=True)
    assert shown.status_code == 200
