"""The engine of batches: one per process, for all the batches that this process was told of.

Lines are asked on the process's loop, so many at a time as the batch may; the thread of a Celery task stands by, reads the input
ahead, writes answers down in groups, renews leases, and looks whether somebody cancelled, whether a budget is used up or the hours are
over. A process that is killed loses what was under way and nothing else.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import DatabaseError, DataError, IntegrityError, close_old_connections, transaction
from django.utils import timezone

from inference import (
    answering,
    batch_asking,
    batch_checking,
    batch_hours,
    batch_lines,
    batch_output,
    batch_shares,
    batches,
    given_back,
    kept_files,
    usage_rows,
)
from inference import loop as bridge
from inference.batch_asking import Answered, Asking, Later, Task
from inference.batch_counts import counts
from inference.batch_models import Batch, BatchAnswer
from inference.batches import Claim
from inference.errors import InvalidKey
from inference.reasons import Reasons
from inference.recording import row_of
from inference.turns import Turns

logger = logging.getLogger("gateway.batches")

TICK_SECONDS = 0.05
LOOK_SECONDS = 1.0
WRITE_SECONDS = 0.2
WRITE_LINES = 100
READ_AHEAD = 4
"""Lines that lie ready for each that may be under way, and at least this many lines besides."""
LEAST_AHEAD = 16
WIDTHLESS_SECONDS = 10.0
"""A batch that may have no line under way for so long gives its place up, and comes again later."""
CANCEL_SECONDS = 20.0
"""So long may lines end that were under way when the batch was cancelled or its time was over."""
MOST_UNWRITTEN = 500
"""Answers that wait for the database; with so many no further line is begun."""
MOST_WRITINGS = 10
FIRST_REST_SECONDS, LONGEST_REST_SECONDS = 10.0, 900.0
"""Between two tries to write the files of a batch."""

_UNWRITTEN = {
    "code": "files_not_written",
    "message": f"The answers could not be written to files in {MOST_WRITINGS} tries; the gateway's log says why.",
    "param": None,
    "line": None,
}
_BROKEN = {"code": "internal_error", "message": "The gateway failed at this batch.", "param": None, "line": None}

_stop_at = float("inf")
_reasons = Reasons()
"""Of the engine's thread."""


def stop_soon(seconds: float) -> None:
    """The worker is stopping: what is not answered by then is asked again elsewhere."""
    global _stop_at
    _stop_at = time.monotonic() + seconds


def _is_stopping() -> bool:
    return _stop_at < float("inf")


def run(batch_id: str) -> bool:
    """Do the next thing that is to be done with the batch. False when there was nothing to claim."""
    batches.was_told(batch_id)
    if _is_stopping():
        return False
    claimed = batches.claim(batch_id)
    if claimed is None:
        return False
    held, batch = claimed
    if batch.state == Batch.State.VALIDATING and batch.expires_at <= timezone.now():
        batches.finish(held, Batch.State.EXPIRED)
    elif batch.state == Batch.State.VALIDATING:
        _check(held, batch)
    elif batch.state == Batch.State.FINALIZING:
        _write_files(held, batch)
    elif batch.state == Batch.State.CANCELLING:
        batches.finish(held, Batch.State.CANCELLED)
    else:
        _engine.take(held, batch)
    return True


def _check(held: Claim, batch: Batch) -> None:
    try:
        good = batch_checking.check(held, batch)
    except DatabaseError:
        raise
    except Exception:
        logger.exception("batch %s: its input cannot be read", batch.pk)
        batches.refuse(held, [_BROKEN])
        return
    if not good:
        batches.release(held)


def _write_files(held: Claim, batch: Batch) -> None:
    """Whatever keeps them from being written may pass, or be the same at the tenth time, be it a disk or a process that is killed."""
    if batch.writings > MOST_WRITINGS:
        logger.error("batch %s: its files were not written in %d tries; it fails", batch.pk, MOST_WRITINGS)
        batches.give_up(held, [_UNWRITTEN])
        return
    try:
        batch_output.write(held, batch)
    except Exception:
        logger.exception("batch %s: its files were not written at try %d", batch.pk, batch.writings)
        batches.rest(held, min(FIRST_REST_SECONDS * 2 ** (batch.writings - 1), LONGEST_REST_SECONDS))


