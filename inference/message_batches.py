"""Anthropic's message batches: our batches of `/v1/messages`, seen as that API has them.

Both views are of one row, so one that was made here is found at `/v1/batches` too. Its requests lie in a file of its key, and its
results are read out of the files that every batch leaves.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from inference import batch_lines, batch_output, batches, kept_files
from inference.batch_models import Batch
from inference.errors import BodyTooLarge, InvalidRequest, NotFound
from inference.file_models import KeptFile
from inference.wire import message_batches as wire
from inference.wire import tags
from routing.types import Identity

TAGS = "x-gateway-tags"
"""The header whose tags all requests of a batch get."""

_LONGEST_RESULT = 1 << 30
_AT_ONCE_BYTES = 64 * 1024
State = Batch.State


def own(owner: str) -> QuerySet[Batch]:
    """The message batches of a client key."""
    return Batch.objects.filter(owner=owner, endpoint=wire.ENDPOINT)


# Making and ending ----------------------------------------------------------------------------------------------------


def create(body: Iterable[bytes], headers: Mapping[str, str], identity: Identity) -> Batch:
    """Out of a request's body, which is never whole in memory, and its headers. Raises `InvalidRequest`, `BodyTooLarge` and `LimitReached`."""
    batches.check_open(identity.prefix)
    named, now = tags.read(headers.get(TAGS, ""), TAGS), timezone.now()
    file = KeptFile(
        owner=identity.prefix,
        filename="message_batch.jsonl",
        purpose=kept_files.BATCH,
        created_at=now,
        expires_at=now + kept_files.ABANDONED,  # unless it becomes a batch
    )
    told = tuple((name, headers[name]) for name in batch_lines.HEADERS if name in headers)
    requests = wire.Requests(settings.GATEWAY_MAX_BODY_BYTES, told)
    file = _kept(file, requests.lines(body))
    asked: dict[str, Any] = {
        "endpoint": wire.ENDPOINT,
        "completion_window": batches.WINDOW,
        "input_file_id": file.pk,
        "metadata": {"tags": ",".join(named)} if named else None,
    }
    try:
        with transaction.atomic():
            batch = batches.create(asked, identity, headers.get(batches.PRIORITY_HEADER, ""))
            # They were looked at on their way in: one that ends before it begins has a result for each.
            batch.total = requests.count
            batch.save(update_fields=["total"])
            usual = kept_files.usual_expiry(now)
            KeptFile.objects.filter(pk=file.pk).update(filename=_input_of(batch), expires_at=usual)
    except BaseException:
        kept_files.delete(file.pk)
        raise
    return batch


def _kept(file: KeptFile, lines: Iterator[bytes]) -> KeptFile:
    most: int = settings.GATEWAY_MAX_FILE_BYTES
    room = kept_files.room_of(file.owner)
    try:
        kept_files.keep(file, lines, min(most, room))
    except kept_files.TooLarge:
        if room < most:
            raise kept_files.full("requests") from None
        raise BodyTooLarge(f"requests: together they are larger than {most} bytes", param="requests") from None
    kept_files.check_room(file, "requests")
    return file


def delete(batch: Batch) -> None:
    """With its files. Raises `InvalidRequest` while it is not over."""
    if not batch.is_over:
        raise InvalidRequest(
            f"Message batch {wire.theirs(batch.pk)} is still being processed: cancel it, and delete it when it has ended.",
            param="message_batch_id",
        )
    batch_output.forget_answers(batch.pk)
    # A file that its key had left here before is the key's own.
    made = Q(made_by=batch.pk) | Q(pk=batch.input_file_id, filename=_input_of(batch))
    for file_id in list(KeptFile.objects.filter(made, owner=batch.owner).values_list("pk", flat=True)):
        kept_files.delete_unread(file_id)
    batch.delete()


def _input_of(batch: Batch) -> str:
    return f"{wire.theirs(batch.pk)}.jsonl"


# Telling ----------------------------------------------------------------------------------------------------------------


