"""Batches: made, claimed, renewed, held, cancelled, ended and found again. The row is the truth, a Celery message a wake-up.

A batch goes through three kinds of work, each claimed by a conditional update that raises its fence: its input is checked, its lines
are answered, its files are written. An answer, its usage and the counts of the batch are one transaction under the fence, and a line
is answered when its answer is there: whoever takes a batch up again does what is missing, and no line is told twice.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import redis
from django.conf import settings
from django.db import transaction
from django.db.models import F, Q, QuerySet
from django.utils import timezone

from inference import batch_hours, kept_files, relay, wakeups
from inference.admission import GENERATE
from inference.batch_endpoints import ENDPOINTS
from inference.batch_models import Batch, BatchAnswer, new_batch_id
from inference.batch_shares import NORMAL, PRIORITIES, Wish, shared
from inference.errors import InvalidRequest, LimitReached, NotFound
from inference.file_models import KeptFile
from inference.recording import storable
from inference.wire import tags
from routing import snapshot
from routing.models import ClientKey
from routing.types import Identity

logger = logging.getLogger("gateway.batches")

LEASE_SECONDS = 12.0
HOLD_SECONDS = 30.0
"""After this long it is tried whether a budget has room again."""
WAKE_AGAIN_SECONDS = 60
"""A message that has not come by then is told again, lest a queue that nobody reads grows without end."""
WINDOW = "24h"
PRIORITY_HEADER = "x-gateway-priority"
"""The header by which a batch is given one."""
MOST_OPEN = 100
"""Batches of one client key that are not over."""

REMOTE = ("inference.tasks.run_batch", "generation")
LOCAL = ("inference.tasks.run_local_batch", relay.QUEUE)

_KIND = "batch"
_WINDOW_SECONDS = 24 * 3600
_MOST_METADATA, _LONGEST_NAME, _LONGEST_VALUE = 16, 64, 512
_LEAST_KEPT, _MOST_KEPT = 3600, 30 * 24 * 3600
State = Batch.State


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to work on a batch for as long as the fence stands and the lease is renewed."""

    batch_id: str
    fence: int
    owner: str


# Making ---------------------------------------------------------------------------------------------------------------


def create(asked: Mapping[str, Any], identity: Identity, priority: str = "") -> Batch:
    """Store the batch and, on commit, wake a worker. Raises `InvalidRequest`, naming the member at fault, and `LimitReached`."""
    endpoint = asked.get("endpoint")
    if not isinstance(endpoint, str) or endpoint not in ENDPOINTS:
        raise InvalidRequest(f"'endpoint' must be one of: {', '.join(ENDPOINTS)}.", param="endpoint")
    if asked.get("completion_window") != WINDOW:
        raise InvalidRequest(f"'completion_window' must be '{WINDOW}'.", param="completion_window")
    file_id = asked.get("input_file_id")
    if not isinstance(file_id, str) or not file_id.isascii() or not file_id.isprintable():
        raise NotFound("'input_file_id' names no file.", param="input_file_id")
    metadata = _metadata(asked.get("metadata"))
    own_priority = priority or metadata.get("priority", "normal")
    if own_priority not in PRIORITIES:
        raise InvalidRequest(f"'priority' must be one of: {', '.join(PRIORITIES)}.", param="metadata.priority")
    now, batch_id = timezone.now(), new_batch_id()
    with transaction.atomic():
        _alone(identity.prefix)
        check_open(identity.prefix)
        file = _input(identity.prefix, file_id)
        batch = Batch.objects.create(
            id=batch_id,
            owner=identity.prefix,
            endpoint=endpoint,
            input_file_id=file.pk,
            metadata=metadata or None,
            priority=PRIORITIES.get(own_priority, NORMAL),
            hours=_hours(metadata.get("window", "")),
            # With the one that each of its requests has besides: together they have to fit.
            tags=",".join(tags.read(f"{own_tag(batch_id)},{metadata.get('tags', '')}", "metadata.tags")[1:]),
            output_seconds=seconds_kept(asked.get("output_expires_after"), "output_expires_after"),
            created_at=now,
            expires_at=now + timedelta(seconds=_WINDOW_SECONDS),
        )
        transaction.on_commit(partial(wake, batch.pk, batch.local))
    return batch


def _input(owner: str, file_id: str) -> KeptFile:
    """It stays there until the transaction ends, and after that as long as the batch reads it."""
    file = kept_files.held(kept_files.own(owner).filter(pk=file_id)).first()
    if file is None:
        raise NotFound(f"There is no file '{file_id[:64]}'.", param="input_file_id")
    if file.purpose != kept_files.BATCH:
        raise InvalidRequest(
            f"The file's purpose is '{file.purpose}'; that of a batch's input is 'batch'.", param="input_file_id"
        )
    return file


