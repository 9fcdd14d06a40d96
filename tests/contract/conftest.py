from __future__ import annotations

from collections.abc import Iterator

import pytest

from inference.endpoints import messages


@pytest.fixture(scope="module", autouse=True)
def all_the_time_that_an_upstream_needs() -> Iterator[None]:
    """A gateway does without an upstream's count of tokens that takes long; tests are about what clients are told."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(messages, "COUNT_WITHIN_SECONDS", 60.0)
        yield