def document(batch: Batch, results_url: str) -> dict[str, Any]:
    """Anthropic's object. What holds one that waits stands under `x_gateway`."""
    archived_at = _archived_at(batch)
    told: dict[str, Any] = {
        "id": wire.theirs(batch.pk),
        "type": "message_batch",
        "processing_status": _status(batch),
        "request_counts": counts(batch),
        "ended_at": _time(batch.ended_at),
        "created_at": _time(batch.created_at),
        "expires_at": _time(batch.expires_at),
        "archived_at": _time(archived_at),
        "cancel_initiated_at": _time(batch.cancelling_at),
        "results_url": results_url if batch.is_over and archived_at is None else None,
    }
    if batch.held:
        told["x_gateway"] = {"held": batch.held, "held_until": _time(batch.held_until)}
    return told


def counts(batch: Batch) -> dict[str, int]:
    """By how the requests ended; all are being processed until the whole batch has ended."""
    if not batch.is_over:
        return _counted(processing=batch.total)
    succeeded = batch.completed if batch.output_file_id else 0
    expired = batch.never_asked if batch.state == State.EXPIRED else 0
    canceled = batch.never_asked if batch.state == State.CANCELLED else 0
    errored = batch.total - succeeded - expired - canceled
    return _counted(succeeded=succeeded, errored=errored, expired=expired, canceled=canceled)


def _counted(**found: int) -> dict[str, int]:
    return dict.fromkeys(("processing", "succeeded", "errored", "canceled", "expired"), 0) | found


def _status(batch: Batch) -> str:
    if batch.is_over:
        return "ended"
    return "canceling" if batch.cancelling_at is not None else "in_progress"


def _archived_at(batch: Batch) -> datetime | None:
    """When its files went."""
    if batch.ended_at is None:
        return None
    kept = batch.output_seconds
    gone_at = batch.ended_at + (timedelta(days=settings.GATEWAY_FILE_DAYS) if kept is None else timedelta(seconds=kept))
    return gone_at if gone_at <= timezone.now() else None


def _time(at: datetime | None) -> str | None:
    return None if at is None else at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


# Results ----------------------------------------------------------------------------------------------------------------


def results(batch: Batch) -> Iterator[bytes]:
    """JSON lines, many at once. Raises `InvalidRequest` while there are none and `NotFound` when there are none any more, at once."""
    if not batch.is_over:
        raise InvalidRequest(
            f"Message batch {wire.theirs(batch.pk)} has no results yet: it is {_status(batch)}.",
            param="message_batch_id",
        )
    _check_kept(batch)
    return _together(_results(batch))


def _check_kept(batch: Batch) -> None:
    files = [file_id for file_id in (batch.output_file_id, batch.error_file_id) if file_id]
    if batch.state == State.FAILED:
        files.append(batch.input_file_id)
    if kept_files.own(batch.owner).filter(pk__in=files).count() < len(set(files)):
        raise NotFound(f"The results of message batch {wire.theirs(batch.pk)} are not kept any more.")


def _results(batch: Batch) -> Iterator[bytes]:
    told: set[str] = set()
    for file_id in filter(None, (batch.output_file_id, batch.error_file_id)):
        for line in kept_files.lines(file_id, _LONGEST_RESULT):
            custom_id, result = wire.result_of(line)
            if batch.state == State.FAILED:
                told.add(custom_id)
            yield result
    if batch.state == State.FAILED and batch.total:
        yield from _of_the_rest(batch, told)
    _check_kept(batch)  # of what was deleted meanwhile the pieces only end; whoever reads must not take that for all


def _of_the_rest(batch: Batch, told: set[str]) -> Iterator[bytes]:
    """What a batch that failed says of the requests that no file of it names."""
    why = batch.errors[0]["message"] if batch.errors else batch_lines.STOPPED[1]
    raw_lines = kept_files.lines(batch.input_file_id, settings.GATEWAY_MAX_BODY_BYTES)
    for number, raw in batch_lines.numbered(raw_lines):
        custom_id = batch_lines.read(number, raw, batch.endpoint).custom_id
        if custom_id not in told:
            yield wire.failed(custom_id, why)


def _together(lines: Iterator[bytes]) -> Iterator[bytes]:
    gathered = bytearray()
    for line in lines:
        gathered += line
        if len(gathered) >= _AT_ONCE_BYTES:
            yield bytes(gathered)
            gathered.clear()
    if gathered:
        yield bytes(gathered)
