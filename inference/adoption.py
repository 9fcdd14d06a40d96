"""What processes left that were killed, or that stopped while the database was away: read from their spools into the ledger.

Every living process looks for it, and so does a command; a lock makes one of them do it, and the ledger's uniqueness makes a
second time harmless. A folder is removed when the database has all that was in it.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import msgspec
from django.conf import settings

from inference import usage_rows
from inference.attempts import RUN
from inference.batch_models import ID_PREFIX
from inference.kept_records import row_of_begun, rows_of
from inference.models import Job, UsageRecord
from inference.recording import Row
from inference.spool import Begun, Left, left_by_the_dead

logger = logging.getLogger("gateway.recording")

_ROWS_AT_ONCE = 500


def folder() -> Path:
    return Path(settings.DATA_DIR) / "spool"


def adopt(spool: Path) -> int:
    """Write what is found; returns how many records that were, new to the ledger or not. Raises when the database is away."""
    found = 0
    for left in left_by_the_dead(spool):
        try:
            found += _taken_over(left)
        except OSError as error:  # of these files; the next ones may be well
            logger.error("what a process left cannot be read: %s", error.strerror)
    return found


def _taken_over(left: Left) -> int:
    finished, ended = 0, set[str]()
    records = left.finished()
    while some := list(islice(records, _ROWS_AT_ONCE)):
        rows = rows_of(some)
        ended.update(row.request_id for row in rows)
        usage_rows.write(rows)
        finished += len(rows)
    lost = [row for row in _lost(left.begun()) if row.attempt or row.request_id not in ended]
    usage_rows.write([row for row in lost if not _has_ended(row)])
    left.remove()
    if finished or lost:
        logger.warning(
            "a process left %d records that were not written and %d requests without an end", finished, len(lost)
        )
    return finished + len(lost)


def _lost(begun: Iterable[Begun]) -> Iterator[Row]:
    """Each run of a request once. One that failed over has two slots for a moment: the later of its providers was being asked."""
    rows: dict[tuple[str, int], Row] = {}
    for one in begun:
        try:
            row = row_of_begun(one)
        except (msgspec.MsgspecError, UnicodeDecodeError, ValueError, TypeError, ArithmeticError) as error:
            logger.error("a request in the spool cannot be read and is lost: %s", type(error).__name__)
            continue
        before = rows.get((row.request_id, row.attempt))
        if before is None or before.attempts <= row.attempts:
            rows[row.request_id, row.attempt] = row
    yield from rows.values()


def _has_ended(row: Row) -> bool:
    """A run, of a job or a line of a batch, that told its end and its usage itself, in the moment before its process died."""
    if row.attempt < RUN:
        return False
    told = UsageRecord.objects.filter(request_id=row.request_id, attempt=0)
    if row.request_id.startswith(ID_PREFIX):
        # Another worker that answered the line began with it later.
        return told.filter(at__lte=row.at).exists()
    try:
        job_id = uuid.UUID(row.request_id.removeprefix("job_"))
    except ValueError:
        return False
    ended = (Job.State.SUCCEEDED, Job.State.FAILED, Job.State.CANCELLED)
    # The sweep, which ends jobs too, tells no usage.
    return told.exists() and Job.objects.filter(pk=job_id, fence=row.attempt - RUN, state__in=ended).exists()
