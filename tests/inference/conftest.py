from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from routing import snapshot
from routing.types import ModelView, Snapshot
from tests.inference import registry
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
async def door(serve: Callable[..., Snapshot]) -> AsyncIterator[Door]:
    """The data plane over one fake provider with a chat and an embedding model."""
    fake = registry.provider()
    serve(registry.model(fake), registry.model(fake, "fake-embedding", dimension=6))
    async with Door() as opened:
        yield opened
