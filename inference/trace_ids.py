"""The trace that a request belongs to, as its sender names it, and our place in it as W3C's trace context tells it. Pure.

Ids of requests hold 32 hex digits (see `request_ids`), so each is a trace id of that standard as well, and the last 16 of them are
the id of the gateway's own span: nothing has to be kept to tell both again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from hashlib import blake2b
from typing import NamedTuple

HEADERS = ("x-trace-id", "trace-id", "x-request-id", "request-id")
"""Where clients of the source systems name it, the first one first; `traceparent` goes before them all."""

_SAFE_ID = re.compile(r"[A-Za-z0-9._:\-]{1,128}")
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-|$)")
_HEX = re.compile(r"[0-9a-f]{32}")


class Origin(NamedTuple):
    """Where a request comes from: the trace as its sender named it (empty: ours), the sender's span and address."""

    trace_id: str = ""
    parent_span_id: str = ""
    address: str = ""


UNKNOWN = Origin()
_arrived: ContextVar[Origin] = ContextVar("origin", default=UNKNOWN)


class Parent(NamedTuple):
    """What a `traceparent` says, in hex digits."""

    trace_id: str
    span_id: str
    flags: str


def parent_of(traceparent: str) -> Parent | None:
    """None for what the standard does not allow, which is to be taken as if nothing had been sent."""
    found = _TRACEPARENT.match(traceparent)
    return None if found is None else Parent(*found.groups())


def trace_of(headers: Mapping[str, str], otherwise: str) -> str:
    """The caller's own trace, when it sent one that is fit to be logged. `headers` answer to names in any case."""
    if parent := parent_of(headers.get("traceparent", "")):
        return parent.trace_id
    sent = (headers.get(name, "") for name in HEADERS)
    return next((one for one in sent if _SAFE_ID.fullmatch(one)), otherwise)


def origin_of(headers: Mapping[str, str], address: str = "") -> Origin:
    parent = parent_of(headers.get("traceparent", ""))
    return Origin(trace_of(headers, ""), "" if parent is None else parent.span_id, address)


@contextmanager
def arriving(origin: Origin) -> Iterator[None]:
    """What is asked of the gateway's client within comes from there."""
    token = _arrived.set(origin)
    try:
        yield
    finally:
        _arrived.reset(token)


def current() -> Origin:
    return _arrived.get()


def span_id(request_id: str) -> str:
    """Of the gateway's own span: 16 hex digits, always the same for one request."""
    return _digits(request_id)[16:]


def w3c_trace_id(trace_id: str) -> str:
    """32 hex digits that stand for a trace of whatever name."""
    return _digits(trace_id)


def child(parent: Parent, request_id: str) -> str:
    """The `traceparent` that goes upstream, and back to the caller: the caller's trace, and our span in it."""
    return f"00-{parent.trace_id}-{span_id(request_id)}-{parent.flags}"


def _digits(name: str) -> str:
    digits = name.rpartition("_")[2]
    if _HEX.fullmatch(digits) and digits[16:] != "0" * 16:
        return digits
    return blake2b(name.encode("utf-8", "replace"), digest_size=16).hexdigest()
