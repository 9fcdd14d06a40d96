from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from inference.alert_deciding import Reading, Standing, Watch, decide

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
MINUTES = timedelta(minutes=1)


def reading(value: float, subject: str = "a", requests: int | None = None) -> Reading:
    return Reading(subject, subject, Decimal(str(value)), requests=requests)


def standing(told: int = 1, well: int | None = None, subject: str = "a") -> Standing:
    return Standing(1, subject, NOW - told * MINUTES, None if well is None else NOW - well * MINUTES)


def watch(**told: object) -> Watch:
    return Watch(Decimal(5), **told)  # type: ignore[arg-type]


def test_what_is_above_the_threshold_begins() -> None:
    decided = decide(watch(), [reading(5.1), reading(5, "b")], [], NOW)
    assert [one.subject for one in decided.begin] == ["a"]


def test_a_rule_that_fires_below_turns_round() -> None:
    decided = decide(watch(below=True), [reading(5.1), reading(4, "b")], [], NOW)
    assert [one.subject for one in decided.begin] == ["b"]


def test_too_few_requests_say_nothing() -> None:
    decided = decide(watch(least_requests=10), [reading(100, requests=9), reading(100, "b", requests=10)], [], NOW)
    assert [one.subject for one in decided.begin] == ["b"]


def test_what_is_under_way_does_not_begin_again() -> None:
    decided = decide(watch(), [reading(9)], [standing()], NOW)
    assert (decided.begin, [one for one, _ in decided.still]) == ([], [standing()])


def test_a_reminder_is_due_after_its_time_and_not_before() -> None:
    early = decide(watch(remind_every=10 * MINUTES), [reading(9)], [standing(told=9)], NOW)
    due = decide(watch(remind_every=10 * MINUTES), [reading(9)], [standing(told=10)], NOW)
    assert (len(early.remind), len(due.remind)) == (0, 1)


def test_an_end_waits_until_all_was_well_for_long_enough() -> None:
    held = watch(recover_after=2 * MINUTES)
    assert decide(held, [reading(1)], [standing()], NOW).well == [standing()]
    waiting = decide(held, [], [standing(well=1)], NOW)
    assert (waiting.well, waiting.end) == ([], [])
    assert decide(held, [], [standing(well=2)], NOW).end == [standing(well=2)]


def test_without_a_wait_it_ends_at_once() -> None:
    assert decide(watch(), [], [standing()], NOW).end == [standing()]
