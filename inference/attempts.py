"""What happened to a request on its way: every try at a provider, and every candidate that was passed over.

The request path writes down only what went wrong; a request whose first try was answered costs nothing here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from time import time
from typing import TYPE_CHECKING, Any, NamedTuple

from inference.errors import GatewayError
from routing.rollout import GATEWAY
from routing.types import Identity, ModelView, UpstreamKey

if TYPE_CHECKING:
    from inference.backends.base import Reply, Usage
    from inference.backends.table import Shared
    from inference.deciding import Ruling
    from inference.spool import Slot
    from routing.metering import Grant

_LONGEST_CODE = 64

RUN = 1000
"""Runs of a job that were lost are booked as attempts from here on: below are tries of a request."""
_TRIES_OF_RUNS = 2000
_MOST_TRIES_OF_A_RUN = 30


def paid_number(run: int, number: int) -> int:
    """As which attempt the n-th paid try is booked; those of a job's runs, which have one request's id, must not meet."""
    return _TRIES_OF_RUNS + (run - RUN) * _MOST_TRIES_OF_A_RUN + number if run else number


@dataclass(slots=True, eq=False)
class Attempt:
    """One try, or with `status` 0 a candidate that was not asked. `started` in epoch seconds, spans in seconds."""

    provider_id: str
    model_id: str
    reason: str
    """Why it was tried: the candidate's role, `retry` or `next_key`; of one that was not asked, why not."""
    status: int
    code: str
    started: float
    seconds: float = 0.0
    first_byte: float | None = None
    """Of a stream: when it began to speak, counted from the try's begin."""
    key_id: int | None = None
    saved: dict[str, Any] | None = None
    """What the answer had cost when it was made: of one that was remembered, so that nobody was asked."""


class Paid(NamedTuple):
    """A failed try of which the upstream told what it used."""

    model: ModelView
    usage: Usage
    status: int


@dataclass(slots=True, eq=False)
class Trail:
    """What happened to a request so far. Spans in seconds."""

    model: ModelView | None = None
    route: str = ""
    """The model's."""
    key: UpstreamKey | None = None
    attempts: int = 0
    fallback: bool = False
    """The answer is not the first choice's."""
    upstream: float = 0.0
    """Spent waiting for providers until one answered."""
    reply: Reply | None = None
    shared: Shared | None = None
    streaming: str = ""
    """How the stream under way stands, as it will be counted when it is over."""
    ruling: Ruling | None = None
    asked: tuple[int, int | None] = (0, None)
    """Bytes of the prompt and the most tokens of the answer: what a kept ruling does not know of each request."""
    log: list[Attempt] | None = None
    """None as long as nothing went wrong."""
    traceparent: bytes = b""
    """As it goes upstream; empty when the caller sent none."""

    identity: Identity | None = None
    """Who asked, and what follows: what the spool must know of a request while it is under way."""
    side: str = GATEWAY
    trace_id: str = ""
    parent_span_id: str = ""
    run: int = 0
    """Under which number of an attempt it is booked when its process is lost; of a job each run is one, see `inference.jobs`."""
    slot: Slot | None = None
    """Its place in the spool."""
    paid_counted: int = 0
    """Of the paid tries, how many are settled with the budgets."""
    grant: Grant | None = None
    """What it holds of limits and budgets; None when none counts for it."""
    paid: list[Paid] | None = None
    """Tries that failed and cost money all the same; None as long as there are none."""

    def failed(self, reason: str, error: GatewayError, seconds: float) -> None:
        self._note(reason, error.status, error.code[:_LONGEST_CODE], seconds)

    def cancelled(self, reason: str, code: str, seconds: float) -> None:
        self._note(reason, 499, code, seconds)

    def answered(self, reason: str, status: int, seconds: float, streamed: bool) -> None:
        """Worth a line only where others stand."""
        if self.log is not None:
            self._note(reason, status, "", seconds, seconds if streamed else None)

    def passed_over(self, model: ModelView, reason: str) -> None:
        if self.log is None:
            self.log = []
        self.log.append(Attempt(model.provider.provider_id, model.model_id, reason, 0, "", time()))

    def shown(self) -> tuple[dict[str, Any], ...]:
        """What the caller of a failed request may know: how often, and how each try ended."""
        return tuple({"status": one.status, "code": one.code} for one in self.log or () if one.status)

    def _note(self, reason: str, status: int, code: str, seconds: float, first_byte: float | None = None) -> None:
        model, key = self.model, self.key
        assert model is not None
        if self.log is None:
            self.log = []
        self.log.append(
            Attempt(
                model.provider.provider_id,
                model.model_id,
                reason,
                status,
                code,
                time() - seconds,
                seconds,
                first_byte,
                None if key is None else key.key_id,
            )
        )


def document(log: Iterable[Attempt], usage: Usage, cost: Decimal | None) -> list[dict[str, Any]]:
    """The tries as plain values for JSON. What was used and what it cost is the answered one's."""
    told = []
    for one in log:
        line: dict[str, Any] = {
            "provider_id": one.provider_id,
            "model_id": one.model_id,
            "reason": one.reason,
            "status": one.status or None,
            "started": round(one.started, 3),
        }
        if one.status:
            line |= {"code": one.code, "duration_ms": round(one.seconds * 1000, 3), "key_id": one.key_id}
        if one.saved is not None:
            line["saved"] = one.saved
        if one.first_byte is not None:
            line["first_byte_ms"] = round(one.first_byte * 1000, 3)
        if 200 <= one.status < 300 and not one.code:
            line |= {
                "input_tokens": usage.input_tokens,
                "output_tokens": usage.output_tokens,
                "cost": None if cost is None else str(cost),
            }
        told.append(line)
    return told