def check_open(owner: str) -> None:
    """Raises `LimitReached` while the client key has to wait for one of its batches before it makes another."""
    if Batch.objects.filter(owner=owner, state__in=Batch.OPEN).count() >= MOST_OPEN:
        raise LimitReached(f"You have {MOST_OPEN} batches that are not over; wait for one of them.", retry_after=60.0)


def _alone(owner: str) -> None:
    """Until the transaction ends nobody else makes batches of the client key, or shares out its lines."""
    list(ClientKey.objects.select_for_update().filter(prefix=owner).values_list("pk", flat=True))


def own_tag(batch_id: str) -> str:
    """By which the requests of a batch are found."""
    return f"batch:{batch_id}"


def _metadata(told: Any) -> dict[str, str]:
    if told is None:
        return {}
    well = (
        isinstance(told, Mapping)
        and len(told) <= _MOST_METADATA
        and all(isinstance(name, str) and len(name) <= _LONGEST_NAME for name in told)
        and all(isinstance(value, str) and len(value) <= _LONGEST_VALUE for value in told.values())
        and all(map(_is_text, (*told, *told.values())))
    )
    if not well:
        raise InvalidRequest(
            f"'metadata' must be an object of at most {_MOST_METADATA} texts, of at most {_LONGEST_VALUE} characters each.",
            param="metadata",
        )
    return dict(told)


def _is_text(told: str) -> bool:
    """Whether every database takes it: neither NUL nor half of a character."""
    return "\0" not in told and not any("\ud800" <= one <= "\udfff" for one in told)


def _hours(told: str) -> str:
    if told == batch_hours.OFF_PEAK:
        return settings.GATEWAY_BATCH_WINDOW or batch_hours.USUAL_OFF_PEAK
    try:
        if told:
            batch_hours.read(told)
    except ValueError as error:
        raise InvalidRequest(f"{error} Or say 'off_peak'.", param="metadata.window") from None
    return told


def seconds_kept(told: Any, name: str) -> int | None:
    """Of OpenAI's `{"anchor": "created_at", "seconds": …}`. Raises `InvalidRequest`."""
    if told is None:
        return None
    seconds = told.get("seconds") if isinstance(told, Mapping) else None
    if isinstance(seconds, str) and len(seconds) < 12 and seconds.isdecimal():
        seconds = int(seconds)
    if not isinstance(seconds, int) or isinstance(seconds, bool) or told.get("anchor") != "created_at":
        raise InvalidRequest(
            f"'{name}' must be an object with 'anchor', which is 'created_at', and 'seconds'.", param=name
        )
    if not _LEAST_KEPT <= seconds <= _MOST_KEPT:
        raise InvalidRequest(f"'{name}.seconds' must be from {_LEAST_KEPT} to {_MOST_KEPT}.", param=f"{name}.seconds")
    return seconds


def wake(batch_id: str, local: bool) -> bool:
    """Tell a worker, unless a message is on its way. A broker that is away is no error: the sweep tells again."""
    try:
        with wakeups.marks() as store:
            return _tell(store, batch_id, local)
    except (redis.RedisError, OSError) as error:
        logger.warning("batch %s waits for the sweep: %s", batch_id, type(error).__name__)
        return False


def wake_now(batch_id: str, local: bool) -> bool:
    """However short ago it was told."""
    was_told(batch_id)
    return wake(batch_id, local)


def was_told(batch_id: str) -> None:
    """The message has come. Without Redis the mark goes by itself."""
    try:
        with wakeups.marks() as store:
            wakeups.forget(store, _KIND, batch_id)
    except (redis.RedisError, OSError):
        return


def _tell(store: redis.Redis, batch_id: str, local: bool) -> bool:
    return wakeups.wake_once(store, LOCAL if local else REMOTE, _KIND, batch_id, WAKE_AGAIN_SECONDS)


# Claiming -------------------------------------------------------------------------------------------------------------


def claim(batch_id: str, now: datetime | None = None) -> tuple[Claim, Batch] | None:
    """None when there is nothing to do: it is over, unknown, held, or another worker's lease stands."""
    batch = Batch.objects.filter(pk=batch_id).first()
    if batch is None or batch.is_over:
        return None
    now = now or timezone.now()
    mine = Batch.objects.filter(_free(now), pk=batch.pk, fence=batch.fence, state=batch.state)
    batch.fence += 1
    batch.writings += batch.state == State.FINALIZING
    until = now + timedelta(seconds=LEASE_SECONDS)
    if not mine.update(
        fence=batch.fence, leased_until=until, width=0, held="", held_until=None, writings=batch.writings
    ):
        return None
    return Claim(batch.pk, batch.fence, batch.owner), batch


