"""After the reply: one row per request, queued in memory and written in batches by one thread per process.

The request path stores the record in the spool, which outlives the process, and appends a tuple; the rows and the database are the
thread's. What the queue does not hold waits in the spool alone and is read back. Where neither has room, new requests are
to be refused (`is_full`) until the database is back: nothing is lost in silence.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import orjson
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from inference import attempts, outcomes
from inference.attempts import Attempt, Paid
from inference.backends.base import Usage
from inference.deciding import Ruling
from inference.metrics import Metrics
from inference.reasons import Reason, Reasons, asked_text
from inference.refusing import no_room_to_record
from inference.row_tallies import tally
from inference.told_usage import read_usage
from providers.pricing import USD
from routing import calibration
from routing.rollout import GATEWAY, LEGACY
from routing.types import Identity, ModelView, Prices

if TYPE_CHECKING:
    from inference.attempts import Trail
    from inference.contents import Contents
    from inference.spool import Slot, Spool
    from inference.wire.openai import ParsedRequest

logger = logging.getLogger("gateway.recording")

BATCH_ROWS = 500
BATCH_SECONDS = 0.25
QUEUE_ROWS = 20_000
"""In memory; more waits in the spool."""
_UNDER_WAY_ROWS = 10_000
"""Requests that may end while new ones are refused: their records still find room."""
ADOPT_SECONDS = 5.0
"""How often to look for what a dead process left."""
_LONGEST_PAUSE_SECONDS = 5.0
KEY_USE_SECONDS = 30.0
_LEARN_FROM = 8
"""Of the rows of a batch, each how manieth teaches the tokens of a byte; the first one always does."""

_LONGEST_JSON = 65_536
_LONGEST_TAGS = 255
_LONGEST_ADDRESS = 45


class Entry(NamedTuple):
    """What the request path leaves behind. Times: `at` in epoch seconds, spans in seconds."""

    request_id: str
    at: float
    operation: str
    identity: Identity | None
    requested_model: str
    model: ModelView | None
    upstream_key_id: int | None
    stream: bool
    status: int
    error_code: str
    attempts: int
    usage: Usage | bytes | None
    """As the backend counted it, or the bytes of the reply that tell it, or None."""
    guess: tuple[int, int]
    """Input and output tokens as counted by us, used when nobody told."""
    duration: float
    first_byte: float | None
    upstream: float
    overhead: float
    session_id: str | None
    side: str = GATEWAY
    """Which side of a parallel run served it; see `routing.rollout`. With the legacy side, `model` only tells what it would have
    cost here."""
    client: str = ""
    """Tells one client from another when there is no `identity`."""
    ruling: Ruling | None = None
    """The decision that it was served, or refused, by."""
    asked: tuple[int, int | None] = (0, None)
    """See `Trail.asked`."""
    log: list[Attempt] | None = None
    """See `Trail.log`."""
    cost: Decimal | None = None
    """Where it was counted for the reply already."""
    owner: str = ""
    """Whose fault a failure is; see `GatewayError.owner`."""
    trace_id: str = ""
    """As the client named it; empty: ours."""
    parent_span_id: str = ""
    tags: tuple[str, ...] = ()
    address: str = ""
    """The client's."""
    queued: float = 0.0
    """Seconds that it waited for its turn."""
    paid: tuple[Paid, ...] = ()
    """Tries that failed and cost money all the same."""
    run: int = 0
    """See `Trail.run`."""


class Row(NamedTuple):
    """What is written of one request: the columns of `Trace` and of `UsageRecord`, which have most in common."""

    request_id: str
    at: datetime
    operation: str
    client_key_id: int | None
    client_key_prefix: str
    requested_model: str
    provider_id: str
    model_id: str
    stream: bool
    status: int
    error_code: str
    attempts: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    estimated: bool
    cost: Decimal | None
    currency: str
    duration_ms: float
    first_byte_ms: float | None
    upstream_ms: float
    overhead_ms: float
    session_id: str
    side: str = GATEWAY
    policy: str = ""
    policy_version: int = 0
    decision: str = ""
    asked: str = ""
    attempts_log: str = ""
    error_owner: str = ""
    trace_id: str = ""
    parent_span_id: str = ""
    team_id: int | None = None
    fallback: bool = False
    queue_ms: float = 0.0
    tags: str = ""
    address: str = ""
    prices: str = ""
    """Of the ledger alone, as are those that follow."""
    attempt: int = 0
    paid: tuple[PaidRow, ...] = ()
    """Further rows of the ledger: what differs in them."""


