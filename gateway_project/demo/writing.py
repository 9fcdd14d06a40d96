"""Writes the month as the recorder would have: the same rows, by the same writer, with their explanations; then what is too old for
traces goes, as it would have gone by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from itertools import islice

from django.db import connection

from inference import trace_partitions, usage_rows
from inference.reasons import Reason, Reasons
from inference.recording import Entry, row_of

AT_ONCE = 5_000


class Writing:
    """`told` hears how many of each batch; `written` counts them all."""

    def __init__(self, told: Callable[[int], None]) -> None:
        self._told = told
        self._worded = Reasons()
        self._reasons: dict[str, Reason] = {}
        self._key_use: dict[int, tuple[float, str]] = {}
        self.written = 0

    def write(self, entries: Iterable[Entry]) -> None:
        entries = iter(entries)
        while some := list(islice(entries, AT_ONCE)):
            for entry in some:
                self._explain(entry)
                if entry.identity is not None:
                    self._key_use[entry.identity.key_id] = (entry.at, entry.address)
            rows = [row_of(entry) for entry in some]
            usage_rows.insert(rows)
            self.written += len(rows)
            self._told(len(rows))
        usage_rows.write_reasons(list(self._reasons.values()))
        usage_rows.write_key_use(self._key_use, {})

    def _explain(self, entry: Entry) -> None:
        ruling = entry.ruling
        if ruling is None:
            return
        if ruling.digest is None and (reason := self._worded.take(ruling)) is not None:
            self._reasons.setdefault(reason.digest, reason)
        if ruling.digest:
            # Told again as long as somebody refers to it: old explanations are deleted.
            self._reasons[ruling.digest] = self._reasons[ruling.digest]._replace(at=entry.at)


def forget_old_traces(now: datetime) -> None:
    """What nobody would see any more: the sums and the ledger have it all."""
    while trace_partitions.keep(now).rows_deleted:
        pass


def settle_statistics() -> None:
    """So that the first page is as fast as the later ones."""
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
