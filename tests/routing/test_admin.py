from __future__ import annotations

import re
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from providers.models import AuditEntry
from routing import building, client_keys, issuing
from routing.models import ClientKey
from tests.page_forms import form_of_page

pytestmark = pytest.mark.django_db

LIST = "admin:routing_clientkey_changelist"
ADD = "admin:routing_clientkey_add"
_KEY = re.compile(r"gw-[0-9a-f]{12}-[A-Za-z0-9_-]{43}")


def create(client: Client, **fields: Any) -> Any:
    return client.post(reverse(ADD), {"name": "Team search", "scopes": ["generate"]} | fields)


def test_a_created_key_is_shown_once_and_works(admin_client: Client) -> None:
    response = create(admin_client)

    html = response.content.decode()
    [shown] = set(_KEY.findall(html))
    assert client_keys.verify(shown, building.build(), now=0.0).name == "Team search"
    assert "no-store" in response["Cache-Control"]
    assert "curl" in html
    assert "from openai import OpenAI" in html

    key = ClientKey.objects.get()
    for url in (reverse(LIST), reverse("admin:routing_clientkey_change", args=[key.pk])):
        assert shown not in admin_client.get(url).content.decode()
    assert shown not in str(list(AuditEntry.objects.values()))


def test_the_issuing_is_audited_under_the_users_name(admin_client: Client) -> None:
    create(admin_client)

    entry = AuditEntry.objects.get()
    assert (entry.action, entry.target_type, entry.actor) == ("create", "clientkey", "user:admin")


def test_allowed_models_are_given_one_a_line(admin_client: Client) -> None:
    create(admin_client, allowed_models="gpt-*\r\n\r\n openai/* \r\n")

    assert ClientKey.objects.get().allowed_models == ["gpt-*", "openai/*"]


def test_no_patterns_allow_every_model(admin_client: Client) -> None:
    create(admin_client, allowed_models="")

    assert ClientKey.objects.get().allowed_models is None


def test_a_key_without_a_scope_is_refused(admin_client: Client) -> None:
    response = create(admin_client, scopes=[])

    assert "This field is required" in response.content.decode()
    assert not ClientKey.objects.exists()


def test_a_key_that_would_be_born_expired_is_refused(admin_client: Client) -> None:
    response = create(admin_client, expires_at_0="2020-01-01", expires_at_1="00:00:00")

    assert "past already" in response.content.decode()


def test_a_key_is_switched_off_and_on_again(admin_client: Client) -> None:
    key, _ = issuing.issue("CI", ["generate"])

    for action, enabled in (("disable", False), ("enable", True)):
        admin_client.post(reverse(LIST), {"action": action, "_selected_action": [str(key.pk)]})
        key.refresh_from_db()
        assert key.enabled is enabled
    assert AuditEntry.objects.filter(action="update").count() == 2


def test_saving_a_key_unchanged_leaves_no_entry(admin_client: Client) -> None:
    key, _ = issuing.issue("CI", ["generate"], allowed_models=["gpt-*"])
    url = reverse("admin:routing_clientkey_change", args=[key.pk])
    fields = form_of_page(admin_client.get(url).content.decode())

    assert admin_client.post(url, fields).status_code == 302
    assert AuditEntry.objects.count() == 1


def test_the_list_tells_active_expired_and_disabled_apart(admin_client: Client) -> None:
    issuing.issue("a", ["generate"])
    issuing.issue("b", ["generate"], expires_at=timezone.now())
    disabled, _ = issuing.issue("c", ["generate"])
    disabled.enabled = False
    disabled.save()

    html = admin_client.get(reverse(LIST)).content.decode()

    assert [html.count(f">{state}</span>") for state in ("active", "expired", "disabled")] == [1, 1, 1]


def test_the_list_takes_the_same_queries_for_one_key_and_for_many(
    admin_client: Client, django_assert_num_queries: Any
) -> None:
    issuing.issue("first", ["generate"])
    admin_client.get(reverse(LIST))
    with django_assert_num_queries(6):
        admin_client.get(reverse(LIST))
    for number in range(10):
        issuing.issue(f"key {number}", ["generate"])
    with django_assert_num_queries(6):
        admin_client.get(reverse(LIST))


def test_deleting_a_selection_leaves_an_entry_per_key(admin_client: Client) -> None:
    keys = [issuing.issue(name, ["generate"])[0] for name in ("a", "b")]

    admin_client.post(
        reverse(LIST),
        {"action": "delete_selected", "post": "yes", "_selected_action": [str(key.pk) for key in keys]},
    )

    assert AuditEntry.objects.filter(action="delete", target_type="clientkey").count() == 2
