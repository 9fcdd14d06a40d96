"""What the spool keeps of a request, as plain values that need nothing but themselves to become a row of the ledger again.

A request that begins is told with the prices it is served by, so that whoever finds the record later reckons the same cost. What
is not kept is the wording of the decision: a trace that comes out of the spool names the policy and its version alone.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from time import time
from typing import TYPE_CHECKING, Any

import msgspec
import orjson

from inference import attempts, outcomes
from inference.attempts import Paid
from inference.backends.base import Usage
from inference.recording import Entry, PaidRow, Row, cost_by, fell_back, joined_tags, storable
from inference.spool import Begun, Finished, Slot, Spool
from inference.tokens_seen import in_question
from inference.told_usage import read_usage
from providers.prices import of_document
from providers.pricing import USD
from routing.rollout import GATEWAY, LEGACY

if TYPE_CHECKING:
    from inference.attempts import Trail
    from inference.deciding import Ruling
    from inference.wire.openai import ParsedRequest
    from routing.types import Identity, ModelView

logger = logging.getLogger("gateway.recording")

LOST = "gateway_lost"
"""The error code of a request whose process died: what was seen of its answer is booked, as an estimate."""
_LOST_STATUS = 500
_MOST_TOKENS = 2**31 - 1
_LONGEST_LOG = 16_384

_encode = msgspec.msgpack.Encoder(decimal_format="string").encode
_decode = msgspec.msgpack.Decoder().decode


class KeptRecords:
    """The spool in the words of the recorder. `began`, `keep` and `end` are the request path's."""

    def __init__(self, spool: Spool) -> None:
        self.spool = spool

    def began(self, request_id: str, request: ParsedRequest, trail: Trail) -> None:
        """Write down that the trail's model is about to be asked; what was written of the one before goes."""
        before = trail.slot
        trail.slot = self.spool.begin(_begun(request_id, request, trail))
        if before is not None:
            self.spool.end(before)

    def keep(self, entry: Entry, slot: Slot | None) -> bool:
        """Store how a request ended, and free its slot. False when there is no room: the slot then stands."""
        begun = slot.record if slot is not None and entry.attempts else _begun_of(entry)
        try:
            kept = self.spool.append(begun, _ended(entry))
        except (TypeError, ValueError) as error:  # a text that is none, in a member that nobody has made fit
            logger.warning("a record is not kept on disk: request_id=%s %s", entry.request_id, type(error).__name__)
            return False
        if kept and slot is not None:
            self.spool.end(slot)
        return kept

    def rows(self, most: int) -> tuple[list[Row], int]:
        """The first records that the database does not have, and how many were read for them."""
        found = self.spool.unread(most)
        return rows_of(found), len(found)


def rows_of(found: Sequence[Finished]) -> list[Row]:
    rows = []
    for one in found:
        try:
            rows.append(row_of_finished(one))
        except (msgspec.MsgspecError, UnicodeDecodeError, ValueError, TypeError, ArithmeticError) as error:
            logger.error("a record in the spool cannot be read and is lost: %s", type(error).__name__)
    return rows


# Told ---------------------------------------------------------------------------------------------------------------


def _begun(request_id: str, request: ParsedRequest, trail: Trail) -> bytes:
    # By position, as everything here: it runs for every request. What may be long is cut to what fits a slot.
    session = request.session_id
    tags = request.tags
    try:
        return _encode(
            (
                request_id,
                time(),
                request.operation.name,
                request.model[:120],
                request.stream,
                session[:120] if session else "",
                trail.side,
                in_question(request),
                trail.run,
                trail.attempts,
                trail.trace_id,
                trail.parent_span_id,
                _tags(trail.identity, tags) if tags else None,
                [_paid(one) for one in trail.paid] if trail.paid else None,
                _known(trail.identity, trail.model, trail.ruling, trail.side),
            )
        )
    except (TypeError, ValueError):  # half a surrogate pair in a name, which msgpack cannot hold
        known = _known(trail.identity, trail.model, trail.ruling, trail.side)
        return _encode((request_id, time(), request.operation.name, *_UNTELLABLE, known))


