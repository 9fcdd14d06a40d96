from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, field

from inference.engine.fairness import FairQueue, set_back_for

_numbers = itertools.count(1)


@dataclass(eq=False)
class Work:
    client: int
    priority: int = 0
    id: int = field(default_factory=lambda: next(_numbers))
    order: int = 0


def served(queue: FairQueue[Work], count: int, at_work: Counter[int] | None = None) -> list[int]:
    """The callers of the next requests, which are done at once."""
    found = []
    for _ in range(count):
        work = queue.next(at_work or Counter())
        assert work is not None
        queue.take(work)
        found.append(work.client)
    return found


def filled(*works: Work, most_of_one: int | None = None) -> FairQueue[Work]:
    queue: FairQueue[Work] = FairQueue(most_of_one)
    for work in works:
        queue.push(work)
    return queue


def test_callers_take_turns_however_many_requests_one_has() -> None:
    queue = filled(*(Work(1) for _ in range(100)), Work(2), Work(2), Work(3))
    assert served(queue, 6) == [1, 2, 3, 1, 2, 1]


def test_a_caller_with_fewer_at_work_goes_first() -> None:
    assert served(filled(Work(1), Work(2)), 1, Counter({1: 3, 2: 1})) == [2]


def test_of_one_caller_the_first_come_is_the_first_served() -> None:
    first, second = Work(1), Work(1)
    assert filled(first, second).next(Counter()) is first


def test_what_nobody_waits_for_goes_last() -> None:
    assert served(filled(Work(1, priority=1), Work(2)), 2) == [2, 1]


def test_a_caller_at_its_bound_waits() -> None:
    queue = filled(Work(1), most_of_one=2)
    assert queue.next(Counter({1: 2})) is None
    assert queue.next(Counter({1: 1})) is not None


def test_one_that_was_set_back_is_its_callers_first_again() -> None:
    queue = filled(first := Work(1), Work(1))
    queue.take(first)
    queue.push_back(first)
    assert queue.next(Counter()) is first


def test_a_removed_request_is_gone() -> None:
    queue = filled(work := Work(1))
    queue.remove(work)
    assert len(queue) == 0
    assert queue.next(Counter()) is None


def test_the_youngest_of_the_greediest_caller_gives_up_its_place() -> None:
    working = [Work(1, order=1), Work(1, order=3), Work(1, order=2), Work(2, order=4)]
    assert set_back_for(Work(3), working, Counter({1: 3, 2: 1})) is working[1]


def test_nobody_gives_up_a_place_where_all_have_as_many() -> None:
    assert set_back_for(Work(3), [Work(1), Work(2)], Counter({1: 1, 2: 1})) is None


def test_one_that_was_set_back_never_takes_the_place_back() -> None:
    working = [Work(1), Work(2)]
    assert set_back_for(Work(1), working, Counter({1: 1, 2: 1})) is None


def test_what_nobody_waits_for_gives_way_and_takes_no_place() -> None:
    background = Work(1, priority=1)
    assert set_back_for(Work(1), [background, Work(2)], Counter({1: 1, 2: 1})) is background
    assert set_back_for(background, [Work(2), Work(2)], Counter({2: 2})) is None
