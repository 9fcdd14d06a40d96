"""Background jobs: made, claimed, renewed, ended and found again. The row is the truth, a Celery message a wake-up.

A worker claims a job by a conditional update that raises its fence and gives it a lease. Every later write of that worker is
guarded by the fence, so a redelivered message, a second worker and one that was thought dead do no harm. `sweep` finds what
was lost: leases that ran out and jobs whose message never came. The result and the usage row are one transaction.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import orjson
import redis
from django.conf import settings
from django.db import DatabaseError, close_old_connections, transaction
from django.db.models import Q
from django.utils import timezone

from inference import (
    answering,
    attempts,
    events,
    given_back,
    kept_responses,
    relay,
    response_jobs,
    trace_ids,
    usage_rows,
    wakeups,
)
from inference import loop as bridge
from inference.admission import GENERATE
from inference.client import LLMRequest, LLMResponse
from inference.deciding import candidates_for
from inference.errors import GatewayError, InvalidKey, NotFound, WorkerLost
from inference.models import Job
from inference.reasons import explained
from inference.recording import Entry, row_of
from inference.trace_ids import Origin
from inference.wire import openai
from inference.wire.native import RESPONSES
from inference.wire.problems import error_details
from routing import snapshot
from routing.types import Identity

logger = logging.getLogger("gateway.jobs")

LEASE_SECONDS = 12.0
RENEW_SECONDS = 3.0
LOOK_SECONDS = 0.5
MOST_ATTEMPTS = 3
WAKE_AGAIN_SECONDS = 20
"""A queued job's message may count as lost after this long; a second one does no harm."""
LONGEST_SECONDS = 3600.0
_SAVE_SECONDS = 60.0
_END_SECONDS = 2.0
"""Work that was cancelled may take as long to end: what it used is told after that."""

_ORIGIN = "gateway_origin"
REMOTE = ("inference.tasks.run_job", "generation")
LOCAL = ("inference.tasks.run_local_job", relay.QUEUE)
_WAITING = (Job.State.QUEUED, Job.State.RUNNING)


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to work on a job for as long as the fence stands and the lease is renewed."""

    job_id: Any
    fence: int
    attempt: int
    owner: str
    request: Mapping[str, Any]
    request_id: str


# Making ---------------------------------------------------------------------------------------------------------------


def create(request: Mapping[str, Any], identity: Identity) -> Job:
    """Store the job and, on commit, wake a worker. Raises the `GatewayError` of a request that nobody may or can serve."""
    parsed = _parsed(request)
    candidates_for(parsed, identity, snapshot.current())
    with transaction.atomic():
        job = Job.objects.create(
            owner=identity.prefix,
            request=_from_here(request),
            operation=openai.CHAT.name,
            model=parsed.model,
            provider_id=parsed.provider_id or "",
        )
        transaction.on_commit(partial(wake, job.pk, job.model, job.provider_id))
    return job


def create_response(response_id: str, parsed: openai.ParsedRequest, identity: Identity) -> Job:
    """A job that answers a kept response, whose row holds what is asked. Wakes a worker on commit."""
    job = Job.objects.create(
        owner=identity.prefix,
        request=_from_here({response_jobs.MEMBER: response_id}),
        operation=RESPONSES,
        model=parsed.model,
        provider_id=parsed.provider_id or "",
    )
    transaction.on_commit(partial(wake, job.pk, job.model, job.provider_id))
    return job


def wake(job_id: Any, model: str, provider_id: str) -> bool:
    """Tell a worker, at most once in a while. A broker that is away is no error: the sweep tells again."""
    try:
        with wakeups.marks() as store:
            return _tell(store, _door(model, provider_id), job_id)
    except (redis.RedisError, OSError) as error:
        logger.warning("job %s waits for the sweep: %s", job_id, type(error).__name__)
        return False


def _tell(store: redis.Redis, door: tuple[str, str], job_id: Any) -> bool:
    return wakeups.wake_once(store, door, "job", str(job_id), WAKE_AGAIN_SECONDS)


def _door(model: str, provider_id: str) -> tuple[str, str]:
    """The task and the queue of a job: whoever holds local models runs theirs."""
    named = snapshot.current().by_name.get(model, ())
    first = next((one for one in named if not provider_id or one.provider.provider_id == provider_id), None)
    return LOCAL if first is not None and first.provider.runs_in == "worker" else REMOTE


def _parsed(request: Mapping[str, Any], owner: str = "") -> openai.ParsedRequest:
    """Raises `InvalidRequest`, naming the member at fault."""
    if response_jobs.MEMBER in request:
        parsed = response_jobs.parsed(response_jobs.row_of(owner, request))
    else:
        asked = LLMRequest.from_dict(request)
        body = {**asked.chat_body(), "stream": True, "stream_options": {"include_usage": True}}
        parsed = openai.parse(openai.CHAT, orjson.dumps(body))
        parsed.provider_id, parsed.session_id = asked.provider_id, asked.session_id
    told = (request.get("extensions") or {}).get(_ORIGIN)
    if isinstance(told, list) and all(isinstance(one, str) for one in told):
        parsed.origin = Origin(*told[:3])
    return parsed


def _from_here(request: Mapping[str, Any]) -> dict[str, Any]:
    """With where it comes from, which its usage row is to tell; what a caller says of that itself is not believed."""
    return {**request, "extensions": {**(request.get("extensions") or {}), _ORIGIN: list(trace_ids.current())}}


# Claiming -------------------------------------------------------------------------------------------------------------


def claim(job_id: Any) -> Claim | None:
    """None when there is nothing to do: it is over, unknown, or another worker's lease stands."""
    job = Job.objects.filter(pk=job_id).first()
    if job is None or job.is_over:
        return None
    now = timezone.now()
    free = Q(state=Job.State.QUEUED) | Q(state=Job.State.RUNNING, leased_until__lt=now)
    mine = Job.objects.filter(free, pk=job.pk, fence=job.fence, cancel_requested=False, attempts__lt=MOST_ATTEMPTS)
    claimed = mine.update(
        state=Job.State.RUNNING,
        fence=job.fence + 1,
        attempts=job.attempts + 1,
        leased_until=now + timedelta(seconds=LEASE_SECONDS),
        started_at=job.started_at or now,
    )
    if not claimed:
        return None
    return Claim(job.pk, job.fence + 1, job.attempts + 1, job.owner, job.request, request_id(job.pk))


