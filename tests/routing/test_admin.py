from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from providers.models import AuditEntry, Provider, ProviderModel
from routing import building, client_keys, issuing, key_use
from routing.models import Budget, ClientKey, RateLimit, Team, TeamMember
from tests.inference import ledger
from tests.page_forms import form_of_page
from tests.routing.second_connection import may_write

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


@pytest.mark.parametrize(
    ("allowed", "shown"),
    [("", "small"), ("gpt-4o\nsm*", "gpt-4o"), ("l*", "large"), ("other/*", "MODEL")],
)
def test_the_examples_name_a_model_that_the_key_may_use(admin_client: Client, allowed: str, shown: str) -> None:
    provider = Provider.objects.create(provider_id="p", provider_type="fake")
    for name in ("small", "large"):
        ProviderModel.objects.create(provider=provider, model_id=name)
    html = create(admin_client, allowed_models=allowed).content.decode()
    assert f"model=&quot;{shown}&quot;" in html or f'model="{shown}"' in html


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


@pytest.mark.django_db(transaction=True)
def test_nobody_revokes_or_rotates_a_key_while_its_form_is_saved(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, _ = issuing.issue("CI", ["generate"])
    url = reverse("admin:routing_clientkey_change", args=[key.pk])
    fields = form_of_page(admin_client.get(url).content.decode())
    full_clean, others = ClientKey.full_clean, []

    def look_and_clean(row: ClientKey, *args: Any, **kwargs: Any) -> None:
        others.append(may_write(row))
        full_clean(row, *args, **kwargs)

    monkeypatch.setattr(ClientKey, "full_clean", look_and_clean)
    assert admin_client.post(url, fields | {"name": "CD"}).status_code == 302
    assert others == [False]


def test_the_list_tells_active_expired_and_suspended_apart(admin_client: Client) -> None:
    issuing.issue("a", ["generate"])
    issuing.issue("b", ["generate"], expires_at=timezone.now())
    disabled, _ = issuing.issue("c", ["generate"])
    disabled.enabled = False
    disabled.save()

    html = admin_client.get(reverse(LIST)).content.decode()

    assert [html.count(f">{state}</span>") for state in ("active", "expired", "suspended")] == [1, 1, 1]


def test_the_list_takes_the_same_queries_for_one_key_and_for_many(
    admin_client: Client, django_assert_num_queries: Any
) -> None:
    issuing.issue("first", ["generate"])
    admin_client.get(reverse(LIST))
    with django_assert_num_queries(9):
        admin_client.get(reverse(LIST))
    for number in range(10):
        issuing.issue(f"key {number}", ["generate"])
    with django_assert_num_queries(9):
        admin_client.get(reverse(LIST))


def test_deleting_a_selection_leaves_an_entry_per_key(admin_client: Client) -> None:
    keys = [issuing.issue(name, ["generate"])[0] for name in ("a", "b")]

    admin_client.post(
        reverse(LIST),
        {"action": "delete_selected", "post": "yes", "_selected_action": [str(key.pk) for key in keys]},
    )

    assert AuditEntry.objects.filter(action="delete", target_type="clientkey").count() == 2


# --- Limits of a key, its rotation and its end ----------------------------------------------------------------------------------


def url(name: str, key: ClientKey) -> str:
    return reverse(f"admin:routing_clientkey_{name}", args=[key.pk])


def shown_in(response: Any) -> str:
    [shown] = set(_KEY.findall(response.content.decode()))
    return shown


def is_good(key: str) -> bool:
    try:
        return bool(client_keys.verify(key, building.build(), now=timezone.now().timestamp()))
    except client_keys.KeyRefused:
        return False


def test_every_limit_of_a_key_is_given_in_the_form(admin_client: Client) -> None:
    create(
        admin_client,
        allowed_policies="chat_*",
        allowed_providers="openai",
        ip_ranges="10.0.0.0/8",
        tags="a\nb",
        role="pro",
    )

    key = ClientKey.objects.get()
    assert (key.allowed_policies, key.allowed_providers, key.ip_ranges) == (["chat_*"], ["openai"], ["10.0.0.0/8"])
    assert (key.tags, key.role, key.captures_content) == (["a", "b"], "pro", False)


def test_an_address_that_is_none_is_refused_at_its_field(admin_client: Client) -> None:
    response = create(admin_client, ip_ranges="10.0.0.1/8")

    assert "bits beyond the range" in response.content.decode()
    assert not ClientKey.objects.exists()


def test_a_rotated_key_is_shown_once_and_the_one_before_is_good_until_it_is_ended(admin_client: Client) -> None:
    key, before = issuing.issue("CI", ["generate"])
    response = admin_client.post(url("rotate", key), {"overlap": "3600"})

    now = shown_in(response)
    assert now.startswith(key.prefix)
    assert "no-store" in response["Cache-Control"]
    assert (is_good(now), is_good(before.reveal())) == (True, True)
    page = admin_client.get(url("change", key)).content.decode()
    assert now not in page
    assert "good as well" in page
    admin_client.post(url("end_overlap", key))
    assert (is_good(now), is_good(before.reveal())) == (True, False)


def test_looking_at_the_page_rotates_nothing(admin_client: Client) -> None:
    key, before = issuing.issue("CI", ["generate"])
    admin_client.get(url("rotate", key))
    assert admin_client.post(url("rotate", key), {"overlap": "12345"}).status_code == 200
    assert is_good(before.reveal())


def test_a_key_is_suspended_and_resumed_on_its_page(admin_client: Client) -> None:
    key, secret = issuing.issue("CI", ["generate"])
    assert admin_client.get(url("switch", key)).status_code == 405
    for to, good in (("off", False), ("off", False), ("on", True)):
        admin_client.post(url("switch", key), {"to": to})
        assert is_good(secret.reveal()) is good


def test_a_revoked_key_tells_why_and_never_comes_back(admin_client: Client) -> None:
    key, secret = issuing.issue("CI", ["generate"])
    assert "required" in admin_client.post(url("revoke", key), {"reason": " "}).content.decode()
    told = admin_client.post(url("revoke", key), {"confirm": "another", "reason": "leaked in a log"})
    assert ("not the key" in told.content.decode(), is_good(secret.reveal())) == (True, True)
    admin_client.post(url("revoke", key), {"confirm": "CI", "reason": "leaked in a log"})

    assert "leaked in a log" in admin_client.get(url("change", key)).content.decode()
    assert AuditEntry.objects.order_by("-pk")[0].reason == "leaked in a log"
    admin_client.post(url("switch", key), {"to": "on"})
    admin_client.post(reverse(LIST), {"action": "enable", "_selected_action": [str(key.pk)]})
    admin_client.post(url("rotate", key), {"overlap": "0"})
    key.refresh_from_db()
    assert (key.state, is_good(secret.reveal())) == ("revoked", False)


@pytest.mark.parametrize("state", ["active", "suspended", "revoked", "expired"])
def test_the_list_is_narrowed_to_a_state(admin_client: Client, state: str) -> None:
    issuing.issue("is active", ["generate"])
    issuing.issue("is suspended", ["generate"], enabled=False)
    issuing.issue("is revoked", ["generate"])[0].revoke("x")
    issuing.issue("is expired", ["generate"], expires_at=timezone.now())

    html = admin_client.get(reverse(LIST), {"state": state}).content.decode()
    assert re.findall(r">is (\w+)</a></strong>", html) == [state]


def test_the_list_tells_limits_budget_and_where_a_key_was_used(admin_client: Client) -> None:
    key, _ = issuing.issue("CI", ["generate"])
    RateLimit.objects.create(subject="key", client_key=key, requests_per_minute=60)
    Budget.objects.create(subject="each_key", amount=5)
    key_use.write(key.pk, timezone.now(), "192.0.2.7")

    html = admin_client.get(reverse(LIST)).content.decode()
    assert "60\u202frpm" in html
    assert "0.00 of 5.00 USD in the month" in html
    assert "192.0.2.7" in html


def test_the_page_of_a_key_takes_the_same_queries_for_few_requests_and_for_many(
    admin_client: Client, django_assert_num_queries: Any
) -> None:
    key, _ = issuing.issue("CI", ["generate"])
    RateLimit.objects.create(subject="each_key", tokens_per_minute=9000)
    for count in (1, 30):
        ledger.record(count, client_key_id=key.pk, client_key_prefix=key.prefix)
        admin_client.get(url("overview", key))
        with django_assert_num_queries(9):
            admin_client.get(url("overview", key))


def test_the_page_of_a_key_tells_what_it_asked_and_what_bounds_it(admin_client: Client) -> None:
    team = Team.objects.create(name="research")
    key, _ = issuing.issue("CI", ["generate"], team=team)
    RateLimit.objects.create(subject="team", team=team, tokens_per_minute=9000)
    Budget.objects.create(subject="each_key", amount=5)
    ledger.record(
        client_key_id=key.pk, client_key_prefix=key.prefix, requested_model="chat_small", cost=Decimal("0.25")
    )
    key.suspend()

    told = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", admin_client.get(url("overview", key)).content.decode()))
    for sentence in (
        "Requests 1",
        "0.25 USD",
        "chat_small",
        "9 000",
        "its team",
        "Budget, month",
        "enabled",
    ):
        assert sentence in told


def test_the_page_of_a_key_shows_members_of_its_team_no_history_and_others_nothing(client: Client) -> None:
    team = Team.objects.create(name="research")
    key, _ = issuing.issue("CI", ["generate"], team=team)
    member, stranger = (User.objects.create_user(name, is_staff=True) for name in ("member", "stranger"))
    TeamMember.objects.create(team=team, user=member)
    client.force_login(member)
    html = client.get(url("overview", key)).content.decode()
    assert ("Latest requests" in html, "What became of it" in html, url("rotate", key) in html) == (True, False, False)
    client.force_login(stranger)
    assert client.get(url("overview", key)).status_code in (403, 404)


def test_who_may_not_change_keys_neither_rotates_nor_revokes_them(client: Client, django_user_model: Any) -> None:
    key, secret = issuing.issue("CI", ["generate"])
    client.force_login(django_user_model.objects.create_user("eve", is_staff=True))
    for name in ("rotate", "revoke", "switch", "end_overlap"):
        assert client.post(url(name, key), {"overlap": "0", "reason": "x"}).status_code in (403, 404)
    assert is_good(secret.reveal())
