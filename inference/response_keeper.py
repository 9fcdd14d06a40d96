"""Keeps responses for the data plane: what it asks for on the event loop is done here, by one thread that has the database.

An answer that cannot be kept is told all the same, since it was paid for; the log says so, and so does the Response, by `store: false`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from django.conf import settings
from django.db import DatabaseError, IntegrityError, InterfaceError, OperationalError, connections, transaction

from inference import jobs, kept_responses, response_following, response_jobs
from inference.errors import GatewayError, LimitReached
from inference.response_following import Standing
from inference.response_keeping import Before, Turn
from inference.response_models import KeptResponse
from inference.response_room import NoRoom
from inference.wire.openai import ParsedRequest
from inference.wire.responses import Asked
from routing.types import Identity

logger = logging.getLogger("gateway.responses")

Item = dict[str, Any]
Result = TypeVar("Result")

_COME_BACK_SECONDS = 5.0


def for_this_process() -> ResponseKeeper | None:
    """None when the settings say that nothing is kept."""
    return ResponseKeeper() if settings.GATEWAY_RESPONSES_DAYS else None


class ResponseKeeper:
    """See `response_keeping.Keeper`. Its thread is made with the first response."""

    def __init__(self) -> None:
        self._thread: ThreadPoolExecutor | None = None

    async def before(self, owner: str, previous: str, references: Iterable[str], model: str) -> Before:
        try:
            return await self._do(partial(kept_responses.before, owner, previous, list(references), model))
        except DatabaseError as error:
            raise _away(error) from error

    async def keep(self, turn: Turn) -> bool:
        try:
            # Whoever leaves while this waits for its turn knows the response's id, and may come back for it.
            await asyncio.shield(self._do(partial(_once, partial(kept_responses.keep, turn), turn.response)))
        except (DatabaseError, NoRoom, TypeError, ValueError) as error:
            logger.warning("a response was not kept: %s %s", turn.response["id"], type(error).__name__)
            return False
        return True

    async def queue(self, asked: Asked, parsed: ParsedRequest, identity: Identity, response: Item) -> None:
        try:
            await self._do(partial(_once, partial(queued, asked, parsed, identity, response), response))
        except DatabaseError as error:
            raise _away(error) from error
        except NoRoom:
            raise LimitReached(
                "The responses that are worked on fill the room of this client key for kept ones; wait for some to be over.",
                retry_after=_COME_BACK_SECONDS,
            ) from None

    def follow(self, owner: str, response_id: str) -> AsyncIterator[bytes]:
        return response_following.follow(lambda: self._do(partial(standing_of, owner, response_id)), settings.REDIS_URL)

    async def aclose(self) -> None:
        """After the last request."""
        if self._thread is not None:
            await self._do(connections.close_all)
            self._thread.shutdown()
            self._thread = None

    async def _do(self, work: Callable[[], Result]) -> Result:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "responses")
        return await asyncio.get_running_loop().run_in_executor(self._thread, _with_the_database, work)


def queued(asked: Asked, parsed: ParsedRequest, identity: Identity, response: Item) -> KeptResponse:
    """Keep the response and make its job, or neither."""
    turn = Turn(identity.prefix, parsed.model, asked.previous, asked.input, response)
    with transaction.atomic():
        job = jobs.create_response(response["id"], parsed, identity)
        return kept_responses.keep(turn, job=job, question=response_jobs.question_of(asked, parsed))


def _once(keep: Callable[[], object], response: Item) -> None:
    """One that is there already was kept by a transaction whose end was not heard of: its id is of this request alone."""
    try:
        keep()
    except IntegrityError:
        if not KeptResponse.objects.filter(response_id=response["id"]).exists():
            raise


def standing_of(owner: str, response_id: str) -> Standing | None:
    row = kept_responses.find(owner, response_id)
    if row is None:
        return None
    job = row.job
    asked = response_jobs.told_by(row)
    return Standing(
        asked, kept_responses.as_it_stands(row), None if job is None else job.pk, 0 if job is None else job.fence
    )


def _with_the_database(work: Callable[[], Result]) -> Result:
    """The thread keeps its connection. One that broke is found out by whoever uses it next, who gets another."""
    try:
        return work()
    except (InterfaceError, OperationalError):
        connections.close_all()
        return work()


def _away(error: DatabaseError) -> GatewayError:
    return GatewayError(
        "Kept responses cannot be read at the moment.",
        status=503,
        code="responses_unavailable",
        retryable=True,
        detail=type(error).__name__,
    )