_UNTELLABLE = ("", False, "", GATEWAY, 0, 0, 1, "", "", None, None)


def _begun_of(entry: Entry) -> bytes:
    """Of a request that began without a slot, such as one that was refused or that the legacy side served."""
    session = storable(entry.session_id) if entry.session_id else ""
    return _encode(
        (
            entry.request_id,
            entry.at,
            entry.operation,
            storable(entry.requested_model),
            entry.stream,
            session,
            entry.side,
            0,
            0,
            entry.attempts,
            "",
            "",
            None,
            None,
            _known(entry.identity, entry.model, entry.ruling, entry.side, entry.client),
        )
    )


class _Known:
    """What is the same for all requests of one key to one model under one policy, encoded once."""

    def __init__(self) -> None:
        self._made: dict[tuple[object, ...], tuple[Identity | None, ModelView | None, msgspec.Raw]] = {}

    def __call__(
        self, identity: Identity | None, model: ModelView | None, ruling: Ruling | None, side: str, client: str = ""
    ) -> msgspec.Raw:
        policy, version, fell = "", 0, False
        if ruling is not None:
            policy, version = ruling.decision.policy, ruling.decision.version
            fell = model is not None and side != LEGACY and fell_back(ruling, model)
        # By identity: to compare them would cost more than to encode them. They are held, so that no other gets their id.
        key = (id(identity), id(model), policy, version, fell, side, client)
        found = self._made.get(key)
        if found is not None:
            return found[2]
        if len(self._made) >= _MOST_KNOWN:
            self._made.clear()
        made = msgspec.Raw(_encode((*_plain(identity, model, side, client), storable(policy)[:120], version, fell)))
        self._made[key] = (identity, model, made)
        return made


def _plain(identity: Identity | None, model: ModelView | None, side: str, client: str) -> tuple[Any, ...]:
    unnamed = model is None or side == LEGACY  # there the model tells what it would have cost here
    return (
        None if identity is None else identity.key_id,
        client if identity is None else identity.prefix,
        None if identity is None else identity.team_id,
        "" if identity is None or not identity.tags else joined_tags(identity.tags),
        "" if model is None or unnamed else model.provider.provider_id,
        "" if model is None or unnamed else model.model_id,
        USD if model is None else model.prices.currency,
        "" if model is None else model.prices.document,
        model is not None,
    )


_MOST_KNOWN = 500
_known = _Known()

_OUTCOME = slice(Entry._fields.index("status"), Entry._fields.index("usage"))
_TIMES = slice(Entry._fields.index("guess"), Entry._fields.index("session_id"))


def _ended(entry: Entry) -> bytes:
    usage, ruling, tags = entry.usage, entry.ruling, entry.tags
    more = entry.log is not None or entry.queued or entry.trace_id or tags or entry.paid
    return _encode(
        (
            entry.at,
            entry[_OUTCOME],
            usage,
            entry[_TIMES],
            "" if ruling is None else ruling.digest or "",
            entry.owner,
            entry.address,
            _more(entry) if more else None,
        )
    )


def _more(entry: Entry) -> tuple[Any, ...]:
    log = b""
    if entry.log is not None:
        told = read_usage(entry.usage) if isinstance(entry.usage, bytes) else entry.usage
        log = orjson.dumps(attempts.document(entry.log, told or Usage(), entry.cost))
    return (
        log if len(log) <= _LONGEST_LOG else b"",
        entry.queued,
        entry.trace_id,
        entry.parent_span_id,
        _tags(entry.identity, entry.tags) if entry.tags else None,
        [_paid(one) for one in entry.paid] if entry.paid else None,
    )


def _tags(identity: Identity | None, tags: tuple[str, ...]) -> str:
    if identity is not None and identity.tags:
        tags = (*identity.tags, *tags)
    return joined_tags(tags) if tags else ""


def _paid(one: Paid) -> tuple[Any, ...]:
    model: ModelView = one.model
    usage = one.usage
    return (
        model.provider.provider_id,
        model.model_id,
        one.status,
        (usage.input_tokens, usage.output_tokens, usage.cached_tokens, usage.reasoning_tokens, usage.estimated),
        model.prices.currency,
        model.prices.document,
    )