def _free(now: datetime) -> Q:
    nobodys = Q(leased_until=None) | Q(leased_until__lt=now)
    # One that waits for better times has something to do once it is to end.
    due = Q(held_until=None) | Q(held_until__lte=now) | Q(expires_at__lte=now) | ~Q(state=State.IN_PROGRESS)
    return nobodys & due


def mine(held: Claim) -> QuerySet[Batch]:
    return Batch.objects.filter(pk=held.batch_id, fence=held.fence)


def renew(held: Claim, under_way: int, now: datetime) -> int | None:
    """Lengthen the lease, and learn how many lines may be under way; None when the batch is another's.

    What is under way already counts for this batch until it is answered, so the lines of a key are never more than its limit.
    """
    with transaction.atomic():
        _alone(held.owner)
        at_work = Batch.objects.filter(owner=held.owner, state=State.IN_PROGRESS)
        alive = list(at_work.filter(Q(leased_until__gt=now) | Q(pk=held.batch_id)).exclude(fence=0))
        limit: int = settings.GATEWAY_BATCH_LINES_PER_KEY
        wishes = [Wish(one.pk, one.priority, one.created_at) for one in alive]
        taken: int = sum(one.width for one in alive if one.pk != held.batch_id)
        width = max(0, min(shared(limit, wishes).get(held.batch_id, 0), limit - taken))
        until = now + timedelta(seconds=LEASE_SECONDS)
        if not mine(held).update(leased_until=until, width=max(width, under_way)):
            return None
    return width


def keep_lease(held: Claim) -> bool:
    """For work that answers no lines."""
    return rest(held, LEASE_SECONDS)


def rest(held: Claim, seconds: float) -> bool:
    """Nobody else is to take it up before that."""
    return bool(mine(held).update(leased_until=timezone.now() + timedelta(seconds=seconds)))


def release(held: Claim, why: str = "", until: datetime | None = None) -> bool:
    """Give it back: for another worker at once, or `until` a time, told with the reason."""
    with transaction.atomic():
        given = mine(held).update(leased_until=None, width=0, held=why, held_until=until)
        if given and until is None:
            local = Batch.objects.values_list("local", flat=True).get(pk=held.batch_id)
            transaction.on_commit(partial(wake_now, held.batch_id, local))
    return bool(given)


# Going on -------------------------------------------------------------------------------------------------------------


def begin(held: Claim, *, total: int, model: str, local: bool) -> bool:
    """The input is good: from now on its lines are answered."""
    with transaction.atomic():
        begun = (
            mine(held)
            .filter(state=State.VALIDATING)
            .update(
                state=State.IN_PROGRESS,
                in_progress_at=timezone.now(),
                total=total,
                model=storable(model),
                local=local,
                leased_until=None,
            )
        )
        if begun:
            transaction.on_commit(partial(wake_now, held.batch_id, local))
    return bool(begun)


def refuse(held: Claim, errors: list[dict[str, Any]]) -> bool:
    """The input is not good: nothing of it is run."""
    now = timezone.now()
    return bool(
        mine(held)
        .filter(state=State.VALIDATING)
        .update(state=State.FAILED, errors=errors, ended_at=now, leased_until=None, ends_as=State.FAILED)
    )


def finish(held: Claim, ends_as: str, errors: list[dict[str, Any]] | None = None) -> bool:
    """No further line is answered: what is left is to write the files."""
    told = {} if errors is None else {"errors": errors}
    with transaction.atomic():
        done = mine(held).update(
            state=State.FINALIZING,
            finalizing_at=timezone.now(),
            ends_as=ends_as,
            leased_until=None,
            width=0,
            **told,
        )
        if done:
            local = Batch.objects.values_list("local", flat=True).get(pk=held.batch_id)
            transaction.on_commit(partial(wake_now, held.batch_id, local))
    return bool(done)


def end(held: Claim, ends_as: str, output_file_id: str, error_file_id: str, never_asked: int) -> bool:
    """The files are written."""
    ended = mine(held).filter(state=State.FINALIZING)
    return bool(
        ended.update(
            state=ends_as,
            output_file_id=output_file_id,
            error_file_id=error_file_id,
            failed=F("failed") + never_asked,
            never_asked=never_asked,
            ended_at=timezone.now(),
            leased_until=None,
        )
    )


