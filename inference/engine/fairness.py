"""Whose request a full engine takes next, and whose it sets back. Pure.

Callers are opaque numbers: of a client key, or 0 for everybody without one. Lower priority numbers go first; requests of
equal priority are taken from the caller with the fewest at work, of those from the one that was served longest ago, and of one
caller in the order in which they came. So nobody's many requests keep another's single one waiting.
"""

from __future__ import annotations

import collections
import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Generic, Protocol, TypeVar


class Asked(Protocol):
    id: int
    client: int
    priority: int
    order: int
    """Rises with each request that is taken."""


W = TypeVar("W", bound=Asked)


class FairQueue(Generic[W]):
    """Waiting requests. `most_of_one` bounds how many of one caller are at work at a time; None does not."""

    def __init__(self, most_of_one: int | None = None) -> None:
        self._most_of_one = most_of_one
        self._lines: dict[tuple[int, int], collections.deque[W]] = {}
        self._served_at: dict[int, int] = {}
        self._ticks = itertools.count(1)

    def __len__(self) -> int:
        return sum(map(len, self._lines.values()))

    def __iter__(self) -> Iterator[W]:
        return itertools.chain.from_iterable(self._lines.values())

    def push(self, work: W) -> None:
        self._line(work).append(work)

    def push_back(self, work: W) -> None:
        """Of one that was taken and set back: it is the first of its caller again."""
        self._line(work).appendleft(work)

    def _line(self, work: W) -> collections.deque[W]:
        return self._lines.setdefault((work.priority, work.client), collections.deque())

    def next(self, at_work: Mapping[int, int]) -> W | None:
        """The one whose turn it is, still in the queue; None when nobody may begin. `at_work` counts by caller."""
        open_lines = [
            (priority, at_work.get(client, 0), self._served_at.get(client, 0), client)
            for priority, client in self._lines
            if self.may_begin(client, at_work)
        ]
        if not open_lines:
            return None
        priority, _, _, client = min(open_lines)
        return self._lines[priority, client][0]

    def may_begin(self, client: int, at_work: Mapping[int, int]) -> bool:
        """Whether another of this caller may, whoever's turn it is."""
        return self._most_of_one is None or at_work.get(client, 0) < self._most_of_one

    def take(self, work: W) -> None:
        """It begins."""
        self.remove(work)
        self._served_at[work.client] = next(self._ticks)
        waiting = {client for _, client in self._lines}
        if len(self._served_at) > 2 * len(waiting) + 256:
            self._served_at = {client: at for client, at in self._served_at.items() if client in waiting}

    def remove(self, work: W) -> None:
        line = self._line(work)
        line.remove(work)
        if not line:
            del self._lines[work.priority, work.client]


def set_back_for(newcomer: W, working: Iterable[W], at_work: Mapping[int, int]) -> W | None:
    """Who gives up a place: somebody of less priority, else of a caller who holds two more than the newcomer's. None: nobody.

    Two more, so that the one who was set back never has a reason to return the favour.
    """
    own = at_work.get(newcomer.client, 0)
    candidates = [
        work
        for work in working
        if work.priority > newcomer.priority
        or (work.priority == newcomer.priority and at_work.get(work.client, 0) >= own + 2)
    ]
    return max(candidates, key=lambda work: (work.priority, at_work.get(work.client, 0), work.order), default=None)