def request_id(job_id: Any) -> str:
    """The id of a job's usage row: one per job, however many attempts it took."""
    return f"job_{job_id.hex}"


def _held(held: Claim) -> Any:
    return Job.objects.filter(pk=held.job_id, fence=held.fence, state=Job.State.RUNNING)


def renew(held: Claim) -> bool:
    """Lengthen the lease; False when the job is another's or was ended."""
    return bool(_held(held).update(leased_until=timezone.now() + timedelta(seconds=LEASE_SECONDS)))


def release(held: Claim) -> bool:
    """Give the job back unfinished, as one that was never begun, and wake another worker. One that is to be cancelled, which nobody
    would claim, is left to the sweep."""
    with transaction.atomic():
        given = (
            _held(held)
            .filter(cancel_requested=False)
            .update(state=Job.State.QUEUED, leased_until=None, attempts=held.attempt - 1)
        )
        if given:
            job = Job.objects.only("model", "provider_id").get(pk=held.job_id)
            transaction.on_commit(partial(_wake_now, job.pk, job.model, job.provider_id))
    return bool(given)


# Ending ---------------------------------------------------------------------------------------------------------------


def complete(held: Claim, result: Mapping[str, Any], entry: Entry, also: Callable[[], object] = lambda: None) -> bool:
    """`also` is written in the same transaction."""
    return _end(_held(held), held, Job.State.SUCCEEDED, entry, also, result=result)


def fail(held: Claim, error: GatewayError, entry: Entry) -> bool:
    return _end(_held(held), held, Job.State.FAILED, entry, error=error_of(error))


def end_cancelled(held: Claim, entry: Entry) -> bool:
    return _end(_held(held), held, Job.State.CANCELLED, entry)


def _end(
    mine: Any,
    held: Claim,
    state: Job.State,
    entry: Entry,
    also: Callable[[], object] = lambda: None,
    **outcome: Any,
) -> bool:
    """The final state and the usage, or neither. False when the fence has moved: somebody else tells how it ended."""
    with transaction.atomic():
        if not mine.update(state=state, finished_at=timezone.now(), leased_until=None, **outcome):
            return False
        if entry.ruling is not None:
            reason = explained(entry.ruling)
            entry.ruling.digest = reason.digest
            usage_rows.write_reasons([reason])
        usage_rows.insert([row_of(entry)])
        also()
    answering.tell(entry)
    _say_over(held.job_id, held.fence)
    return True


def error_of(error: GatewayError) -> dict[str, Any]:
    return error_details(error)


def cancel(job: Job) -> Job:
    """End a job that waits; ask the worker of one that runs, which stops within a second."""
    with transaction.atomic():
        # Asked first, of whatever waits: from then on it is neither claimed nor given back.
        Job.objects.filter(pk=job.pk, state__in=_WAITING).update(cancel_requested=True)
        queued = Job.objects.filter(pk=job.pk, state=Job.State.QUEUED)
        ended = queued.update(state=Job.State.CANCELLED, finished_at=timezone.now())
    if ended:
        _say_over(job.pk, job.fence)
    job.refresh_from_db()
    return job