class Lanes:
    """Lines of one batch on the loop: so many at a time, the next one as soon as one is answered. Touched on the loop alone."""

    def __init__(
        self, asking: Asking, arrived: queue.SimpleQueue[tuple[Run, Answered | Later | None]], run: Run
    ) -> None:
        self.asking = asking
        self._arrived, self._run = arrived, run
        self._ready: deque[Task] = deque()
        self._under_way: dict[asyncio.Task[Answered | Later], Task] = {}
        self._width = 0
        self.begun = 0
        """Lines, ever. May be asked for from anywhere."""

    @property
    def most(self) -> int:
        """Lines that may be begun until it is told otherwise. May be asked for from anywhere."""
        return max(len(self._under_way), self._width)

    def offer(self, tasks: list[Task], width: int) -> None:
        self._ready.extend(tasks)
        self._width = width
        self._fill()

    def cancel(self) -> None:
        self._width = 0
        for one in self._under_way:
            one.cancel()

    def _fill(self) -> None:
        while self._ready and len(self._under_way) < self._width:
            task = self._ready.popleft()
            work = asyncio.ensure_future(self.asking.ask(task))
            self._under_way[work] = task
            self.begun += 1
            work.add_done_callback(self._ended)

    def _ended(self, work: asyncio.Task[Answered | Later]) -> None:
        task = self._under_way.pop(work)
        outcome: Answered | Later | None = None
        if not work.cancelled():
            error = work.exception()
            if error is not None:
                logger.error("a line of a batch was not answered", exc_info=error)
                outcome = Later(task, batch_asking.LONGEST_PAUSE_SECONDS)
            else:
                outcome = work.result()
        if isinstance(outcome, Later) and outcome.held:
            self._width = 0  # until the engine has looked
        self._fill()  # first: whoever takes the outcome may look whether there are others
        self._arrived.put((self._run, outcome))


@dataclass(order=True, slots=True)
class _Waiting:
    at: float
    number: int
    task: Task


