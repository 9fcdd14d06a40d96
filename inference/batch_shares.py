"""Who may have how many lines under way: batches of one client key among each other, and all batches of one worker. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

HIGH, NORMAL, LOW = 0, 1, 2
PRIORITIES = {"high": HIGH, "normal": NORMAL, "low": LOW}


@dataclass(frozen=True, slots=True)
class Wish:
    """A batch that is at work. `most` is what it may have at all, None for no bound of its own."""

    batch_id: str
    priority: int
    created_at: datetime
    most: int | None = None


def shared(limit: int, wishes: Sequence[Wish]) -> dict[str, int]:
    """Lines by batch, `limit` together: those of a higher priority take all they may, equals share, the older one gets the odd line."""
    left, given = limit, dict.fromkeys((wish.batch_id for wish in wishes), 0)
    for priority in sorted({wish.priority for wish in wishes}):
        equals = sorted((w for w in wishes if w.priority == priority), key=lambda w: (w.created_at, w.batch_id))
        open_ones = [wish for wish in equals if wish.most is None or wish.most > 0]
        while left and open_ones:
            each, odd = divmod(left, len(open_ones))
            for place, wish in enumerate(tuple(open_ones)):
                wanted = each + (place < odd)
                room = wanted if wish.most is None else min(wanted, wish.most - given[wish.batch_id])
                given[wish.batch_id] += room
                left -= room
                if wish.most is not None and given[wish.batch_id] >= wish.most:
                    open_ones.remove(wish)
    return given
