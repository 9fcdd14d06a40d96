from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import redis

from routing import snapshot
from routing.types import ModelView, Snapshot
from tests.inference import registry, workers
from tests.inference.door import Door


@pytest.fixture
def serve() -> Iterator[Callable[..., Snapshot]]:
    """Put models in force: `serve(model, …, keys=…)`."""

    def put(*models: ModelView, **more: object) -> Snapshot:
        built = registry.snapshot(*models, **more)
        snapshot.replace(built)
        return built

    yield put
    snapshot.replace(None)


@pytest.fixture
def store(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture(scope="module")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that adds provider types to a worker which has it on its path."""
    with workers.plugin(tmp_path_factory.mktemp("plugins")) as folder:
        yield folder


@pytest.fixture
async def door(serve: Callable[..., Snapshot]) -> AsyncIterator[Door]:
    """The data plane over one fake provider with a chat and an embedding model."""
    fake = registry.provider()
    serve(registry.model(fake), registry.model(fake, "fake-embedding", dimension=6))
    async with Door() as opened:
        yield opened
