"""Promises 0-01, 0-02, 0-04 and 0-25: the registry follows what a platform deploys."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis
from django.test import Client
from django.urls import reverse

from providers import discovery, kamiwaza, offers, probes, tasks
from providers.models import AuditEntry, Offer, Provider, ProviderModel, RegistryRevision
from tests.callers import caller
from tests.fakes.kamiwaza import FakeKamiwaza

pytestmark = pytest.mark.django_db


@pytest.fixture
def platform() -> Iterator[FakeKamiwaza]:
    with FakeKamiwaza() as fake:
        yield fake


@pytest.fixture
def provider(platform: FakeKamiwaza) -> Provider:
    return Provider.objects.create(
        provider_id="kz", provider_type="kamiwaza", connection_params={"endpoint": platform.endpoint}
    )


def enabled(provider: Provider) -> list[str]:
    return sorted(provider.models.filter(enabled=True).values_list("model_id", flat=True))


def row(provider: Provider, model_id: str) -> ProviderModel:
    return provider.models.get(model_id=model_id)


def test_of_five_deployments_the_two_that_are_active_become_models(platform: FakeKamiwaza, provider: Provider) -> None:
    for name, status, instance in (
        ("llama3", "DEPLOYED", None),
        ("qwen 2.5 72B", "DEPLOYED", None),
        ("phi", "INITIALIZING", None),
        ("mistral", "FAILED", None),
        ("gemma", "DEPLOYED", "INITIALIZING"),
    ):
        platform.deploy(name, status=status, instance=instance)
    offer = offers.refresh(provider)
    assert enabled(provider) == ["llama3", "qwen 2.5 72B"]
    assert provider.models.count() == 2
    assert (offer.stale, sorted(offer.names)) == (False, ["llama3", "qwen 2.5 72B"])
    llama = row(provider, "llama3")
    assert llama.parameters["base_urls"] == [f"http://127.0.0.1:{platform.deployments[0].port}/v1"]


def test_names_that_are_missing_or_taken_twice_do_no_harm(platform: FakeKamiwaza, provider: Provider) -> None:
    nameless = platform.deploy(None)
    for _ in range(2):
        platform.deploy("llama3")
    offers.refresh(provider)
    assert enabled(provider) == ["llama3", f"model-{nameless.listed['id']}"]
    assert len(row(provider, "llama3").parameters["base_urls"]) == 2


def test_a_deployment_that_goes_takes_its_model_out_and_brings_it_back(
    platform: FakeKamiwaza, provider: Provider
) -> None:
    platform.deploy("llama3")
    offers.refresh(provider)
    platform.deployments[0].listed["status"] = "INITIALIZING"
    offers.refresh(provider)
    assert enabled(provider) == []
    platform.deployments[0].listed["status"] = "DEPLOYED"
    offers.refresh(provider)
    assert enabled(provider) == ["llama3"]
    assert offers.GONE not in row(provider, "llama3").parameters


def test_what_was_switched_off_by_hand_stays_off_and_what_was_set_by_hand_stays_set(
    platform: FakeKamiwaza, provider: Provider
) -> None:
    platform.deploy("llama3")
    offers.refresh(provider)
    provider.models.update(enabled=False)
    llama = row(provider, "llama3")
    llama.capabilities, llama.parameters = ["chat", "vision"], {**llama.parameters, "temperature": 0.2}
    llama.save()
    platform.deployments[0].listed["lb_port"] = 50_999
    offers.refresh(provider)
    llama.refresh_from_db()
    assert (llama.enabled, llama.capabilities, llama.parameters["temperature"]) == (False, ["chat", "vision"], 0.2)
    assert llama.parameters["base_urls"] == ["http://127.0.0.1:50999/v1"]


def test_a_model_that_was_entered_before_it_is_deployed_waits_for_its_deployment(
    platform: FakeKamiwaza, provider: Provider
) -> None:
    provider.models.create(model_id="llama3", capabilities=["chat", "tools"])
    platform.deploy("llama3", status="INITIALIZING")
    offers.refresh(provider)
    assert enabled(provider) == []
    platform.deploy("llama3")
    offers.refresh(provider)
    assert enabled(provider) == ["llama3"]
    assert row(provider, "llama3").capabilities == ["chat", "tools"]
    assert row(provider, "llama3").parameters["base_urls"]


def test_a_reading_without_news_writes_nothing_to_the_registry(platform: FakeKamiwaza, provider: Provider) -> None:
    platform.deploy("llama3")
    offers.refresh(provider)
    before = RegistryRevision.objects.get().number
    offers.refresh(provider)
    assert RegistryRevision.objects.get().number == before
    assert AuditEntry.objects.filter(actor=offers.ACTOR).exists()


def test_a_platform_that_is_down_keeps_its_models_and_says_when_they_were_read(
    platform: FakeKamiwaza, provider: Provider
) -> None:
    platform.deploy("llama3")
    read_at = offers.refresh(provider).read_at
    platform.down = True
    offer = offers.refresh(provider)
    assert (offer.stale, offer.read_at) == (True, read_at)
    assert "503" in offer.problem
    assert enabled(provider) == ["llama3"]
    platform.down = False
    assert not offers.refresh(provider).stale


def test_a_list_of_too_many_deployments_is_not_followed(
    platform: FakeKamiwaza, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform.deploy("llama3")
    offers.refresh(provider)
    monkeypatch.setattr(kamiwaza, "MOST_ACTIVE", 1)
    platform.deploy("qwen")
    assert offers.refresh(provider).problem == "The platform lists 2 deployments; at most 1 are followed."
    assert enabled(provider) == ["llama3"]


def test_a_user_signs_in_to_read_the_list() -> None:
    with FakeKamiwaza(user=("ada", "pa55word-canary")) as platform:
        platform.deploy("llama3")
        params = {"endpoint": platform.endpoint, "username": "ada", "password": "pa55word-canary"}
        provider = Provider.objects.create(provider_id="kz", provider_type="kamiwaza", connection_params=params)
        assert offers.refresh(provider).names == ["llama3"]
        assert [request.path for request in platform.calls] == ["/api/auth/token", "/api/serving/deployments"]
        assert "pa55word" not in str(Provider.objects.get().connection_params)


def test_a_password_that_is_refused_is_a_problem_without_the_password() -> None:
    with FakeKamiwaza(user=("ada", "right")) as platform:
        params = {"endpoint": platform.endpoint, "username": "ada", "password": "wr0ng-canary"}
        provider = Provider.objects.create(provider_id="kz", provider_type="kamiwaza", connection_params=params)
        offer = offers.refresh(provider)
        result = probes.probe(provider, generate=False)
    assert "sign-in was refused" in offer.problem
    assert "canary" not in offer.problem + str(result.stages)
    assert {stage["name"]: stage["status"] for stage in result.stages}["auth"] == "failed"


def test_a_probe_lists_the_deployments(platform: FakeKamiwaza, provider: Provider) -> None:
    platform.deploy("llama3")
    result = probes.probe(provider, generate=False)
    assert result.healthy
    assert {stage["name"]: stage["status"] for stage in result.stages}["list_models"] == "ok"


def test_the_difference_that_the_admin_sees_counts_a_deployed_model_as_unchanged(
    platform: FakeKamiwaza, provider: Provider
) -> None:
    platform.deploy("llama3")
    platform.deploy("qwen")
    offers.refresh(provider)
    platform.deployments[1].listed["status"] = "FAILED"
    difference = discovery.compare(provider, discovery.offered(provider))
    assert [found.model_id for found in difference.unchanged] == ["llama3"]
    assert [found.model_id for found in difference.gone] == ["qwen"]


def test_a_recent_reading_is_used_again(platform: FakeKamiwaza, provider: Provider) -> None:
    offers.refresh_if_older(provider, 60)
    offers.refresh_if_older(provider, 60)
    assert len(platform.calls) == 1
    offers.refresh_if_older(provider, 0)
    assert len(platform.calls) == 2


@pytest.fixture
def woken(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    pks: list[int] = []
    monkeypatch.setattr(tasks.read_offer, "apply_async", lambda args, **options: pks.extend(args))
    return pks


def test_a_platform_is_read_once_per_interval(provider: Provider, woken: list[int], redis_url: str) -> None:
    Provider.objects.create(provider_id="other", provider_type="fake")
    assert tasks.read_due_offers() == 1
    assert tasks.read_due_offers() == 0
    assert woken == [provider.pk]
    with redis.Redis.from_url(redis_url) as store:
        assert 0 < store.pttl(f"gw:offer:due:{provider.pk}:60") <= 66_000


@pytest.mark.parametrize("params", [{"refresh_seconds": 0}, {"endpoint": "http://127.0.0.1:9/runtime/models/x/v1"}])
def test_a_platform_that_shall_not_be_read_is_not(provider: Provider, woken: list[int], params: dict[str, Any]) -> None:
    provider.connection_params = {**provider.connection_params, **params}
    provider.save()
    assert tasks.read_due_offers() == 0


def test_the_task_says_whether_the_platform_answered(platform: FakeKamiwaza, provider: Provider) -> None:
    platform.deploy("llama3")
    assert tasks.read_offer(provider.pk) is True
    platform.down = True
    assert tasks.read_offer(provider.pk) is False
    assert tasks.read_offer(0) is None
    assert Offer.objects.get().names == ["llama3"]


def test_a_sync_over_rest_follows_the_platform(platform: FakeKamiwaza, provider: Provider) -> None:
    platform.deploy("llama3")
    told = caller("registry:read", "registry:write").post("/providers/kz/sync").json()
    assert told["new"] == ["llama3"]
    assert enabled(provider) == ["llama3"]
    assert Offer.objects.get().names == ["llama3"]


def test_an_upstream_whose_certificate_is_not_verified_is_a_warning_in_the_admin(
    admin_client: Client, provider: Provider
) -> None:
    page = reverse("admin:providers_provider_change", args=[provider.pk])
    assert "certificate of this upstream is not verified" not in admin_client.get(page).content.decode()
    provider.connection_params = {**provider.connection_params, "verify_tls": False}
    provider.save()
    assert "certificate of this upstream is not verified" in admin_client.get(page).content.decode()
