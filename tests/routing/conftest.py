from __future__ import annotations

from collections.abc import Iterator

import pytest

from routing import snapshot


@pytest.fixture(autouse=True)
def _no_snapshot_of_another_test() -> Iterator[None]:
    """A test's registry is rolled back, and with it the number by which a snapshot is told to be fresh."""
    snapshot.replace(None)
    yield
    snapshot.replace(None)
