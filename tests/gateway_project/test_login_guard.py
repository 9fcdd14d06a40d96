import pytest
from axes.models import AccessAttempt
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client
from django.urls import reverse
from django.utils import timezone

pytestmark = pytest.mark.django_db
PASSWORD = "correct horse battery"


@pytest.fixture(autouse=True)
def few(settings):
    settings.AXES_FAILURE_LIMIT = 3


@pytest.fixture
def ada():
    return User.objects.create_user("ada", password=PASSWORD, is_staff=True)


def attempt(name="ada", password="wrong", address="192.0.2.1", **headers):
    sent = {"username": name, "password": password}
    return Client().post(reverse("admin:login"), sent, REMOTE_ADDR=address, **headers)


def test_failures_close_the_login_to_their_address_and_to_no_other(ada):
    assert [attempt().status_code for _ in range(3)] == [200, 200, 429]
    locked = attempt(password=PASSWORD)
    assert locked.status_code == 429
    assert b"Too many attempts" in locked.content
    assert attempt(name="bob").status_code == 429
    assert attempt(password=PASSWORD, address="192.0.2.2").status_code == 302


def test_the_pause_ends(ada, settings):
    for _ in range(3):
        attempt()
    AccessAttempt.objects.update(attempt_time=timezone.now() - settings.AXES_COOLOFF_TIME)
    assert attempt(password=PASSWORD).status_code == 302


def test_an_operator_ends_it_at_once(ada):
    for _ in range(3):
        attempt()
    call_command("axes_reset", verbosity=0)
    assert attempt(password=PASSWORD).status_code == 302


def test_trying_on_during_the_pause_does_not_make_it_longer(ada):
    for _ in range(3):
        attempt()
    before = AccessAttempt.objects.get().attempt_time
    attempt()
    assert AccessAttempt.objects.get().attempt_time == before


def test_many_addresses_close_an_account(ada):
    for number in range(15):
        attempt(address=f"198.51.100.{number}")
    assert attempt(password=PASSWORD, address="203.0.113.9").status_code == 429
    assert attempt(name="bob", address="203.0.113.9").status_code == 200


def test_nobody_closes_an_account_to_where_it_was_used_from_before(ada):
    assert attempt(password=PASSWORD, address="203.0.113.9").status_code == 302
    for number in range(15):
        attempt(address=f"198.51.100.{number}")
    assert attempt(password=PASSWORD, address="203.0.113.10").status_code == 429
    assert attempt(password=PASSWORD, address="203.0.113.9").status_code == 302
    assert [attempt(address="203.0.113.9").status_code for _ in range(3)] == [200, 200, 429]


def test_all_addresses_of_one_client_of_ipv6_count_as_one(ada):
    assert [attempt(address=f"2001:db8:1:2::{number}").status_code for number in (1, 2, 3)] == [200, 200, 429]
    assert attempt(password=PASSWORD, address="2001:db8:1:3::1").status_code == 302


def test_an_account_of_ones_own_frees_nobody(ada):
    User.objects.create_user("eve", password=PASSWORD, is_staff=True)
    attempt()
    attempt()
    assert attempt(name="eve", password=PASSWORD).status_code == 302
    assert attempt().status_code == 429


def test_a_good_password_forgets_ones_own_slips(ada):
    attempt()
    attempt()
    attempt(password=PASSWORD)
    assert [attempt().status_code for _ in range(2)] == [200, 200]


def test_behind_a_proxy_that_is_trusted_each_client_counts_for_itself(ada, settings):
    from routing.client_addresses import networks

    settings.GATEWAY_TRUSTED_PROXIES = networks(["10.0.0.0/8"])
    for _ in range(3):
        attempt(address="10.0.0.1", HTTP_X_FORWARDED_FOR="203.0.113.1")
    assert attempt(address="10.0.0.1", HTTP_X_FORWARDED_FOR="203.0.113.1").status_code == 429
    assert attempt(address="10.0.0.1", HTTP_X_FORWARDED_FOR="203.0.113.2").status_code == 200


def test_who_is_not_trusted_cannot_change_the_address_by_a_header(ada):
    codes = [attempt(HTTP_X_FORWARDED_FOR=f"203.0.113.{number}").status_code for number in range(3)]
    assert codes == [200, 200, 429]


def test_without_redis_it_counts_all_the_same(ada, settings):
    settings.REDIS_URL = "redis://127.0.0.1:9/0"
    assert [attempt().status_code for _ in range(3)] == [200, 200, 429]


def test_no_log_holds_a_name_or_a_path_for_people_type_passwords_there(ada, caplog):
    with caplog.at_level("INFO", "axes"):
        for _ in range(3):
            attempt(name="my-secret-typed-as-name")
    said = [record.getMessage() for record in caplog.records if record.name.startswith("axes")]
    assert any("192.0.2.1" in line for line in said)
    assert not any("my-secret" in line or "/admin/login" in line for line in said)