class Run:
    """One batch in this process, from its claim until it is given back or over. Of the engine's thread."""

    def __init__(
        self,
        held: Claim,
        batch: Batch,
        asking: Asking,
        arrived: queue.SimpleQueue[tuple[Run, Answered | Later | None]],
    ) -> None:
        self.held, self.batch = held, batch
        self.under_way = 0
        """Lines that were offered and are not back."""
        self._back = 0
        """Lines that are back, ever."""
        self.allowed = 0
        """Lines that may be under way, by the limit of the key."""
        self.over = False
        self._lanes = Lanes(asking, arrived, self)
        self._loop = bridge.loop()
        self._source: Iterator[Task] | None = _unanswered(batch)
        self._read_to = 0
        """Number of the line that was read last."""
        self._leased_to = time.monotonic() + batches.LEASE_SECONDS
        self._again: list[_Waiting] = []
        self._answers: list[Answered] = []
        self._pause_until = 0.0
        self._wide_at = time.monotonic()
        """When it last might have lines under way."""
        self._look_at = self._write_at = 0.0
        self._ends: tuple[str, list[dict[str, Any]] | None] | None = None
        """How it ends, once nothing more is to be begun."""
        self._gives_back: tuple[str, datetime | None] | None = None
        self._drained_by = float("inf")
        self._is_broken = False

    @property
    def wish(self) -> batch_shares.Wish:
        return batch_shares.Wish(self.batch.pk, self.batch.priority, self.batch.created_at, self.allowed)

    @property
    def is_awaited(self) -> bool:
        """Whether lines were begun that are not back."""
        return self._lanes.begun > self._back

    # Each turn of the engine

    def look(self, now: float) -> None:
        """Once in a while: is the batch still ours, may it go on, and how wide?"""
        if now < self._look_at:
            return
        self._look_at = now + LOOK_SECONDS
        at = timezone.now()
        # Those that only lie ready take no place from other batches of the key.
        width = batches.renew(self.held, min(self.under_way, self._lanes.most), at)
        if width is None:
            self._lost()
            return
        self._leased_to = now + batches.LEASE_SECONDS
        self.allowed = width
        if width or self.under_way:
            self._wide_at = now
        if self._is_ending:
            return
        batch = Batch.objects.only("state", "hours", "expires_at", "priority").get(pk=self.batch.pk)
        if batch.state == Batch.State.CANCELLING:
            self._end_as(Batch.State.CANCELLED)
        elif at >= batch.expires_at:
            self._end_as(Batch.State.EXPIRED)
        elif (opens := _closed_until(self.batch, at)) is not None:
            self._give_back(Batch.Held.HOURS, min(opens, batch.expires_at))
        elif now - self._wide_at >= WIDTHLESS_SECONDS:
            self._give_back(Batch.Held.LIMIT, at + timedelta(seconds=WIDTHLESS_SECONDS))
        else:
            self._follow_key()

    def feed(self, width: int, now: float) -> None:
        """Offer lines, some more than may be under way: the loop does not wait for this thread."""
        tasks: list[Task] = []
        if not self._may_begin(now):
            width = 0
        most = width + max(LEAST_AHEAD, width * READ_AHEAD) if width else 0
        try:
            while self.under_way + len(tasks) < most and (task := self._next(now)) is not None:
                tasks.append(task)
        finally:
            self.under_way += len(tasks)
            self._loop.call_soon_threadsafe(self._lanes.offer, tasks, width)

    def take(self, outcome: Answered | Later | None) -> None:
        self.under_way -= 1
        self._back += 1
        if isinstance(outcome, Answered):
            if self.over:
                _book(outcome.question, was_answered=True)
                return
            self._answers.append(outcome)
        elif isinstance(outcome, Later):
            if outcome.question is not None:
                _book(outcome.question)
            if self.over:
                return
            at = time.monotonic() + outcome.seconds
            heapq.heappush(self._again, _Waiting(at, outcome.task.line.number, outcome.task))
            if outcome.held == Batch.Held.LIMIT:
                self._pause_until = max(self._pause_until, at)
            elif outcome.held and not self._is_ending:
                self._give_back(outcome.held, timezone.now() + timedelta(seconds=outcome.seconds))

    def settle(self, now: float) -> None:
        """Write answers down when there are many or they are old; end when nothing is left to do."""
        drained = not self._lanes_busy(now)
        if self._answers and (len(self._answers) >= WRITE_LINES or now >= self._write_at or drained):
            self._write_at = now + WRITE_SECONDS
            self._write()
        if self._answers or self.over:
            return
        if self._is_ending:
            if drained:
                self._leave()
        elif drained and not self._again and self._source is None:
            batches.finish(self.held, Batch.State.COMPLETED)
            self.over = True

    def stop(self) -> None:
        """The process ends."""
        if not self._is_ending:
            self._give_back("", None)
        self._drained_by = min(self._drained_by, _stop_at)

    def break_off(self) -> None:
        """It cannot go on, whoever takes it up: what is answered is kept, if that is not just what fails."""
        if not self._is_broken:
            self._is_broken = True
            self._end_as(Batch.State.FAILED, [_BROKEN], seconds=0.0)
            return
        self.over = True
        try:
            batches.finish(self.held, Batch.State.FAILED, [_BROKEN])
        finally:
            self._let_go()

    # Its parts

    @property
    def _is_ending(self) -> bool:
        return self._ends is not None or self._gives_back is not None

    def _may_begin(self, now: float) -> bool:
        """While the database is away, another worker may soon have the batch, and answers pile up here."""
        is_ours = now < self._leased_to and len(self._answers) < MOST_UNWRITTEN
        return is_ours and not self._is_ending and now >= self._pause_until

    def _lanes_busy(self, now: float) -> bool:
        """Whether lines are under way that may still be answered. Those that only lie ready do not count when nothing is to be begun."""
        if not self._is_ending:
            return self.under_way > 0
        if now >= self._drained_by:
            self._loop.call_soon_threadsafe(self._lanes.cancel)
            return False
        return self.is_awaited

    def _next(self, now: float) -> Task | None:
        if self._again and self._again[0].at <= now:
            return heapq.heappop(self._again).task
        if self._source is None:
            return None
        try:
            task = next(self._source, None)
        except DatabaseError:
            self._source = _unanswered(self.batch, self._read_to)  # one that raised would say that nothing is left
            self._pause_until = now + LOOK_SECONDS
            raise
        if task is None:
            self._source = None
        else:
            self._read_to = task.line.number
        return task

    def _follow_key(self) -> None:
        try:
            identity = batch_asking.identity_of(self.batch)
        except InvalidKey as error:
            told = {"code": error.code, "message": error.message, "param": None, "line": None}
            self._end_as(Batch.State.FAILED, [told], seconds=0.0)
            return
        if identity is not self._lanes.asking.identity:
            self._lanes.asking = replace(self._lanes.asking, identity=identity)

    def _end_as(self, state: str, errors: list[dict[str, Any]] | None = None, seconds: float = CANCEL_SECONDS) -> None:
        self._ends = (state, errors)
        self._drained_by = min(self._drained_by, time.monotonic() + seconds)

    def _give_back(self, why: str, until: datetime | None) -> None:
        self._gives_back = (why, until)

    def _leave(self) -> None:
        self._loop.call_soon_threadsafe(self._lanes.cancel)  # what a busy loop was offered and has not begun
        if self._ends is not None:
            batches.finish(self.held, *self._ends)
        elif self._gives_back is not None:
            batches.release(self.held, *self._gives_back)
        self.over = True

    def _lost(self) -> None:
        logger.warning("batch %s: another worker has it", self.batch.pk)
        self._let_go()

    def _let_go(self) -> None:
        """What is answered and not written down is paid for."""
        self._loop.call_soon_threadsafe(self._lanes.cancel)
        self.over = True
        answers, self._answers = self._answers, []
        for one in answers:
            _book(one.question, was_answered=True)

    def _write(self) -> None:
        """Answers, their usage and the batch's counts, or nothing; what cannot be written waits for the next turn."""
        try:
            kept = _store(self.held, self._answers)
        except IntegrityError:
            self._answers = _not_there(self.batch.pk, self._answers)
            kept = _store(self.held, self._answers) if self._answers else True
        if not kept:
            self._lost()
            return
        for one in self._answers:
            one.question.forget()
        counts.answered(self._answers)
        self._answers = []


