"""Promise 0-12: a breaker for each model, and a fallback that is asked only while it is itself well."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from inference import client, errors
from inference.recording import Recorder
from providers import offers
from providers.models import Provider
from routing import health, snapshot
from routing.models import Policy
from tests.fakes.kamiwaza import FakeDeployment, FakeKamiwaza
from tests.fakes.upstream import failure
from tests.inference import workers

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def platform(client_recorder: Recorder) -> Iterator[FakeKamiwaza]:
    workers.fresh_registry()
    health.replace(None)
    with FakeKamiwaza() as fake:
        fake.deploy("llama3")
        fake.deploy("qwen")
        provider = Provider.objects.create(
            provider_id="kz",
            provider_type="kamiwaza",
            connection_params={"endpoint": fake.endpoint},
            breaker={"failure_threshold": 3},
        )
        offers.refresh(provider)
        document = {
            "targets": [{"model": "llama3"}],
            "fallbacks": ["qwen"],
            "retries": {"attempts": 0},
        }
        Policy.objects.create(name="default", kind="alias", document=document)
        yield fake
    health.replace(None)
    snapshot.replace(None)


def calls(deployment: FakeDeployment) -> int:
    assert deployment.upstream is not None
    return len(deployment.upstream.requests)


def test_each_model_has_its_breaker_and_a_fallback_that_is_down_is_not_asked(platform: FakeKamiwaza) -> None:
    default, fallback = platform.deployments
    assert default.upstream is not None
    assert fallback.upstream is not None

    default.upstream.reply_with(failure(500), times=None)
    for _ in range(5):
        assert client.chat("Hello", "default").model_id == "qwen"
    assert calls(default) == 3, "its breaker opened after three failures"

    fallback.upstream.reply_with(failure(500), times=None)
    for _ in range(5):
        with pytest.raises(errors.GatewayError):
            client.chat("Hello", "default")
    assert calls(fallback) == 5 + 3
    with pytest.raises(errors.GatewayError) as refused:
        client.chat("Hello", "default")
    assert (refused.value.status, refused.value.code) == (503, "no_healthy_target")
