"""The first steps: each is done by what is there, and by nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.contrib.auth.models import Group, User
from django.core.cache import cache
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from gateway_project import welcome
from gateway_project.welcome import KEY, MODEL, PROVIDER, REQUEST, TEST
from providers import probes
from providers.models import AuditEntry, ProbeResult, Provider, ProviderModel
from routing import issuing, snapshot
from routing.models import ClientKey
from tests.inference.ledger import record

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _nothing_kept() -> Iterator[None]:
    cache.clear()
    snapshot.replace(None)
    yield
    cache.clear()


@pytest.fixture
def without_generation(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would ask in a thread that sees no row of this test; the browser's test goes the whole way."""
    monkeypatch.setattr(probes, "_generation", None)


def done() -> set[str]:
    return {step.name for step in welcome.steps() if step.done}


def a_model(**fields: object) -> ProviderModel:
    provider = Provider.objects.create(provider_id="up", provider_type="fake")
    return ProviderModel.objects.create(provider=provider, model_id="m", **fields)


def test_an_empty_installation_has_everything_before_it() -> None:
    assert done() == set()


def test_a_provider_and_a_model_count_while_they_are_enabled() -> None:
    model = a_model()
    assert done() == {PROVIDER, MODEL}

    ProviderModel.objects.filter(pk=model.pk).update(enabled=False)
    assert done() == {PROVIDER}

    Provider.objects.update(enabled=False)
    assert done() == set()


def test_only_a_green_test_counts() -> None:
    provider = a_model().provider
    ProbeResult.objects.create(provider=provider, healthy=False, duration_ms=1)
    assert TEST not in done()

    ProbeResult.objects.create(provider=provider, healthy=True, duration_ms=1)
    assert TEST in done()


def test_a_key_counts_that_may_generate_and_lets_somebody_in() -> None:
    issuing.issue("reads", ["registry:read"])
    issuing.issue("over", ["generate"], expires_at=timezone.now() - timedelta(days=1))
    issuing.issue("off", ["generate"], enabled=False)
    issuing.issue("Playground of ada", ["generate"], person=User.objects.create_user("ada"))
    assert KEY not in done()

    issuing.issue("app", ["generate"])
    assert KEY in done()


def test_the_first_answer_counts_and_a_failure_does_not() -> None:
    record(status=502, error_code="upstream_error")
    assert REQUEST not in done()

    record()
    assert {REQUEST, TEST} <= done()


def test_steps_that_are_done_are_not_asked_about_again() -> None:
    a_model()
    issuing.issue("app", ["generate"])
    assert welcome.unfinished() != []
    record()

    assert welcome.unfinished() == []


def test_one_button_adds_a_provider_that_answers_without_a_key(admin_client: Client, without_generation: None) -> None:
    answer = admin_client.post(reverse("admin:welcome_provider"), follow=True)

    assert done() == {PROVIDER, TEST, MODEL}
    assert "Built-in fake is healthy." in answer.content.decode()
    assert AuditEntry.objects.filter(target_type="provider", target_id="fake").get().actor == "user:admin"
    fake = Provider.objects.get()
    assert (fake.priority, fake.models.count()) == (welcome.FAKE_PRIORITY, 2)


def test_the_button_does_nothing_where_the_provider_is_there_already(admin_client: Client) -> None:
    Provider.objects.create(provider_id="fake", provider_type="fake", enabled=False)

    answer = admin_client.post(reverse("admin:welcome_provider"), follow=True)

    assert "exists already" in answer.content.decode()
    assert Provider.objects.count() == 1


def test_the_test_says_what_it_found(admin_client: Client, without_generation: None) -> None:
    answer = admin_client.post(reverse("admin:welcome_test"), follow=True)
    assert "There is no provider to test yet." in answer.content.decode()

    a_model()
    answer = admin_client.post(reverse("admin:welcome_test"), follow=True)
    assert "up is healthy." in answer.content.decode()


def test_the_key_is_shown_once_and_may_generate_only(admin_client: Client) -> None:
    answer = admin_client.post(reverse("admin:welcome_key"))

    key = ClientKey.objects.get()
    shown = answer.context["plaintext"]
    assert shown.startswith(key.prefix)
    assert shown in answer.content.decode()
    assert "no-store" in answer["Cache-Control"]
    assert key.scopes == ["generate"]
    assert shown not in admin_client.get(reverse("admin:welcome")).content.decode()


def test_the_next_step_has_the_buttons_and_the_others_say_why(admin_client: Client) -> None:
    html = admin_client.get(reverse("admin:welcome")).content.decode()
    assert html.count("gw-primary") == 1
    assert "Add the built-in fake provider" in html

    a_model()
    ProbeResult.objects.create(provider=Provider.objects.get(), healthy=True, duration_ms=1)
    html = admin_client.get(reverse("admin:welcome")).content.decode()
    assert "Create a key" in html
    assert "Add the built-in fake provider" not in html


def test_whose_role_cannot_do_the_step_is_told_so(client: Client) -> None:
    viewer = User.objects.create_user("vera", is_staff=True)
    viewer.groups.set(Group.objects.filter(name="viewer"))
    client.force_login(viewer)

    html = client.get(reverse("admin:welcome")).content.decode()

    assert "Your role cannot do this" in html
    assert client.post(reverse("admin:welcome_provider")).status_code == 403
    assert client.post(reverse("admin:welcome_key")).status_code == 403
