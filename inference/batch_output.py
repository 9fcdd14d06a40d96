"""The last thing that is done with a batch: its answers become files, in the order of its input, and it is over."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, OuterRef

from inference import batch_lines, batches, kept_files
from inference.batch_models import Batch, BatchAnswer
from inference.batches import Claim
from inference.file_models import KeptFile

_AT_ONCE = 200
_LEASE_EVERY_SECONDS = 3.0

_LEFT = timedelta(days=1)

_WHY = {
    Batch.State.EXPIRED: batch_lines.EXPIRED,
    Batch.State.CANCELLED: batch_lines.CANCELLED,
    # A line whose answer would be missing is never passed over in silence.
    Batch.State.COMPLETED: batch_lines.STOPPED,
}


class _File:
    """Made with its first line: a batch without errors has no error file."""

    def __init__(self, batch: Batch, name: str) -> None:
        self._batch, self._name = batch, name
        self._writer: kept_files.Writer | None = None

    def write(self, line: bytes) -> None:
        if self._writer is None:
            self._writer = kept_files.Writer(batches.result_file(self._batch, self._name))
        self._writer.write(line)

    def end(self) -> str:
        return "" if self._writer is None else self._writer.end().pk


def write(held: Claim, batch: Batch) -> bool:
    """False when the batch was lost on the way; whoever has it now begins anew."""
    # Those that are ready are the results of a batch that has ended meanwhile.
    unfinished = KeptFile.objects.filter(owner=batch.owner, made_by=batch.pk, ready=False)
    for begun in unfinished.values_list("pk", flat=True):
        kept_files.delete(begun)
    output, errors, never_asked = _File(batch, "output"), _File(batch, "error"), 0
    renew_at = time.monotonic() + _LEASE_EVERY_SECONDS
    for ok, asked, line in _lines(batch):
        never_asked += not asked
        (output if ok else errors).write(line)
        if time.monotonic() >= renew_at:
            if not batches.keep_lease(held):
                return False
            renew_at = time.monotonic() + _LEASE_EVERY_SECONDS
    if batch.ends_as == Batch.State.FAILED:
        never_asked = max(0, batch.total - batch.completed - batch.failed)
    with transaction.atomic():
        ended = batches.end(held, batch.ends_as, output.end(), errors.end(), never_asked)
        if not ended:
            transaction.set_rollback(True)
    if ended:
        forget_answers(batch.pk)
    return ended


def forget_answers(batch_id: str) -> None:
    """A few at a time: nobody else who writes has to wait for long."""
    while some := list(BatchAnswer.objects.filter(batch_id=batch_id).values_list("pk", flat=True)[:500]):
        BatchAnswer.objects.filter(pk__in=some).delete()


def forget_left(now: datetime) -> int:
    """Delete the answers of batches that ended a day ago, whose worker was killed before it did; returns of how many batches."""
    left = BatchAnswer.objects.filter(batch_id=OuterRef("pk"))
    over = Batch.objects.filter(Exists(left), state__in=Batch.OVER, ended_at__lt=now - _LEFT)
    found = list(over.order_by().values_list("pk", flat=True)[:100])
    for batch_id in found:
        forget_answers(batch_id)
    return len(found)


def _lines(batch: Batch) -> Iterator[tuple[bool, bool, bytes]]:
    """In the order of the input: whether it went well, whether it was asked at all, and the line itself."""
    answers = _answers(batch.pk)
    # One that failed may have an input that cannot be read.
    if batch.completed + batch.failed >= batch.total or batch.ends_as == Batch.State.FAILED:
        yield from ((answer.ok, True, answer.content.reveal().encode()) for answer in answers)
        return
    following = next(answers, None)
    raw_lines = kept_files.lines(batch.input_file_id, settings.GATEWAY_MAX_BODY_BYTES)
    for number, raw in batch_lines.numbered(raw_lines) if batch.total else ():
        if following is not None and following.number == number:
            yield following.ok, True, following.content.reveal().encode()
            following = next(answers, None)
            continue
        custom_id = batch_lines.read(number, raw, batch.endpoint).custom_id
        request_id = batches.request_id(batch.pk, number)
        yield False, False, batch_lines.never_asked(request_id, custom_id, _WHY[Batch.State(batch.ends_as)])
    if following is not None:  # whatever became of its input, an answer is not lost
        yield following.ok, True, following.content.reveal().encode()
        yield from ((answer.ok, True, answer.content.reveal().encode()) for answer in answers)


def _answers(batch_id: str) -> Iterator[BatchAnswer]:
    last = 0
    while some := list(BatchAnswer.objects.filter(batch_id=batch_id, number__gt=last).order_by("number")[:_AT_ONCE]):
        yield from some
        last = some[-1].number
