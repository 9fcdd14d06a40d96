"""Room for kept responses: what a client key may have here in bytes, and what goes when that is full.

Conversations go, those first whose end is the oldest, and each from its end: what a kept response goes on from stays as long as that
is there. What is stored is counted when a process first meets a key, and again after every so many bytes; most requests ask nobody.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from django.conf import settings
from django.db.models import Sum

from inference.models import Job
from inference.response_models import KeptItem, KeptResponse

_PARTS = 64
"""Of the room: one is cleared beyond what is needed, and after another one is stored it is counted again."""
_UNDER_WAY = (Job.State.QUEUED, Job.State.RUNNING)
_AT_ONCE = 500
_MOST_KEYS = 10_000
_left: dict[str, int] = {}
"""By client key: bytes that may be stored before it is counted again."""


class NoRoom(Exception):
    """What the client key has here is needed, by requests under way or by the response itself."""


class End(NamedTuple):
    """What is to be known of a kept response to let it go."""

    pk: int
    response_id: str
    previous: str
    size: int
    state: str | None
    """Of its job, where it has one."""


def make(owner: str, size: int, stays: str) -> None:
    """Of `size` bytes. The response `stays` stays, and the conversation that leads to it.

    Raises `NoRoom`; whoever then does not roll back has lost others for nothing.
    """
    most: int = settings.GATEWAY_RESPONSE_BYTES_PER_KEY
    if size > most:
        raise NoRoom
    left = _left.pop(owner, 0)
    if left < size:
        part = most // _PARTS
        free = most - _stored(owner)
        if free < size:
            free += _clear(owner, size - free + part, stays)
        if free < size:
            raise NoRoom
        left = min(free, max(size, part))
    if len(_left) >= _MOST_KEYS:
        _left.clear()
    _left[owner] = left - size


def ends_first(rows: Sequence[End], needed: Iterable[str]) -> Iterator[End]:
    """Of rows, the oldest first, in the order in which they can go: none before all that go on from it. `needed` and what they go on
    from stay."""
    followers = Counter(row.previous for row in rows)
    followers.update(needed)
    by_id = {row.response_id: row for row in rows}
    for row in rows:
        end: End | None = row
        while end is not None and not followers[end.response_id]:
            yield end
            followers[end.response_id] = 1  # it is gone: never again
            followers[end.previous] -= 1
            end = by_id.get(end.previous)


def _stored(owner: str) -> int:
    stored: int | None = KeptResponse.objects.filter(owner=owner).aggregate(stored=Sum("size"))["stored"]
    return int(stored or 0)


def _clear(owner: str, wanted: int, stays: str) -> int:
    """Let go of `wanted` bytes, or as many as can go; returns how many that were."""
    freed = 0
    while freed < wanted:
        gone: list[int] = []
        for end in _removable(owner, stays):
            gone.append(end.pk)
            freed += end.size
            if freed >= wanted or len(gone) == _AT_ONCE:
                break
        if not gone:
            break
        KeptItem.objects.filter(response__in=gone).delete()
        KeptResponse.objects.filter(pk__in=gone).only("pk").delete()
    return freed


def _removable(owner: str, stays: str) -> Iterator[End]:
    """Window by window from the oldest response on: a conversation that reaches beyond its window stays for now."""
    own = KeptResponse.objects.filter(owner=owner)
    facts = own.order_by("pk").values_list("pk", "response_id", "previous", "size", "job__state")
    after = 0
    while rows := [End(*row) for row in facts.filter(pk__gt=after)[:_AT_ONCE]]:
        after = rows[-1].pk
        followers = KeptResponse.objects.filter(previous__in=[row.response_id for row in rows])
        later = {previous for previous, pk in followers.values_list("previous", "pk") if pk > after}
        under_way = (row.response_id for row in rows if row.state in _UNDER_WAY)
        yield from ends_first(rows, {*later, *under_way, stays})