# Read again -----------------------------------------------------------------------------------------------------------


def row_of_finished(found: Finished) -> Row:
    at, (status, code, tries), told, times, digest, owner, address, more = _decode(found.ended)
    guess, duration, first_byte, upstream, overhead = times
    log, queued, trace_id, parent, tags, paid = more or (b"", 0, "", "", None, None)
    usage = read_usage(told) if isinstance(told, bytes) else None if told is None else Usage(**told)
    if usage is None:
        usage = Usage(guess[0], guess[1], estimated=True) if any(guess) else Usage()
    row = _row(_decode(found.begun), at, usage, paid)
    return row._replace(
        status=status,
        error_code=storable(code),
        error_owner=owner or outcomes.owner_of(code, status),
        attempts=tries,
        estimated=usage.estimated or (row.side == LEGACY and bool(row.prices)),
        duration_ms=duration * 1000,
        first_byte_ms=None if first_byte is None else first_byte * 1000,
        upstream_ms=upstream * 1000,
        overhead_ms=overhead * 1000,
        decision=digest,
        attempts_log=log.decode(),
        queue_ms=queued * 1000,
        trace_id=trace_id or row.trace_id,
        parent_span_id=parent or row.parent_span_id,
        tags=tags or row.tags,
        address=address,
        attempt=0,
    )


def row_of_begun(found: Begun) -> Row:
    """A request whose process died: with what it used where that was told, else with what was seen of its answer."""
    begun = _decode(found.record)
    at, paid = begun[_AT], begun[_PAID]
    if found.status:
        usage = Usage(
            min(found.input_tokens, _MOST_TOKENS),
            min(found.output_tokens, _MOST_TOKENS),
            min(found.cached_tokens, _MOST_TOKENS),
            min(found.reasoning_tokens, _MOST_TOKENS),
        )
        return _row(begun, at, usage, paid)._replace(status=found.status)
    seen = min(found.seen, _MOST_TOKENS)
    guessed = Usage(begun[_GUESS], seen, estimated=True) if seen else Usage(estimated=True)
    return _row(begun, at, guessed, paid)._replace(status=_LOST_STATUS, error_code=LOST, error_owner="gateway")


_AT, _GUESS, _PAID = 1, 7, 13


def _row(begun: Sequence[Any], at: float, usage: Usage, paid: Sequence[Any] | None) -> Row:
    request_id, _, operation, asked_for, stream, session, side, _, run, tries, trace_id, parent, tags, _, known = begun
    key_id, prefix, team_id, own_tags, provider_id, model_id, currency, document, modelled, *routed = known
    policy, version, fell = routed
    cost = cost_by(of_document(document, currency), usage) if modelled else None
    return Row(
        request_id,
        datetime.fromtimestamp(at, UTC),
        operation,
        key_id,
        prefix,
        storable(asked_for),
        provider_id,
        model_id,
        stream,
        0,
        "",
        tries,
        usage.input_tokens,
        usage.output_tokens,
        usage.cached_tokens,
        usage.reasoning_tokens,
        usage.estimated,
        cost,
        currency,
        0.0,
        None,
        0.0,
        0.0,
        session,
        side,
        policy,
        version,
        trace_id=trace_id or request_id,
        parent_span_id=parent,
        team_id=team_id,
        fallback=fell,
        tags=own_tags if tags is None else tags,
        prices="" if cost is None else document,
        attempt=run,
        paid=_paid_again(paid or (), run),
    )


def _paid_again(paid: Sequence[Any], run: int) -> tuple[PaidRow, ...]:
    rows = []
    for number, (provider_id, model_id, status, told, currency, document) in enumerate(paid, 1):
        usage = Usage(*told)
        cost = cost_by(of_document(document, currency), usage)
        rows.append(
            PaidRow(
                attempts.paid_number(run, number),
                provider_id,
                model_id,
                status,
                usage.input_tokens,
                usage.output_tokens,
                usage.cached_tokens,
                usage.reasoning_tokens,
                usage.estimated,
                cost,
                currency,
                document,
            )
        )
    return tuple(rows)
