"""Room for kept responses: the oldest conversations of a client key go, each from its end, and no other key's."""

from __future__ import annotations

from typing import Any

import pytest

from inference import kept_responses, response_room
from inference.models import Job, KeptItem, KeptResponse
from inference.response_keeping import Turn
from inference.response_room import End, NoRoom, ends_first

OWNER, OTHER = "gw-owner", "gw-other"
A_RESPONSE = 1000
"""Bytes of one that `kept` makes, and a little more."""


@pytest.fixture(autouse=True)
def _counted_anew() -> None:
    response_room._left.clear()


def kept(name: str, previous: str = "", *, owner: str = OWNER, length: int = 700, **more: Any) -> KeptResponse:
    said = {"type": "message", "id": f"msg_{name}", "content": [{"type": "output_text", "text": "x" * length}]}
    response = {"id": name, "status": "completed", "output": [said]}
    return kept_responses.keep(Turn(owner, "m", previous, [{"role": "user", "content": "?"}], response), **more)


def there(owner: str = OWNER) -> set[str]:
    return set(KeptResponse.objects.filter(owner=owner).values_list("response_id", flat=True))


def row(number: int, previous: int = 0) -> End:
    return End(number, str(number), str(previous or ""), 10, None)


@pytest.mark.parametrize(
    ("rows", "needed", "order"),
    [
        ([row(1), row(2), row(3)], [], [1, 2, 3]),
        ([row(1), row(2), row(3, 1), row(4)], [], [2, 3, 1, 4]),
        ([row(1), row(2, 1), row(3, 1), row(4, 3)], [], [2, 4, 3, 1]),
        ([row(1), row(2, 1), row(3)], ["2"], [3]),
        ([row(1), row(2, 1), row(3, 2)], ["1"], [3, 2]),
    ],
)
def test_conversations_go_from_their_ends_the_oldest_end_first(rows: Any, needed: list[str], order: list[int]) -> None:
    assert [end.pk for end in ends_first(rows, needed)] == order


@pytest.mark.django_db
class TestKeeping:
    @pytest.fixture(autouse=True)
    def _little_room(self, settings: Any) -> None:
        settings.GATEWAY_RESPONSE_BYTES_PER_KEY = 4 * A_RESPONSE

    def test_the_conversation_that_was_silent_for_longest_goes_with_its_items(self) -> None:
        kept("old")
        kept("begun")
        kept("old-goes-on", "old")
        kept("later", owner=OTHER)
        for name in ("branch 1", "branch 2"):
            kept(name, "begun")
        assert there() == {"old", "begun", "branch 1", "branch 2"}
        kept("branch 3", "begun")
        assert there() == {"begun", "branch 1", "branch 2", "branch 3"}
        assert there(OTHER) == {"later"}
        assert not KeptItem.objects.filter(item_id="msg_old").exists()

    def test_windows_do_not_tear_a_conversation(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(response_room, "_AT_ONCE", 1)
        kept("held")
        kept("old")
        kept("held-on", "held")
        kept("new")
        kept("newer")
        assert there() == {"held", "held-on", "new", "newer"}

    def test_what_can_have_no_room_is_not_kept_and_nothing_goes_for_it(self) -> None:
        kept("other")
        kept("a")
        kept("b", "a")
        for name, previous, length in (("huge", "", 5 * A_RESPONSE), ("c", "b", 2 * A_RESPONSE)):
            with pytest.raises(NoRoom):
                kept(name, previous, length=length)
        assert there() == {"other", "a", "b"}

    def test_what_a_worker_is_to_answer_stays_and_its_answer_is_always_kept(self) -> None:
        job = Job.objects.create(owner=OWNER, request={}, model="m")
        queued = kept("queued", length=10, job=job)
        kept("done")
        kept("new", length=2800)
        assert there() == {"queued", "new"}
        for length in (2 * A_RESPONSE, 6 * A_RESPONSE):
            answer = {"type": "message", "id": "msg_answer", "content": "y" * length}
            kept_responses.finish(queued, {"id": "queued", "status": "completed", "output": [answer]})
            assert there() == {"queued"}
            assert queued.size > length

    def test_most_requests_count_nothing(self, django_assert_max_num_queries: Any, settings: Any) -> None:
        settings.GATEWAY_RESPONSE_BYTES_PER_KEY = 1024**3
        kept("first")
        with django_assert_max_num_queries(6) as queries:
            kept("second")
        assert not any("SUM" in query["sql"] for query in queries.captured_queries)
