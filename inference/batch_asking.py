"""One line of a batch, asked as its owner would ask it at `/v1`; and what its failure means: an answer, another try, or waiting.

Limits and budgets say when, not whether: a line that they do not let through waits. What a provider refuses is the line's answer;
what it fails at is tried again a few times.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field

from inference import answering, batches
from inference.batch_endpoints import ENDPOINTS, Reading
from inference.batch_lines import Line
from inference.batch_models import Batch
from inference.errors import (
    BudgetExhausted,
    BudgetStoreUnavailable,
    GatewayError,
    InvalidKey,
    LimitReached,
)
from inference.turns import Turns
from inference.wire import tags
from inference.wire.openai import ParsedRequest
from routing.metering import UNPRICED
from routing.types import Identity

logger = logging.getLogger("gateway.batches")

MOST_TRIES = 4
MOST_WAITS = 60
"""Times that a line waits for a provider that is out of service, before that is its answer."""
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
_RUNS = 990
"""Runs of a line are told apart by less than a thousand numbers; see `inference.attempts`."""


@dataclass(slots=True)
class Task:
    """A line, and how often it was tried."""

    line: Line
    tries: int = 0
    waits: int = 0
    asked: int = 0


@dataclass(frozen=True, slots=True)
class Answered:
    """`body` as the endpoint would have answered; `said` is its status, which Anthropic's clients know by other numbers than the
    books that have `status`."""

    task: Task
    status: int
    said: int
    body: bytes
    error_code: str
    question: answering.Question

    @property
    def ok(self) -> bool:
        return self.status < 400


@dataclass(frozen=True, slots=True)
class Later:
    """The line is to be asked again after `seconds`; with `held` so is the whole batch."""

    task: Task
    seconds: float
    held: str = ""
    question: answering.Question | None = field(default=None)


@dataclass(frozen=True, slots=True)
class Asking:
    """What all lines of a batch have in common while it is worked on."""

    batch_id: str
    endpoint: str
    fence: int
    identity: Identity
    tags: tuple[str, ...]
    turns: Turns
    priority: int

    async def ask(self, task: Task) -> Answered | Later:
        line = task.line
        request_id = batches.request_id(self.batch_id, line.number)
        task.asked += 1
        run = 1 + (self.fence * (MOST_TRIES + 1) + task.asked) % _RUNS
        reading = ENDPOINTS[self.endpoint](request_id, line.headers)
        question = answering.Question(_unreadable(line, reading), self.identity, request_id, run)
        try:
            request = await reading.parsed(line.body, self.identity)
            request.tags = tags.joined(self.tags, request.tags)
            question = answering.Question(request, self.identity, request_id, run)
            async with self.turns.of(request, self.identity, self.priority):
                status, body = await question.whole(said=reading.said)
        except GatewayError as error:
            return after(task, reading.explained(error, question.trail), question, reading)
        except asyncio.CancelledError:  # whoever cancels it wants to know what it used
            return Later(task, 0.0, "", question)
        except Exception as problem:
            logger.exception("batch %s: the gateway failed at line %d", self.batch_id, line.number)
            failure = GatewayError("The gateway failed while it served the request.", detail=type(problem).__name__)
            return _refused(task, failure, question, reading)
        return Answered(task, status, status, body, "", question)


def tags_of(batch: Batch) -> tuple[str, ...]:
    """Those that its owner named, and one by which its requests are found."""
    named = tuple(filter(None, batch.tags.split(",")))
    return (batches.own_tag(batch.pk), *named)


def _unreadable(line: Line, reading: Reading) -> ParsedRequest:
    """For the record of a request that could not be parsed."""
    return ParsedRequest(reading.operation, line.model[:255], False, {}, len(line.body))


def after(task: Task, error: GatewayError, question: answering.Question, reading: Reading) -> Answered | Later:
    """What the failure of a try means for its line."""
    if isinstance(error, BudgetExhausted) and error.code != UNPRICED and error.comes_back:
        return Later(task, batches.HOLD_SECONDS, Batch.Held.BUDGET, question)
    if isinstance(error, BudgetStoreUnavailable | LimitReached):
        return Later(task, _within(error.retry_after or FIRST_PAUSE_SECONDS), Batch.Held.LIMIT, question)
    if not error.retryable or question.usage is not None:  # an answer that cannot be read was paid for
        return _refused(task, error, question, reading)
    if not question.trail.attempts and task.waits < MOST_WAITS:
        task.waits += 1
        return Later(task, _within(max(error.retry_after or 0.0, 2 * FIRST_PAUSE_SECONDS)), "", question)
    task.tries += 1
    if task.tries >= MOST_TRIES:
        return _refused(task, error, question, reading)
    pause = FIRST_PAUSE_SECONDS * 2.0 ** (task.tries - 1)
    return Later(task, _within(max(error.retry_after or 0.0, pause)), "", question)


def _within(seconds: float) -> float:
    return min(max(seconds, 0.1), LONGEST_PAUSE_SECONDS)


def _refused(task: Task, error: GatewayError, question: answering.Question, reading: Reading) -> Answered:
    said, body = reading.refused(error)
    return Answered(task, error.status, said, body, error.code, question)


def asking_of(batch: Batch, identity: Identity, turns: Turns) -> Asking:
    return Asking(batch.pk, batch.endpoint, batch.fence, identity, tags_of(batch), turns, batch.priority)


def identity_of(batch: Batch) -> Identity:
    """Raises `InvalidKey` when its key lets nobody in any more."""
    identity = batches.whose(batch.owner)
    if identity is None:
        raise InvalidKey("The client key that asked for this batch is not valid any more.")
    return identity
