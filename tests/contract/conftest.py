from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway_project import health
from inference.endpoints import messages
from routing import loop_store, selections


@pytest.fixture(scope="module", autouse=True)
def all_the_time_that_others_need() -> Iterator[None]:
    """A gateway does without a Redis, or an upstream's count of tokens, that takes long; tests are about what clients are told."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (health, loop_store, selections):
            patch.setattr(module, "_PATIENCE_SECONDS", 60.0)
        patch.setattr(messages, "COUNT_WITHIN_SECONDS", 60.0)
        yield
