"""A strict budget that four web processes spend at once, with streams that end, are left and fail over: never beyond the amount."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal

import pytest

from tests.inference import test_books_of_four_processes as books
from tests.inference.test_books_of_four_processes import (
    PRICES,
    PROCESSES,
    STREAMS,
    Installation,
    Stream,
    Upstream,
    _ends,
    _eventually,
)

pytestmark = pytest.mark.slow

AMOUNT = Decimal("0.02")
"""About seventy streams; seventeen of them may be under way at once, by what they cost at most."""
DEAREST = Decimal("0.00117")


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as serving:
        yield serving


@pytest.fixture
def installation(tmp_path, redis_url, upstream, monkeypatch) -> Iterator[Installation]:
    assert "amount=1000" in books.CLERK
    monkeypatch.setattr(books, "CLERK", books.CLERK.replace("amount=1000", f"amount=Decimal('{AMOUNT}')"))
    made = Installation(tmp_path, redis_url, upstream)
    yield made
    made.stop()


class Asking(Stream):
    """As the other, and content with a refusal."""

    async def run(self, ended: Counter[str]) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(self._head + self._body)
        status = (await reader.readline()).split()[1].decode()
        words = 0
        while status == "200" and (line := await reader.readline()):
            words += line.startswith(b"data: ") and b"word " in line
            if line.startswith(b"data: [DONE]") or (self.end == "waits" and words == self.words):
                break
        ended[status] += 1
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _load(installation: Installation, streams: int) -> Counter[str]:
    ended: Counter[str] = Counter()
    ends = _ends()
    await asyncio.gather(
        *(
            Asking(
                installation.ports[number % PROCESSES], installation.key, ends[number // PROCESSES % 20], 2 + number % 7
            ).run(ended)
            for number in range(streams)
        )
    )
    return ended


def _cost(upstream: Upstream) -> Decimal:
    return sum(
        (read * upstream.sold[name, "input"] + write * upstream.sold[name, "output"]) / 1_000_000
        for name, (read, write) in PRICES.items()
    )


def test_four_processes_never_spend_more_than_a_strict_budget(installation, upstream) -> None:
    ended = asyncio.run(_load(installation, STREAMS))
    assert set(ended) == {"200", "429"}, json.dumps(ended)
    assert ended["200"] >= int(AMOUNT / DEAREST)
    asyncio.run(_load(installation, STREAMS // 4))  # what was reserved and not used can be spent after all
    cost = _cost(upstream)
    assert cost <= AMOUNT
    assert _eventually(lambda: installation.books()["budget"] == [[int(cost * 10**9), 0]])