class PaidRow(NamedTuple):
    """What a failed try used; the other columns are the request's."""

    attempt: int
    provider_id: str
    model_id: str
    status: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    estimated: bool
    cost: Decimal | None
    currency: str
    prices: str


class Kept(Protocol):
    """The spool, in the words of records; see `inference.kept_records`."""

    spool: Spool

    def began(self, request_id: str, request: ParsedRequest, trail: Trail) -> None: ...

    def keep(self, entry: Entry, slot: Slot | None) -> bool: ...

    def rows(self, most: int) -> tuple[list[Row], int]: ...


Write = Callable[[list[Row]], None]
Tell = Callable[[Sequence[Entry], Sequence[Row]], None]
"""Somebody who wants to know of every request, in the recorder's thread: entry by entry with its row."""
WriteReasons = Callable[[list[Reason]], None]
WriteKeyUse = Callable[[dict[int, tuple[float, str]], dict[int, float]], None]
"""Client keys and upstream keys by id, with the epoch second of their last use; of client keys with the address, too."""
_MOST_SHOWN_KEYS = 10_000


def entry_from_within(
    request_id: str,
    at: float,
    request: ParsedRequest,
    identity: Identity | None,
    trail: Trail,
    *,
    status: int,
    error_code: str,
    owner: str,
    usage: Usage | None,
    guess: tuple[int, int],
    cost: Decimal | None,
    duration: float,
    first_byte: float | None,
    overhead: float,
) -> Entry:
    """Of what this process's own code asked for. A request of `/v1` makes its own, by position: there it is counted in microseconds."""
    origin = request.origin
    return Entry(
        request_id=request_id,
        at=at,
        operation=request.operation.name,
        identity=identity,
        requested_model=request.model,
        model=trail.model,
        upstream_key_id=trail.key.key_id if trail.key is not None else None,
        stream=request.stream,
        status=status,
        error_code=error_code,
        attempts=trail.attempts,
        usage=usage,
        guess=guess,
        duration=duration,
        first_byte=first_byte,
        upstream=trail.upstream,
        overhead=overhead,
        session_id=request.session_id,
        side=trail.side,
        ruling=trail.ruling,
        asked=trail.asked,
        log=trail.log,
        cost=cost,
        owner=owner,
        trace_id=origin.trace_id,
        parent_span_id=origin.parent_span_id,
        tags=request.tags,
        address=origin.address,
        paid=tuple(trail.paid or ()),
        run=trail.run,
    )


def row_of(entry: Entry) -> Row:
    told = entry.usage
    usage = read_usage(told) if isinstance(told, bytes) else told
    if usage is None:
        usage = Usage(*entry.guess, estimated=True) if any(entry.guess) else _NO_USAGE
    model, identity = entry.model, entry.identity
    first_byte = entry.first_byte
    served = None if entry.side == LEGACY else model
    ruling = entry.ruling
    cost = entry.cost if entry.cost is not None else cost_of(model, usage)
    paid = _paid_rows(entry) if entry.paid else ()
    tags = entry.tags if identity is None or not identity.tags else (*identity.tags, *entry.tags)
    # By position: this runs once for every request, and names would double its cost.
    return Row(
        entry.request_id,
        datetime.fromtimestamp(entry.at, UTC),
        entry.operation,
        None if identity is None else identity.key_id,
        entry.client if identity is None else identity.prefix,
        storable(entry.requested_model),
        "" if served is None else served.provider.provider_id,
        "" if served is None else served.model_id,
        entry.stream,
        entry.status,
        storable(entry.error_code),
        entry.attempts,
        usage.input_tokens,
        usage.output_tokens,
        usage.cached_tokens,
        usage.reasoning_tokens,
        usage.estimated or served is not model,
        cost,
        USD if model is None else model.prices.currency,
        entry.duration * 1000,
        None if first_byte is None else first_byte * 1000,
        entry.upstream * 1000,
        entry.overhead * 1000,
        storable(entry.session_id) if entry.session_id else "",
        entry.side,
        "" if ruling is None else storable(ruling.decision.policy),
        0 if ruling is None else ruling.decision.version,
        "" if ruling is None else ruling.digest or "",
        "" if ruling is None else _bounded(asked_text(ruling, entry.asked)),
        "" if entry.log is None else _bounded(orjson.dumps(attempts.document(entry.log, usage, cost)).decode()),
        entry.owner or outcomes.owner_of(entry.error_code, entry.status),
        entry.trace_id or entry.request_id,
        entry.parent_span_id,
        None if identity is None else identity.team_id,
        ruling is not None and served is not None and fell_back(ruling, served),
        entry.queued * 1000,
        joined_tags(tags) if tags else "",
        entry.address[:_LONGEST_ADDRESS],
        "" if model is None or cost is None else model.prices.document,
        0,
        paid,
    )


