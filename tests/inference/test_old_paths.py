from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from django.db import DatabaseError

from inference import old_paths
from inference.models import OldPathTracking, OldPathUse
from inference.old_paths import Counting

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.fixture
def counting() -> Counting:
    return Counting()


def rows() -> list[tuple[date, str, str, int]]:
    return list(
        OldPathUse.objects.order_by("day", "client", "family").values_list("day", "client", "family", "requests")
    )


@pytest.mark.parametrize(
    ("path", "family"),
    [
        ("/api/providers", "/api/providers"),
        ("/api/providers/openai/api-keys/", "/api/providers"),
        ("/providers", "/providers"),
        ("/generate", "/generate"),
        ("/api/llm/gateway/generate", "/api/llm/gateway"),
        ("/api/config/user/settings", "/api/config"),
        ("/generated", ""),
        ("/api/v1/providers", ""),
        ("/v1/chat/completions", ""),
        ("/admin/providers/", ""),
    ],
)
def test_a_path_belongs_to_the_family_that_it_lies_under(path: str, family: str) -> None:
    assert old_paths.family_of(path) == family


def test_requests_are_counted_per_day_client_and_family(counting: Counting) -> None:
    counting.note("/providers", "key:a", "Ada", now=NOON)
    counting.note("/providers", "key:a", "Ada", now=NOON + timedelta(hours=1))
    counting.note("/generate", "key:a", "Ada", now=NOON)
    counting.note("/providers", "key:b", now=NOON)
    counting.note("/providers", "key:a", "Ada", now=NOON + timedelta(days=1))

    counting.write(now=NOON + timedelta(days=1))

    day, next_day = date(2026, 11, 20), date(2026, 11, 21)
    assert rows() == [
        (day, "key:a", "/generate", 1),
        (day, "key:a", "/providers", 2),
        (day, "key:b", "/providers", 1),
        (next_day, "key:a", "/providers", 1),
    ]
    assert OldPathUse.objects.get(day=day, family="/providers", client="key:a").last_at == NOON + timedelta(hours=1)


def test_what_two_processes_count_is_added_up(counting: Counting) -> None:
    other = Counting()
    for process in (counting, other, counting):
        process.note("/providers", "key:a", now=NOON)
        process.write(now=NOON)
    assert rows() == [(NOON.date(), "key:a", "/providers", 3)]


def test_a_row_that_another_process_made_meanwhile_is_raised(
    counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    OldPathUse.objects.create(day=NOON.date(), client="key:a", family="/providers", requests=5, last_at=NOON)
    honest, missed = old_paths._raise, [0]

    def raise_after_a_miss(*args):
        if not missed:
            return honest(*args)
        return missed.pop()

    monkeypatch.setattr(old_paths, "_raise", raise_after_a_miss)
    counting.note("/providers", "key:a", now=NOON)
    counting.write(now=NOON)
    assert rows() == [(NOON.date(), "key:a", "/providers", 6)]


def test_what_the_database_does_not_take_is_kept_and_written_later(
    counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting.note("/providers", "key:a", now=NOON)
    with monkeypatch.context() as away:
        away.setattr(old_paths, "_add", _raising)
        with pytest.raises(DatabaseError):
            counting.write(now=NOON)
    counting.note("/providers", "key:a", now=NOON)
    counting.write(now=NOON)
    assert rows() == [(NOON.date(), "key:a", "/providers", 2)]


def _raising(*_: object) -> None:
    raise DatabaseError("the database is away")


def test_strangers_beyond_the_limit_are_one(counting: Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(old_paths, "MOST_STRANGERS", 2)
    for address in ("1", "2", "3", "4", "1"):
        counting.note("/providers", f"address:{address}", now=NOON)
    counting.note("/providers", "key:a", now=NOON)
    counting.write(now=NOON)
    assert {client: count for _, client, _, count in rows()} == {
        "address:1": 2,
        "address:2": 1,
        old_paths.FURTHER_STRANGERS: 2,
        "key:a": 1,
    }


def test_the_beginning_of_the_counting_is_written_once(counting: Counting) -> None:
    counting.write(now=NOON)
    Counting().write(now=NOON + timedelta(days=3))
    assert OldPathTracking.objects.get().since == NOON


def test_old_days_are_forgotten(counting: Counting) -> None:
    for days in (0, old_paths.KEPT_DAYS, old_paths.KEPT_DAYS + 1):
        counting.note("/providers", "key:a", now=NOON - timedelta(days=days))
    counting.write(now=NOON)
    assert [day for day, *_ in rows()] == [(NOON - timedelta(days=old_paths.KEPT_DAYS)).date(), NOON.date()]


@pytest.mark.django_db(transaction=True)
def test_a_stop_writes_what_is_counted(counting: Counting) -> None:
    now = datetime.now(UTC)  # the thread forgets what is old
    counting.start()
    counting.note("/providers", "key:a", now=now)
    counting.stop()
    assert rows() == [(now.date(), "key:a", "/providers", 1)]