def retry(job: Job) -> Job:
    """A new job that asks the same in the same key's name. Raises `ValueError` for one that is not over, or whose answer is a
    response that has its end, and the `GatewayError` of a request that nobody may or can serve any more."""
    if not job.is_over:
        raise ValueError("The job is not over.")
    if response_jobs.MEMBER in job.request:
        raise ValueError("The job answered a response of the Responses API, which has ended; its client can ask again.")
    view = snapshot.refresh().client_keys.get(job.owner)
    if view is None or view.refusal(time.time()):
        raise InvalidKey("The client key that asked for this job is not valid any more.")
    return create(job.request, view.identity)


def _say_over(job_id: Any, fence: int) -> None:
    events.note(settings.REDIS_URL, job_id, "over", fence)


# Finding again ----------------------------------------------------------------------------------------------------------


def sweep() -> int:
    """Bring back what was lost: running jobs whose lease is over, queued ones whose message did not come."""
    snapshot.refresh()
    now = timezone.now()
    for job in Job.objects.filter(state=Job.State.RUNNING, leased_until__lt=now):
        _bring_back(job, now)
    try:
        return _wake_lost()
    except (redis.RedisError, OSError) as error:
        logger.warning("queued jobs wait for the next sweep: %s", type(error).__name__)
        return 0


def _wake_lost() -> int:
    """A queue with a message for each of its jobs has lost none: telling again would only make it longer."""
    behind: dict[tuple[str, str], list[Any]] = defaultdict(list)
    queued = Job.objects.filter(state=Job.State.QUEUED).order_by("created_at")
    for job_id, model, provider_id in queued.values_list("pk", "model", "provider_id"):
        behind[_door(model, provider_id)].append(job_id)
    with wakeups.marks() as store:
        lost = [(door, job_ids) for door, job_ids in behind.items() if store.llen(door[1]) < len(job_ids)]
        return sum(_tell(store, door, job_id) for door, job_ids in lost for job_id in job_ids)


def _bring_back(job: Job, now: Any) -> None:
    lost = Job.objects.filter(pk=job.pk, fence=job.fence, state=Job.State.RUNNING, leased_until__lt=now)
    if job.cancel_requested:
        if lost.update(state=Job.State.CANCELLED, finished_at=now, leased_until=None):
            _say_over(job.pk, job.fence)
    elif job.attempts >= MOST_ATTEMPTS:
        error = WorkerLost(
            f"The job was given up after {job.attempts} attempts whose workers were lost.", retryable=False
        )
        if lost.update(state=Job.State.FAILED, error=error_of(error), finished_at=now, leased_until=None):
            logger.error("job %s: %s workers were lost with it", job.pk, job.attempts)
            _say_over(job.pk, job.fence)
    elif lost.filter(cancel_requested=False).update(state=Job.State.QUEUED, leased_until=None):
        logger.warning("job %s: its worker was lost, it is queued again", job.pk)
        _wake_now(job.pk, job.model, job.provider_id)


def _wake_now(job_id: Any, model: str, provider_id: str) -> None:
    try:
        with wakeups.marks() as store:
            wakeups.forget(store, "job", str(job_id))
    except (redis.RedisError, OSError):
        return
    wake(job_id, model, provider_id)


# Running --------------------------------------------------------------------------------------------------------------

_stop_at = float("inf")


def stop_soon(seconds: float) -> None:
    """The worker is stopping: jobs that are not over by then go back into the queue."""
    global _stop_at
    _stop_at = time.monotonic() + seconds


def run(job_id: Any) -> bool:
    """Claim the job and work on it to its end, in this thread's name; the work itself runs on the process's loop.

    False when there was nothing to claim, or when the job was lost or given back.
    """
    held = claim(job_id)
    if held is None:
        return False
    events.note(
        settings.REDIS_URL, held.job_id, "restarted" if held.fence > 1 else "running", held.fence, attempt=held.attempt
    )
    try:
        question = _question(held)
    except GatewayError as error:
        return _saved(held, partial(fail, held, error, _entry_of_refused(held, error)))
    log = events.Log(settings.REDIS_URL, held.job_id, held.fence)
    seconds = (held.request.get("config") or {}).get("timeout_seconds") or LONGEST_SECONDS
    ended = threading.Event()
    working = asyncio.run_coroutine_threadsafe(_work(question, log, seconds, ended), bridge.loop())
    end = _stand_by(held, working)
    if end is not None:
        working.cancel()  # which says at once that it is over
        ended.wait(_END_SECONDS)
    _forget_if_deleted(held)
    if end == "cancelled":
        save = partial(end_cancelled, held, question.entry(499, "cancelled"))
    elif end is None:
        save = _outcome(held, question, working)
    else:
        if end == "stopping":
            _saved(held, partial(release, held))
        _book_run(held, question)
        return False
    saved = _saved(held, save)
    if not saved or (end is None and question.was_cancelled):
        _book_run(held, question)
    else:
        question.forget()
    return saved


