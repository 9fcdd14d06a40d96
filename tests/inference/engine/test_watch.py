from __future__ import annotations

import threading
import time

from inference.engine.watch import Watch


def test_only_a_block_that_takes_too_long_is_the_end() -> None:
    ended: list[str] = []
    done = threading.Event()

    def end(reason: str) -> None:
        ended.append(reason)
        done.set()

    watch = Watch(0.2, "too long", end=end)
    for _ in range(3):
        with watch.block():
            time.sleep(0.1)
    assert not ended
    with watch.block():
        assert done.wait(5)
    assert ended == ["too long"]
