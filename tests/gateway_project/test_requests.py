from __future__ import annotations

import pytest
from django.contrib.auth import get_user_model
from django.test import Client

from inference import old_paths
from inference.models import OldPathUse
from inference.old_paths import Counting
from tests import callers

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def counting(monkeypatch: pytest.MonkeyPatch) -> Counting:
    fresh = Counting()
    monkeypatch.setattr(old_paths, "counting", fresh)
    return fresh


def used(counting: Counting) -> list[tuple[str, str, str, int]]:
    counting.write()
    return list(OldPathUse.objects.values_list("family", "client", "client_name", "requests"))


def test_a_client_on_an_old_path_is_counted_under_its_key(counting: Counting) -> None:
    client = callers.caller(name="the old dashboard")
    assert client.get("/api/providers").status_code == 200
    [(family, who, name, requests)] = used(counting)
    assert (family, name, requests) == ("/api/providers", "the old dashboard", 1)
    assert who.startswith("key:gw-")


def test_a_stranger_who_is_refused_is_counted_under_its_address(counting: Counting) -> None:
    assert Client(REMOTE_ADDR="203.0.113.9").get("/providers/openai").status_code == 401
    assert used(counting) == [("/providers", "address:203.0.113.9", "", 1)]


def test_a_path_that_the_gateway_does_not_have_is_counted_too(counting: Counting) -> None:
    client = Client()
    client.force_login(get_user_model().objects.create_user("ada"))
    assert client.get("/api/config/").status_code == 404
    assert used(counting) == [("/api/config", "user:ada", "", 1)]


def test_the_gateways_own_paths_are_not_counted(counting: Counting) -> None:
    assert callers.caller().get("/api/v1/providers").status_code == 200
    assert used(counting) == []


def test_counting_asks_the_database_nothing_while_the_request_is_served(
    counting: Counting, django_assert_num_queries
) -> None:
    with django_assert_num_queries(0):
        assert Client().get("/providers").status_code == 401