def _forget_if_deleted(held: Claim) -> None:
    """Of a response that was deleted while its worker spoke on, the last words are in the log again."""
    try:
        if response_jobs.MEMBER in held.request:
            response_jobs.row_of(held.owner, held.request)
    except NotFound:
        kept_responses.forget_told(held.job_id)
    except DatabaseError as error:
        logger.warning("job %s: its events go by themselves within a day: %s", held.job_id, type(error).__name__)
        close_old_connections()


def _book_run(held: Claim, question: answering.Question) -> None:
    """What a run used that does not tell the job's end."""
    if (question.events or question.trail.paid) and held.fence < attempts.RUN:
        given_back.book(question)
    else:
        question.forget()


def _question(held: Claim) -> answering.Question:
    registry = snapshot.refresh()
    view = registry.client_keys.get(held.owner)
    if view is None or view.refusal(time.time()) or not view.identity.may(GENERATE):
        raise InvalidKey("The client key that asked for this job is not valid any more.")
    return answering.Question(_parsed(held.request, held.owner), view.identity, held.request_id, held.fence)


def _entry_of_refused(held: Claim, error: GatewayError) -> Entry:
    try:
        parsed = _parsed(held.request, held.owner)
    except GatewayError:  # what it asked is gone, with whatever it went on from
        named = Job.objects.values_list("model", flat=True).filter(pk=held.job_id).first() or ""
        parsed = openai.parse(openai.CHAT, orjson.dumps({"model": named, "messages": [{}]}))
    return answering.Question(parsed, None, held.request_id).entry(error.status, error.code)


async def _work(
    question: answering.Question, log: events.Log, seconds: float, ended: threading.Event
) -> dict[str, Any]:
    try:
        return await question.streamed(partial(log.append, "chunk"), seconds)
    finally:
        ended.set()
        await log.aclose()


def _stand_by(held: Claim, working: Future[Any]) -> str | None:
    """Renew the lease until the work is done; else why it is to be stopped: lost, cancelled or stopping."""
    renew_at = time.monotonic() + RENEW_SECONDS
    while True:
        try:
            working.exception(timeout=LOOK_SECONDS)
            return None
        except CancelledError:
            return None
        except TimeoutError:
            if working.done():
                return None
        if time.monotonic() >= _stop_at:
            return "stopping"
        try:
            if Job.objects.filter(pk=held.job_id, cancel_requested=True).exists():
                return "cancelled"
            if time.monotonic() >= renew_at:
                if not renew(held):
                    return "lost"
                renew_at = time.monotonic() + RENEW_SECONDS
        except DatabaseError as error:
            # The work goes on: unless another worker claims it meanwhile, the fence lets us end it later.
            logger.warning("job %s: the lease was not renewed: %s", held.job_id, type(error).__name__)
            close_old_connections()


def _outcome(held: Claim, question: answering.Question, working: Future[Any]) -> Callable[[], bool]:
    try:
        completion = working.result()
    except GatewayError as error:
        return partial(fail, held, error, question.entry(error.status, error.code))
    except CancelledError:
        return partial(release, held)
    except Exception as problem:
        logger.exception("job %s: the gateway failed", held.job_id)
        error = GatewayError("The gateway failed while it served the request.", detail=type(problem).__name__)
        return partial(fail, held, error, question.entry(error.status, error.code))
    if response_jobs.MEMBER in held.request:
        return _answered_response(held, question, completion)
    asked = LLMRequest.from_dict(held.request)
    result = LLMResponse.from_completion(question.completion(completion), asked.request_id).to_dict()
    return partial(complete, held, result, question.entry(200))


def _answered_response(held: Claim, question: answering.Question, answer: dict[str, Any]) -> Callable[[], bool]:
    """The answer is kept in the response's row; one that was deleted meanwhile is paid for all the same."""

    def also() -> None:
        with contextlib.suppress(NotFound):
            row = response_jobs.row_of(held.owner, held.request)
            response_jobs.end(row, answer, native=bool(question.replied_in))

    result = {response_jobs.MEMBER: held.request[response_jobs.MEMBER]}
    return partial(complete, held, result, question.entry(200), also)


def _saved(held: Claim, save: Callable[[], bool]) -> bool:
    """Write the end down, patiently: the answer was paid for."""
    give_up_at = time.monotonic() + _SAVE_SECONDS
    while True:
        try:
            return save()
        except DatabaseError as error:
            logger.warning("job %s: its end was not saved: %s", held.job_id, type(error).__name__)
            if time.monotonic() > give_up_at or time.monotonic() >= _stop_at:
                return False
            close_old_connections()
            time.sleep(1)