def _unanswered(batch: Batch, beyond: int = 0) -> Iterator[Task]:
    """The lines without an answer, `beyond` a number, read as they are wanted."""
    answered = set(BatchAnswer.objects.filter(batch_id=batch.pk).values_list("number", flat=True))
    for number, raw in batch_lines.numbered(kept_files.lines(batch.input_file_id, settings.GATEWAY_MAX_BODY_BYTES)):
        if number > beyond and number not in answered:
            yield Task(batch_lines.read(number, raw, batch.endpoint))


def _closed_until(batch: Batch, now: datetime) -> datetime | None:
    return batch_hours.closed_until(now, (settings.GATEWAY_BATCH_WINDOW, batch.hours), settings.TIME_ZONE)


def _store(held: Claim, answers: list[Answered]) -> bool:
    """False when the batch is another's. Raises `IntegrityError` when one of the lines is answered already."""
    entries = [one.question.entry(one.status, one.error_code) for one in answers]
    rulings = {id(entry.ruling): entry.ruling for entry in entries if entry.ruling is not None}
    reasons = [reason for ruling in rulings.values() if (reason := _reasons.take(ruling)) is not None]
    rows = [row_of(entry) for entry in entries]
    try:
        with transaction.atomic():
            if not batches.add(held, [_answer(held, one) for one in answers]):
                return False
            if reasons:
                usage_rows.write_reasons(reasons)
            usage_rows.insert(rows)
    except DatabaseError:
        _forget_reasons()  # none of them was told
        raise
    for entry in entries:
        answering.tell(entry)
    return True


def _forget_reasons() -> None:
    global _reasons
    _reasons = Reasons()


