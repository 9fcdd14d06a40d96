"""Promises 0-05, 0-06, 0-08, 0-15 and 0-25: the paths that the frontends of a source system ask."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from rest_framework.test import APIClient

from providers import actions, offers
from providers.models import ProbeResult, Provider
from routing import issuing, selections, snapshot
from routing.models import Policy
from tests.callers import caller, with_key
from tests.fakes.kamiwaza import FakeKamiwaza

pytestmark = pytest.mark.django_db

LIST, SELECT, HEALTH = "/api/models", "/api/models/select", "/api/models/health"


@pytest.fixture(autouse=True)
def _no_snapshot() -> Iterator[None]:
    snapshot.replace(None)
    yield
    snapshot.replace(None)


@pytest.fixture
def platform() -> Iterator[FakeKamiwaza]:
    with FakeKamiwaza() as fake:
        fake.deploy("llama3")
        fake.deploy("qwen")
        yield fake


@pytest.fixture
def provider(platform: FakeKamiwaza) -> Provider:
    made = Provider.objects.create(
        provider_id="kz", provider_type="kamiwaza", connection_params={"endpoint": platform.endpoint}
    )
    offers.refresh(made)
    made.models.filter(model_id="qwen").update(capabilities=["chat", "vision"])
    snapshot.replace(None)
    return made


def policies(**targets: str) -> None:
    for name, target in targets.items():
        Policy.objects.create(name=name, kind="alias", document={"targets": [{"model": target}]})


@pytest.mark.parametrize("path", [LIST, LIST + "/"])
def test_the_list_has_the_shape_that_frontends_read(provider: Provider, path: str) -> None:
    policies(default="qwen", fallback="llama3")
    told = caller("generate").get(path).json()
    assert told["total"] == len(told["models"]) == 2
    assert {"id", "name", "status", "endpoint", "model_type"} <= told["models"][0].keys()
    assert {model["name"]: model["status"] for model in told["models"]} == {"llama3": "active", "qwen": "active"}
    assert (told["default_model"], told["fallback_model"]) == ("qwen", "llama3")
    assert told["stale"] is False


def test_where_a_model_answers_is_shown_to_those_who_may_read_the_registry(
    provider: Provider, platform: FakeKamiwaza
) -> None:
    own = f"http://127.0.0.1:{platform.deployments[0].port}/v1"
    assert caller("registry:read").get(LIST).json()["models"][0]["endpoint"] == own
    assert caller("generate").get(LIST).json()["models"][0]["endpoint"] == "http://testserver/v1"


def test_a_list_that_cannot_be_read_again_says_when_it_was_read(provider: Provider, platform: FakeKamiwaza) -> None:
    platform.down = True
    offer = offers.refresh(provider)
    told = caller("generate").get(LIST).json()
    assert told["total"] == 2
    assert told["stale"] is True
    assert told["models"][0]["stale"] is True
    assert offer.read_at is not None
    assert told["read_at"].startswith(offer.read_at.isoformat()[:19])


def select(body: Any, **headers: str) -> Any:
    return caller("generate").post(SELECT, body, headers=headers)


def test_a_model_is_selected_by_its_name(provider: Provider) -> None:
    answer = select({"model_name": "qwen"})
    assert answer.status_code == 200
    assert (answer.json()["selected_model"], answer.json()["status"]) == ("qwen", "success")
    assert "warning" not in answer.json()


def test_a_model_is_selected_by_what_it_declares(provider: Provider) -> None:
    assert select({"capability": "vision"}).json()["selected_model"] == "qwen"
    assert select({"capability": "chat"}).json()["selected_model"] == "llama3"


@pytest.mark.parametrize("body", [{"model_name": "qwenn"}, {"capability": "telepathy"}])
def test_what_is_not_there_is_a_404(provider: Provider, body: dict[str, str]) -> None:
    answer = select(body)
    assert answer.status_code == 404
    assert answer.json()["code"] == "model_not_found"


def test_an_alias_is_selected_with_a_warning(provider: Provider) -> None:
    policies(**{"gpt-5": "qwen"})
    told = select({"model_name": "gpt-5"}).json()
    assert told["selected_model"] == "qwen"
    assert "gpt-5" in told["warning"]


@pytest.mark.parametrize("body", [{}, {"model_name": "", "capability": None}])
def test_a_choice_of_nothing_is_a_400_that_names_the_field(provider: Provider, body: dict[str, Any]) -> None:
    answer = select(body)
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == "model_name"


def test_a_choice_is_kept_for_its_session_or_for_the_key(provider: Provider) -> None:
    row, secret = issuing.issue("tests", ("generate",))
    client = with_key(secret.reveal())
    told = [
        client.post(SELECT, {"model_name": "qwen"}, headers={"x-session-id": "s1"}).json()["session_id"],
        client.post(SELECT, {"model_name": "llama3", "session_id": "s2"}).json()["session_id"],
        client.post(SELECT, {"model_name": "kz/qwen"}).json()["session_id"],
    ]
    assert told == ["s1", "s2", None]
    kept = [selections.read(row.prefix, session) for session in ("s1", "s2", None, "s3")]
    assert kept == ["qwen", "llama3", "kz/qwen", None]


def test_a_choice_that_cannot_be_kept_is_not_promised(provider: Provider, settings: Any) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    assert select({"model_name": "qwen"}).status_code == 503


def test_health_is_well_while_the_upstream_is(provider: Provider) -> None:
    told = caller("generate").get(HEALTH).json()
    assert (told["healthy"], told["models_count"], sorted(told["models"])) == (True, 2, ["llama3", "qwen"])
    assert told["circuit_breaker_healthy"] is True
    assert told["endpoint"].startswith("http")
    assert told["message"]


def test_health_answers_200_also_when_the_upstream_is_down(provider: Provider, platform: FakeKamiwaza) -> None:
    platform.down = True
    offers.Offer.objects.update(tried_at=None)
    answer = caller("generate").get(HEALTH)
    assert answer.status_code == 200
    assert answer.json()["healthy"] is False
    assert answer.json()["models_count"] == 2


def test_health_is_not_well_while_a_platform_is_down_though_others_serve(
    provider: Provider, platform: FakeKamiwaza
) -> None:
    actions.create_provider({"provider_id": "a", "provider_type": "fake", "priority": 1}, models=[{"model_id": "demo"}])
    platform.down = True
    offers.Offer.objects.update(tried_at=None)
    told = caller("generate").get(HEALTH).json()
    assert told["healthy"] is False
    assert "kz" in told["message"]


def test_health_is_not_well_when_the_default_and_what_follows_it_were_found_down(provider: Provider) -> None:
    policies(default="qwen")
    actions.create_provider({"provider_id": "b", "provider_type": "fake"}, models=[{"model_id": "demo"}])
    ProbeResult.objects.create(provider=provider, healthy=False, duration_ms=1)
    assert caller("generate").get(HEALTH).json()["healthy"] is False
    ProbeResult.objects.create(provider=provider, healthy=True, duration_ms=1)
    assert caller("generate").get(HEALTH).json()["healthy"] is True


def test_an_empty_gateway_is_not_healthy_and_says_why() -> None:
    told = caller("generate").get(HEALTH).json()
    assert (told["healthy"], told["models_count"], told["models"]) == (False, 0, [])
    assert "No model" in told["message"]


@pytest.mark.parametrize("path", [LIST, HEALTH])
def test_nothing_is_told_without_a_key(path: str) -> None:
    assert APIClient().get(path).status_code == 401
