"""The headers of a request that the data plane reads, and the ones that every reply carries."""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal
from functools import lru_cache
from urllib.parse import quote

from inference import asking, idempotency, response_cache, trace_ids
from inference.trace_ids import Parent

Header = tuple[bytes, bytes]

ROUTING = asking.HEADERS
TRACING = frozenset({b"traceparent", *(name.encode() for name in trace_ids.HEADERS)})
"""Headers in which a caller names its trace."""

CREDENTIALS = frozenset({b"authorization", b"x-api-key", b"api-key"})

ANTHROPIC = frozenset({b"anthropic-version", b"anthropic-beta"})
"""Headers of Anthropic's clients; the first is on each of their requests."""

READ = frozenset(
    {
        *CREDENTIALS,
        b"content-length",
        b"content-encoding",
        b"x-forwarded-for",
        b"x-client-request-id",
        *ANTHROPIC,
        idempotency.HEADER,
        response_cache.HEADER,
        response_cache.CONTROL,
        *TRACING,
        *ROUTING,
    }
)

OPENAI_VERSION: Header = (b"openai-version", b"2020-10-01")
_OURS = frozenset(
    {
        b"x-request-id",
        b"x-trace-id",
        b"openai-version",
        b"openai-processing-ms",
        b"content-type",
        b"content-length",
        b"transfer-encoding",
        b"connection",
        b"set-cookie",
        b"date",
        b"server",
    }
)
_SMALL = tuple(b"%d" % number for number in range(64))
_SAFE_ID = re.compile(rb"[A-Za-z0-9._:\-]{1,128}").fullmatch


def shown_request_id(read: dict[bytes, bytes], own: bytes) -> bytes:
    """The caller's own id when it sent one that is fit to be logged, else ours."""
    sent = read.get(b"x-request-id") or read.get(b"x-client-request-id")
    return sent if sent is not None and _SAFE_ID(sent) else own


def parent_of(read: dict[bytes, bytes]) -> Parent | None:
    sent = read.get(b"traceparent")
    return None if sent is None else trace_ids.parent_of(sent.decode("latin-1"))


def trace_id(read: dict[bytes, bytes], shown: bytes) -> bytes:
    """As the caller names its trace, else `shown`."""
    if TRACING.isdisjoint(read):
        return shown
    if parent := parent_of(read):
        return parent.trace_id.encode()
    sent = read.get(b"x-trace-id") or read.get(b"trace-id") or read.get(b"x-request-id") or read.get(b"request-id")
    return sent if sent is not None and _SAFE_ID(sent) else shown


def number(value: int) -> bytes:
    return _SMALL[value] if 0 <= value < 64 else b"%d" % value


def money(amount: Decimal) -> bytes:
    """To the last digit, without an exponent."""
    text = str(amount)
    return (format(amount, "f") if "E" in text else text).encode()


@lru_cache(maxsize=8192)
def route_value(route: str) -> bytes:
    """A route as a header may carry it: model ids can hold any character."""
    return quote(route, safe="/:@.,+-_~").encode()


def relayed(upstream: Iterable[Header]) -> list[Header]:
    """The upstream's headers without those that are ours to say."""
    return [header for header in upstream if header[0] not in _OURS]