def fell_back(ruling: Ruling, served: ModelView) -> bool:
    """As `x-gateway-fallback` says it: not the first choice, or one that was only meant for when all else fails."""
    first = ruling.candidates[0]
    return first.model is not served or first.role == "fallback"


def _paid_rows(entry: Entry) -> tuple[PaidRow, ...]:
    return tuple(
        PaidRow(
            attempts.paid_number(entry.run, number),
            one.model.provider.provider_id,
            one.model.model_id,
            one.status,
            one.usage.input_tokens,
            one.usage.output_tokens,
            one.usage.cached_tokens,
            one.usage.reasoning_tokens,
            one.usage.estimated,
            cost_of(one.model, one.usage),
            one.model.prices.currency,
            one.model.prices.document,
        )
        for number, one in enumerate(entry.paid, 1)
    )


def joined_tags(tags: Iterable[str]) -> str:
    """As columns hold them: `,a,b,`, so that one can be looked for with its commas."""
    known = ""
    for tag in sorted({storable(one) for one in tags} - {""}):
        if len(known) + len(tag) + 2 <= _LONGEST_TAGS:  # a tag that was cut off would be another one
            known += f",{tag}"
    return f"{known}," if known else ""


_NO_USAGE = Usage()


def cost_of(model: ModelView | None, usage: Usage) -> Decimal | None:
    """What a call cost; None when a price that is needed is unknown."""
    return None if model is None else cost_by(model.prices, usage)


def cost_by(prices: Prices, usage: Usage) -> Decimal | None:
    """As `cost_of`, by prices that stand alone."""
    return prices.cost(
        input_tokens=usage.input_tokens, output_tokens=usage.output_tokens, cached_tokens=usage.cached_tokens
    )


def storable(text: str) -> str:
    """PostgreSQL holds no NUL, and no database half a surrogate pair."""
    if len(text) <= 255 and text.isascii() and "\0" not in text:
        return text
    return text.replace("\0", "").encode("utf-8", "replace").decode()[:255]


def _bounded(text: str) -> str:
    """JSON has NUL and lone surrogates escaped or replaced already; a text without end would still be one."""
    return text if len(text) <= _LONGEST_JSON else ""


