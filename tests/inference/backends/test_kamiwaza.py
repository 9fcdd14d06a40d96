from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import orjson
import pytest

from inference import errors
from inference.backends import kamiwaza
from inference.backends.base import UpstreamCall
from inference.backends.kamiwaza import Kamiwaza
from providers.secrets import Secret
from routing.types import ModelView, ProviderView
from tests.fakes.kamiwaza import FakeDeployment, FakeKamiwaza
from tests.fakes.upstream import failure, rate_limited
from tests.inference import registry

PASSWORD = "pa55word-canary"


@pytest.fixture
def platform() -> Iterator[FakeKamiwaza]:
    with FakeKamiwaza() as fake:
        yield fake


def provider(platform: FakeKamiwaza, *, keys: tuple[str, ...] = (), **connection: Any) -> ProviderView:
    told = {"url_style": "kamiwaza", "base_url": platform.endpoint, "allow_private": True, **connection}
    return registry.provider(
        "kz", backend="inference.backends.kamiwaza.Kamiwaza", connection=told, keys=keys, fingerprint="kz"
    )


def model(owner: ProviderView, *deployments: FakeDeployment) -> ModelView:
    urls = [f"http://127.0.0.1:{deployment.port}/v1" for deployment in deployments]
    parameters = {"base_urls": urls, "upstream_model_id": "model"} if urls else {}
    return registry.model(owner, "llama3", parameters=parameters)


def call(asked: ModelView) -> UpstreamCall:
    fields = {"model": "llama3", "messages": [{"role": "user", "content": "Hello there"}]}
    key = asked.provider.keys[0] if asked.provider.keys else None
    raw = {name: msgspec.Raw(orjson.dumps(value)) for name, value in fields.items()}
    return UpstreamCall("chat", asked, raw, False, "req-1", key)


@asynccontextmanager
async def backend_of(owner: ProviderView) -> AsyncIterator[Kamiwaza]:
    backend = Kamiwaza(owner)
    try:
        yield backend
    finally:
        await backend.aclose()


def shown(deployment: FakeDeployment) -> list[str]:
    assert deployment.upstream is not None
    return [request.headers.get("authorization", "") for request in deployment.upstream.requests]


def counts(*deployments: FakeDeployment) -> list[int]:
    return [len(shown(deployment)) for deployment in deployments]


async def test_a_model_is_called_where_its_deployment_answers(platform: FakeKamiwaza) -> None:
    deployment, owner = platform.deploy("llama3"), provider(platform)
    async with backend_of(owner) as backend:
        reply = await backend.send(call(model(owner, deployment)))
    assert reply.status == 200
    assert deployment.upstream is not None
    assert deployment.upstream.requests[-1].json["model"] == "model"
    assert shown(deployment) == ["Bearer local"]
    assert platform.calls == []


async def test_the_provider_s_key_is_shown_to_its_deployments() -> None:
    with FakeKamiwaza(token="kz-pat-canary") as platform:
        deployment, owner = platform.deploy("llama3"), provider(platform, keys=("kz-pat-canary",))
        async with backend_of(owner) as backend:
            assert (await backend.send(call(model(owner, deployment)))).status == 200
    assert shown(deployment) == ["Bearer kz-pat-canary"]


async def test_deployments_of_one_model_take_turns(platform: FakeKamiwaza) -> None:
    first, second = platform.deploy("llama3"), platform.deploy("llama3")
    owner = provider(platform)
    async with backend_of(owner) as backend:
        for _ in range(4):
            await backend.send(call(model(owner, first, second)))
    assert counts(first, second) == [2, 2]


async def test_another_deployment_serves_when_one_is_down_and_that_one_is_left_alone_for_a_while(
    platform: FakeKamiwaza,
) -> None:
    first, second = platform.deploy("llama3"), platform.deploy("llama3")
    assert first.upstream is not None
    first.upstream.reply_with(failure(503), times=None)
    owner = provider(platform)
    async with backend_of(owner) as backend:
        for _ in range(4):
            assert (await backend.send(call(model(owner, first, second)))).status == 200
    assert counts(first, second) == [1, 4]


async def test_another_deployment_serves_when_one_is_busy_and_takes_its_turn_again(platform: FakeKamiwaza) -> None:
    first, second = platform.deploy("llama3"), platform.deploy("llama3")
    owner = provider(platform)
    assert first.upstream is not None
    async with backend_of(owner) as backend:
        await backend.send(call(model(owner, first, second)))
        first.upstream.script(rate_limited(1))
        for _ in range(2):
            assert (await backend.send(call(model(owner, first, second)))).status == 200
        await backend.send(call(model(owner, first, second)))
    assert sum(counts(first, second)) == 5


async def test_when_all_deployments_fail_the_last_failure_is_told(platform: FakeKamiwaza) -> None:
    first, second = platform.deploy("llama3"), platform.deploy("llama3")
    for deployment in (first, second):
        assert deployment.upstream is not None
        deployment.upstream.reply_with(failure(500), times=None)
    owner = provider(platform)
    async with backend_of(owner) as backend:
        with pytest.raises(errors.UpstreamFailed):
            await backend.send(call(model(owner, first, second)))
    assert counts(first, second) == [1, 1]