def _answer(held: Claim, one: Answered) -> BatchAnswer:
    line = one.task.line
    request_id = batches.request_id(held.batch_id, line.number)
    told = batch_lines.answered(request_id, line.custom_id, one.said, one.body)
    return BatchAnswer(batch_id=held.batch_id, number=line.number, ok=one.ok, content=told.decode())


def _not_there(batch_id: str, answers: list[Answered]) -> list[Answered]:
    """Without those that were written before, by a transaction whose end was not heard of."""
    numbers = [one.task.line.number for one in answers]
    there = set(BatchAnswer.objects.filter(batch_id=batch_id, number__in=numbers).values_list("number", flat=True))
    for one in answers:
        if one.task.line.number in there:
            one.question.forget()
    return [one for one in answers if one.task.line.number not in there]


def _book(question: answering.Question, *, was_answered: bool = False) -> None:
    """What a try used that is not the line's answer, where its provider told."""
    if was_answered or question.trail.paid:
        given_back.book(question)
    else:
        question.forget()


class Engine:
    """The thread that is first told of a batch becomes the engine, and works on all that others tell of until nothing is left."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spoke = threading.Event()
        self._new: list[Run] = []
        self._works = False
        self._arrived: queue.SimpleQueue[tuple[Run, Answered | Later | None]] = queue.SimpleQueue()
        self._turns = Turns()

    def take(self, held: Claim, batch: Batch) -> None:
        try:
            identity = batch_asking.identity_of(batch)
        except InvalidKey as error:
            told = {"code": error.code, "message": error.message, "param": None, "line": None}
            batches.finish(held, Batch.State.FAILED, [told])
            return
        asking = batch_asking.asking_of(batch, identity, self._turns)
        with self._lock:
            self._new.append(Run(held, batch, asking, self._arrived))
            if self._works:
                self._spoke.set()
                return
            self._works = True
        try:
            self._work()
        except BaseException:
            with self._lock:
                self._works = False
            raise

    def _work(self) -> None:
        runs: list[Run] = []
        while True:
            with self._lock:
                runs += self._new
                self._new = []
                if not runs:
                    self._works = False
                    return
            self._turn(runs)
            # What was under way when a batch was over is told yet, and was paid for; of a process that ends the spool tells.
            runs = [run for run in runs if not run.over or (run.is_awaited and not _is_stopping())]

    def _turn(self, runs: list[Run]) -> None:
        now = time.monotonic()
        for run in runs:
            if _is_stopping():
                run.stop()
            if not run.over:
                self._guarded(run, run.look, now)
        widths = batch_shares.shared(settings.GATEWAY_BATCH_LINES, [run.wish for run in runs if not run.over])
        for run in runs:
            if not run.over:
                self._guarded(run, run.feed, widths[run.batch.pk], now)
        self._spoke.wait(TICK_SECONDS)
        self._spoke.clear()
        self._collect()
        for run in runs:
            if not run.over:
                self._guarded(run, run.settle, time.monotonic())

    def _collect(self) -> None:
        try:
            while True:
                run, outcome = self._arrived.get_nowait()
                self._guarded(run, run.take, outcome)
        except queue.Empty:
            return

    def _guarded(self, run: Run, step: Callable[..., None], *told: object) -> None:
        """A database that is away is waited for: the answers were paid for. What is wrong with one batch is not to end the others."""
        try:
            step(*told)
        except DatabaseError as error:
            logger.warning("batch %s: the database did not take it: %s", run.batch.pk, type(error).__name__)
            close_old_connections()
            if isinstance(error, DataError | IntegrityError):  # nor will it later
                self._broken_off(run)
        except Exception:
            logger.exception("batch %s: it is broken off", run.batch.pk)
            self._broken_off(run)

    def _broken_off(self, run: Run) -> None:
        try:
            run.break_off()
        except DatabaseError as error:  # its lease runs out
            logger.warning("batch %s: its end was not saved: %s", run.batch.pk, type(error).__name__)
        except Exception:
            logger.exception("batch %s: what it used waits in the spool", run.batch.pk)


_engine = Engine()


def _forget_after_fork() -> None:
    global _engine
    _engine = Engine()
    _forget_reasons()


os.register_at_fork(after_in_child=_forget_after_fork)
