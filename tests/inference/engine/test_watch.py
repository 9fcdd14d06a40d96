from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from inference.engine import watch
from inference.engine.watch import Watch
from tests.inference.workers import eventually


def test_only_a_block_that_takes_too_long_is_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, looks, ended = [0.0], [0], []

    def sleep(_: float) -> None:
        looks[0] += 1
        time.sleep(0.001)

    def pass_by(seconds: float) -> None:
        clock[0] += seconds
        seen = looks[0]
        assert eventually(lambda: ended or looks[0] >= seen + 2)

    monkeypatch.setattr(watch, "time", SimpleNamespace(monotonic=lambda: clock[0], sleep=sleep))
    guarding = Watch(10.0, "too long", end=ended.append)
    for _ in range(3):
        with guarding.block():
            pass_by(6.0)
    assert not ended
    with guarding.block():
        pass_by(11.0)
    assert ended == ["too long"]