class Recorder:
    """The queue and its thread. `write` gets the rows of a batch, in the thread; an exception from it means "try again".

    `write_reasons` gets explanations that the rows refer to, before them. `close` is called in the thread when it ends. `kept` is the
    spool; `adopt` writes what dead processes left in theirs, and tells how many rows that were.
    """

    def __init__(
        self,
        write: Write,
        metrics: Metrics,
        *,
        write_key_use: WriteKeyUse | None = None,
        write_reasons: WriteReasons | None = None,
        close: Callable[[], None] = lambda: None,
        queue_rows: int = QUEUE_ROWS,
        retry_seconds: float = 1.0,
        kept: Kept | None = None,
        adopt: Callable[[], int] | None = None,
        contents: Contents | None = None,
    ) -> None:
        self._write = write
        self._write_key_use = write_key_use
        self._write_reasons = write_reasons
        self._reasons = Reasons()
        self._close = close
        self._metrics = metrics
        self._queue: deque[Entry] = deque()
        self._unkept: deque[tuple[Entry, Slot | None]] = deque()
        """What the spool has no room for."""
        self._elsewhere: deque[Entry] = deque()
        self._queue_rows = queue_rows
        self._retry_seconds = retry_seconds
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._give_up_at = float("inf")
        self.tell: list[Tell] = [partial(tally, metrics)]
        self._client_keys: dict[int, tuple[float, str]] = {}
        self._shown_keys: deque[tuple[int, float, str]] = deque(maxlen=_MOST_SHOWN_KEYS)
        self._upstream_keys: dict[int, float] = {}
        self._key_use_due = 0.0
        self._kept = kept
        self._adopt = adopt
        self._adopt_due = 0.0
        self.contents = contents
        """What was asked and answered, of those who opted in; its thread is this one's."""
        self._behind = False
        """What is added goes to the spool alone, until all that was added before is written: the queue was full."""
        self._turning = threading.Lock()
        self.away = False
        """The database did not take the last rows."""
        self.dropped = 0
        self.refused = 0
        """Requests, while it was full."""
        self.written = 0
        self.adopted = 0

    @property
    def is_full(self) -> bool:
        """Neither memory nor the spool has room. Whoever comes now is to be refused: what it uses could get lost."""
        if len(self._queue) + len(self._unkept) < self._queue_rows:
            return False
        return self._kept is None or self._kept.spool.full or not self._kept.spool.is_open

    def refuse_if_full(self) -> None:
        """Raises the `GatewayError` for a request whose usage might have to be forgotten."""
        if self.is_full:
            self.refused += 1
            raise no_room_to_record()

    def began(self, request_id: str, request: ParsedRequest, trail: Trail) -> None:
        """Called on the request path before a provider is asked, so that the request is known though the process be killed."""
        if self._kept is not None:
            self._kept.began(request_id, request, trail)

    def ended(self, trail: Trail) -> None:
        """The request that the trail is of was told elsewhere."""
        slot, trail.slot = trail.slot, None
        if slot is not None and self._kept is not None:
            self._kept.spool.end(slot)

    def add(self, entry: Entry, slot: Slot | None = None) -> None:
        """Called on the request path, and by one thread: never waits. `slot` is the one of the request's trail."""
        kept = self._kept
        if kept is not None:
            if self._behind:
                with self._turning:
                    if self._behind:
                        # Never through the queue, which has the spool's order: there, others are before it.
                        if not kept.keep(entry, slot):
                            self._add_unkept(entry, slot)
                        return
            if not kept.keep(entry, slot):
                self._add_unkept(entry, slot)
                return
        waiting = len(self._queue)
        if waiting >= self._queue_rows:
            if kept is not None:
                self._behind = True
            else:
                self._add_unkept(entry, slot)
            return
        self._queue.append(entry)
        if waiting == BATCH_ROWS:
            self._wake.set()

    def written_elsewhere(self, entry: Entry) -> None:
        """Its row was written together with something else: it is only to be told, to whoever is told of all requests."""
        self._elsewhere.append(entry)

    def key_shown(self, identity: Identity, at: float, address: str) -> None:
        """A key was used for what leaves no record, such as a list of models."""
        self._shown_keys.append((identity.key_id, at, address))

    def _add_unkept(self, entry: Entry, slot: Slot | None) -> None:
        if len(self._unkept) < self._queue_rows + _UNDER_WAY_ROWS:
            self._unkept.append((entry, slot))
        else:
            self.dropped += 1

    def start(self) -> None:
        if self._thread is None:
            self._stopping, self._give_up_at = False, float("inf")
            if self._kept is not None:
                self._open(self._kept)
            self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
            self._thread.start()

    def _open(self, kept: Kept) -> None:
        try:
            kept.spool.open()
        except OSError as error:
            if not kept.spool.failing:
                logger.error("no spool: records live in memory alone until they are written: %s", error)
            kept.spool.failing = error.strerror or type(error).__name__

    def stop(self, grace_seconds: float = 10.0) -> None:
        """Write what waits, then end. What cannot be written within the grace stays in the spool for the next process to find; what is
        in memory alone counts as dropped."""
        self._stopping = True
        self._give_up_at = time.monotonic() + grace_seconds
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
            if self._kept is not None:
                self._kept.spool.close()

    def families(self) -> Iterator[Metric]:
        dropped = CounterMetricFamily("gateway_records_dropped", "Usage rows lost because nothing had room for them.")
        dropped.add_metric([], self.dropped)
        yield dropped
        if self.contents is not None:
            yield from self.contents.families()
        refused = CounterMetricFamily("gateway_records_refused", "Requests refused since their usage had no room.")
        refused.add_metric([], self.refused)
        yield refused
        kept = self._kept
        waiting = len(self._queue) + len(self._unkept)
        if kept is not None:
            waiting = max(kept.spool.waiting(), len(self._queue)) + len(self._unkept)
        yield GaugeMetricFamily("gateway_records_waiting", "Usage rows not yet written.", value=waiting)
        if kept is None:
            return
        adopted = CounterMetricFamily("gateway_records_adopted", "Usage rows found in the spool of a dead process.")
        adopted.add_metric([], self.adopted)
        yield adopted
        yield GaugeMetricFamily(
            "gateway_records_unprotected",
            "Usage rows in memory alone: a kill would lose them.",
            value=len(self._unkept),
        )
        yield GaugeMetricFamily("gateway_spool_bytes", "Disk space of the spool.", value=kept.spool.bytes_used())
        yield GaugeMetricFamily("gateway_spool_full", "1: new requests are refused.", value=float(self.is_full))

    def _run(self) -> None:
        while True:
            if len(self._queue) < BATCH_ROWS and not self._unkept and not self._behind and not self._stopping:
                self._wake.wait(BATCH_SECONDS)
                self._wake.clear()
            if self._kept is not None:
                self._make_room(self._kept)
            stopping = self._stopping  # before: nothing is added after
            worked = self._write_some()
            if self.contents is not None:
                self.contents.write_waiting()
            self._tell_key_use()
            self._look_for_the_dead()
            if stopping and (not worked or self._has_given_up):
                self._give_up()
                self._close()
                return

    @property
    def _has_given_up(self) -> bool:
        return time.monotonic() >= self._give_up_at

    def _make_room(self, kept: Kept) -> None:
        if not kept.spool.is_open:
            self._open(kept)
        kept.spool.prepare()

    def _write_some(self) -> bool:
        """Of what was added first. False when nothing waits, or when the database did not take it and this is the end."""
        kept = self._kept
        if self._elsewhere:
            self._tell(*self._rows_that_can_be_made([self._elsewhere.popleft() for _ in range(len(self._elsewhere))]))
        if batch := self._take():
            written = self._settle(batch)
            if written and kept is not None:
                kept.spool.committed(len(batch))
            return written
        if self._unkept:
            held = [self._unkept.popleft() for _ in range(min(len(self._unkept), BATCH_ROWS))]
            written = self._settle([entry for entry, _ in held])
            if kept is not None and written:
                for _, slot in held:
                    if slot is not None:
                        kept.spool.end(slot)
            elif not written and kept is not None:
                self.dropped += len(held)
            return written
        return kept is not None and self._behind and self._read_back(kept)

    def _read_back(self, kept: Kept) -> bool:
        """Write what is in the spool and was never in the queue."""
        rows, read = kept.rows(BATCH_ROWS)
        if not read:
            with self._turning:
                self._behind = kept.spool.waiting() > 0
            return True
        if not self._store(rows, self._write):
            return False
        self.written += len(rows)
        kept.spool.committed(read)
        return True

    def _look_for_the_dead(self) -> None:
        now = time.monotonic()
        if self._adopt is None or self.away or self._stopping or now < self._adopt_due:
            return
        self._adopt_due = now + ADOPT_SECONDS
        try:
            self.adopted += self._adopt()
        except Exception as error:
            logger.warning("what a dead process left was not written: %s", error)

    def _take(self) -> list[Entry]:
        queue = self._queue
        return [queue.popleft() for _ in range(min(len(queue), BATCH_ROWS))]

    def _give_up(self) -> None:
        """At the end: what is in the spool stays there, the rest is lost."""
        lost = len(self._unkept) + (0 if self._kept is not None else len(self._queue))
        if lost:
            self.dropped += lost
            logger.error("%d usage rows dropped at the stop", lost)
        self._queue.clear()
        self._unkept.clear()

    def _settle(self, batch: list[Entry]) -> bool:
        """Whether the rows are written."""
        reasons = self._new_reasons(batch)
        try:
            rows = [row_of(entry) for entry in batch]
        except Exception:
            batch, rows = self._rows_that_can_be_made(batch)
        self._tell(batch, rows)
        for entry in batch:
            if entry.identity is not None:
                self._client_keys[entry.identity.key_id] = (entry.at, entry.address)
            if entry.upstream_key_id is not None:
                self._upstream_keys[entry.upstream_key_id] = entry.at
        self._learn(batch, rows)
        if reasons and self._write_reasons is not None:
            self._store(reasons, self._write_reasons)
        if not self._store(rows, self._write):
            if self._kept is None:
                self.dropped += len(rows)
            return False
        self.written += len(rows)
        return True

    def _new_reasons(self, batch: list[Entry]) -> list[Reason]:
        new = []
        for entry in batch:
            ruling = entry.ruling
            if ruling is not None and ruling.digest is None and (reason := self._reasons.take(ruling)) is not None:
                new.append(reason)
        return new

    def _tell(self, batch: list[Entry], rows: list[Row]) -> None:
        """Whoever listens must not keep a row from being written."""
        for tell in self.tell:
            try:
                tell(batch, rows)
            except Exception:
                logger.exception("somebody who is told of requests failed")

    def _learn(self, batch: list[Entry], rows: list[Row]) -> None:
        """How many tokens the prompts had of which we know the length; under load, some of them tell enough."""
        for entry, row in zip(batch[::_LEARN_FROM], rows[::_LEARN_FROM], strict=True):
            if entry.asked[0] and row.input_tokens and not row.estimated and entry.model is not None:
                ruling = entry.ruling
                if ruling is not None and not ruling.facts.images:
                    calibration.observe(entry.model.route, entry.asked[0], row.input_tokens)

    def _rows_that_can_be_made(self, batch: list[Entry]) -> tuple[list[Entry], list[Row]]:
        made, rows = [], []
        for entry in batch:
            try:
                rows.append(row_of(entry))
                made.append(entry)
            except Exception:
                logger.exception("a usage row could not be made: request_id=%s", entry.request_id)
                self.dropped += 1
        return made, rows

    def _store(self, rows: list[Any], write: Callable[[list[Any]], None]) -> bool:
        """Whether they are written; not, when the end comes first. They wait here while the database is away."""
        pause = self._retry_seconds
        while rows:
            try:
                write(rows)
            except Exception as error:
                self.away = True
                if self._has_given_up:
                    logger.error("%d usage rows not written at the stop: %s", len(rows), error)
                    return False
                logger.warning("usage rows not written, will try again in %.1f s: %s", pause, error)
                if self._kept is not None:
                    self._make_room(self._kept)
                self._wake.wait(pause)
                self._wake.clear()
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS) if not self._stopping else 0.2
            else:
                break
        self.away = False
        return True

    def _tell_key_use(self) -> None:
        now = time.monotonic()
        if self._write_key_use is None or (now < self._key_use_due and not self._stopping):
            return
        self._key_use_due = now + KEY_USE_SECONDS
        while self._shown_keys:
            key_id, at, address = self._shown_keys.popleft()
            self._client_keys[key_id] = (at, address)
        if not self._client_keys and not self._upstream_keys:
            return
        client_keys, self._client_keys = self._client_keys, {}
        upstream_keys, self._upstream_keys = self._upstream_keys, {}
        try:
            self._write_key_use(client_keys, upstream_keys)
        except Exception as error:
            logger.warning("times of last use not written: %s", error)