async def test_a_request_that_is_itself_at_fault_is_not_tried_elsewhere(platform: FakeKamiwaza) -> None:
    first, second = platform.deploy("llama3"), platform.deploy("llama3")
    for deployment in (first, second):
        assert deployment.upstream is not None
        deployment.upstream.reply_with(failure(400, "no such parameter"), times=None)
    owner = provider(platform)
    async with backend_of(owner) as backend:
        with pytest.raises(errors.UpstreamRejected):
            await backend.send(call(model(owner, first, second)))
    assert sum(counts(first, second)) == 1


@pytest.fixture
def guarded() -> Iterator[FakeKamiwaza]:
    """Whose users sign in."""
    with FakeKamiwaza(user=("ada", PASSWORD)) as fake:
        yield fake


async def test_a_token_is_fetched_once_for_a_user_name_and_a_password(guarded: FakeKamiwaza) -> None:
    deployment = guarded.deploy("llama3")
    owner = provider(guarded, username="ada", password=Secret(PASSWORD))
    async with backend_of(owner) as backend:
        for _ in range(3):
            assert (await backend.send(call(model(owner, deployment)))).status == 200
    assert shown(deployment) == ["Bearer token-1-canary"] * 3
    assert [request.path for request in guarded.calls] == ["/api/auth/token"]


async def test_a_token_that_is_refused_is_replaced_within_the_same_call(guarded: FakeKamiwaza) -> None:
    deployment = guarded.deploy("llama3")
    owner = provider(guarded, username="ada", password=Secret(PASSWORD))
    async with backend_of(owner) as backend:
        await backend.send(call(model(owner, deployment)))
        guarded.renew_token("revoked-elsewhere")
        assert (await backend.send(call(model(owner, deployment)))).status == 200
    assert shown(deployment)[-1] == "Bearer token-2-canary"


async def test_a_password_that_is_refused_is_said_without_it(guarded: FakeKamiwaza) -> None:
    deployment = guarded.deploy("llama3")
    owner = provider(guarded, username="ada", password=Secret("wrong-canary"))
    async with backend_of(owner) as backend:
        with pytest.raises(errors.UpstreamRefusedOurKey) as refused:
            await backend.send(call(model(owner, deployment)))
    assert "wrong-canary" not in refused.value.message + refused.value.detail
    assert shown(deployment) == []


async def test_a_token_is_not_relayed_in_an_error(guarded: FakeKamiwaza) -> None:
    deployment = guarded.deploy("llama3")
    assert deployment.upstream is not None
    deployment.upstream.script(failure(400, "you sent token-1-canary"))
    owner = provider(guarded, username="ada", password=Secret(PASSWORD))
    async with backend_of(owner) as backend:
        with pytest.raises(errors.UpstreamRejected) as refused:
            await backend.send(call(model(owner, deployment)))
    assert "canary" not in refused.value.message
    assert b"canary" not in refused.value.body


async def test_a_token_stays_secret_when_the_next_one_has_come(guarded: FakeKamiwaza) -> None:
    """A call that began with it may be refused only now."""
    deployment = guarded.deploy("llama3")
    owner = provider(guarded, username="ada", password=Secret(PASSWORD))
    async with backend_of(owner) as backend:
        await backend.send(call(model(owner, deployment)))
        assert backend._sign_in is not None
        backend._sign_in.forget(await backend._sign_in.token())
        await backend.send(call(model(owner, deployment)))
        assert deployment.upstream is not None
        deployment.upstream.script(failure(400, "you sent token-1-canary"))
        with pytest.raises(errors.UpstreamRejected) as refused:
            await backend.send(call(model(owner, deployment)))
    assert shown(deployment)[-1] == "Bearer token-2-canary"
    assert "canary" not in refused.value.message
    assert b"canary" not in refused.value.body


async def test_a_base_url_of_one_deployment_is_all_that_there_is(platform: FakeKamiwaza) -> None:
    deployment = platform.deploy("llama3")
    owner = provider(platform, base_url=f"http://127.0.0.1:{deployment.port}/v1")
    async with backend_of(owner) as backend:
        assert (await backend.send(call(model(owner)))).status == 200
    assert shown(deployment) == [""]


async def test_a_model_of_a_platform_without_a_deployment_says_so(platform: FakeKamiwaza) -> None:
    owner = provider(platform)
    async with backend_of(owner) as backend:
        with pytest.raises(errors.ConfigurationError, match="no deployment"):
            await backend.send(call(model(owner)))


async def test_deployments_without_end_are_forgotten_and_closed_in_the_end(
    platform: FakeKamiwaza, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kamiwaza, "_MOST_DEPLOYMENTS", 1)
    first, second = platform.deploy("a"), platform.deploy("b")
    owner = provider(platform)
    async with backend_of(owner) as backend:
        for deployment in (first, second, first):
            assert (await backend.send(call(model(owner, deployment)))).status == 200
        assert len(backend._deployments) == 1
    for deployment in (first, second):
        assert deployment.upstream is not None
        assert await asyncio.to_thread(deployment.upstream.wait_for_open_connections, 0)