def give_up(held: Claim, errors: list[dict[str, Any]]) -> bool:
    """The files cannot be written: nobody gets the answers."""
    ended = mine(held).filter(state=State.FINALIZING)
    return bool(ended.update(state=State.FAILED, errors=errors, ended_at=timezone.now(), leased_until=None))


def add(held: Claim, answers: list[BatchAnswer]) -> bool:
    """Within the caller's transaction, which adds what they used as well, by `batch_sums`. False when the batch is another's; raises
    `IntegrityError` for a line that is answered."""
    good = sum(one.ok for one in answers)
    if not mine(held).update(completed=F("completed") + good, failed=F("failed") + len(answers) - good):
        return False
    BatchAnswer.objects.bulk_create(answers)
    return True


def cancel(batch: Batch) -> Batch:
    """No new line is begun; those that are answered stay. One that is over stays as it is."""
    open_ones = Batch.objects.filter(pk=batch.pk, state__in=Batch.CANCELLABLE)
    if open_ones.update(state=State.CANCELLING, cancelling_at=timezone.now(), ends_as=State.CANCELLED):
        wake_now(batch.pk, batch.local)
    batch.refresh_from_db()
    return batch


def request_id(batch_id: str, number: int) -> str:
    """The id of a line's usage row: one per line, however many tries it took."""
    return f"{batch_id}_{number}"


# Finding again ----------------------------------------------------------------------------------------------------------


def sweep(now: datetime) -> int:
    """Wake workers for what nobody works on; returns how many."""
    left = Batch.objects.filter(_free(now), state__in=Batch.OPEN).order_by("priority", "created_at")
    due = list(left.values_list("pk", "local")[:1000])
    try:
        with wakeups.marks() as store:
            return sum(_tell(store, batch_id, local) for batch_id, local in due)
    except (redis.RedisError, OSError) as error:
        logger.warning("%d batches wait for the next sweep: %s", len(due), type(error).__name__)
        return 0


def whose(owner: str) -> Identity | None:
    """The identity that lines are asked in; None when the key lets nobody in any more."""
    view = snapshot.refresh().client_keys.get(owner)
    if view is None or view.refusal(time.time()) or not view.identity.may(GENERATE):
        return None
    return view.identity


# Telling ----------------------------------------------------------------------------------------------------------------


def document(batch: Batch) -> dict[str, Any]:
    """OpenAI's batch object. What holds one that waits stands under `x_gateway`."""
    ended = {state: _seconds(batch.ended_at) if batch.state == state else None for state in Batch.OVER}
    told: dict[str, Any] = {
        "id": batch.pk,
        "object": "batch",
        "endpoint": batch.endpoint,
        "model": batch.model or None,
        "errors": {"object": "list", "data": batch.errors} if batch.errors else None,
        "input_file_id": batch.input_file_id,
        "completion_window": batch.completion_window,
        "status": batch.state,
        "output_file_id": batch.output_file_id or None,
        "error_file_id": batch.error_file_id or None,
        "created_at": _seconds(batch.created_at),
        "in_progress_at": _seconds(batch.in_progress_at),
        "expires_at": _seconds(batch.expires_at),
        "finalizing_at": _seconds(batch.finalizing_at),
        "completed_at": ended[State.COMPLETED],
        "failed_at": ended[State.FAILED],
        "expired_at": ended[State.EXPIRED],
        "cancelling_at": _seconds(batch.cancelling_at),
        "cancelled_at": ended[State.CANCELLED],
        "request_counts": {"total": batch.total, "completed": batch.completed, "failed": batch.failed},
        "usage": {
            "input_tokens": batch.input_tokens,
            "input_tokens_details": {"cached_tokens": batch.cached_tokens},
            "output_tokens": batch.output_tokens,
            "output_tokens_details": {"reasoning_tokens": batch.reasoning_tokens},
            "total_tokens": batch.input_tokens + batch.output_tokens,
        },
        "metadata": batch.metadata,
    }
    if batch.held:
        told["x_gateway"] = {"held": batch.held, "held_until": _seconds(batch.held_until)}
    return told


def _seconds(at: datetime | None) -> int | None:
    return None if at is None else int(at.timestamp())


def result_file(batch: Batch, name: str) -> KeptFile:
    """Not stored yet."""
    now = timezone.now()
    kept = batch.output_seconds
    return KeptFile(
        owner=batch.owner,
        filename=f"{batch.pk}_{name}.jsonl",
        purpose=kept_files.BATCH_OUTPUT,
        made_by=batch.pk,
        created_at=now,
        expires_at=kept_files.usual_expiry(now) if kept is None else now + timedelta(seconds=kept),
    )
