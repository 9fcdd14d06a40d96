from __future__ import annotations

from collections.abc import Iterator

import pytest

from routing import (
    cached_answers,
    calibration,
    health_sharing,
    loop_store,
    metering_store,
    selections,
    shared_health,
    snapshot,
)


@pytest.fixture(autouse=True)
def _no_snapshot_of_another_test() -> Iterator[None]:
    """A test's registry is rolled back, and with it the number by which a snapshot is told to be fresh."""
    snapshot.replace(None)
    yield
    snapshot.replace(None)


@pytest.fixture(autouse=True)
def all_the_time_that_redis_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway does without a Redis that is silent for a second; tests are about what it says."""
    for module in (cached_answers, calibration, loop_store, metering_store, selections):
        monkeypatch.setattr(module, "_PATIENCE_SECONDS", 60.0)
    for module in (health_sharing, shared_health):
        monkeypatch.setattr(module, "PATIENCE_SECONDS", 60.0)
