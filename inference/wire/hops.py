"""What a request and its reply look like one hop further on: the headers that belong to a connection stay behind (RFC 9110,
7.6.1), who asked and where is added, everything else keeps its order, its duplicates and its bytes. No I/O.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from urllib.parse import unquote_to_bytes

Header = tuple[bytes, bytes]

_OF_THE_CONNECTION = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
_OF_THE_REQUEST = _OF_THE_CONNECTION | {b"host", b"expect", b"x-forwarded-for"}
_OF_THE_REPLY = _OF_THE_CONNECTION | {b"date"}
"""The server that answers the client dates its replies itself."""

_DOT_SEGMENT = re.compile(rb"(?:^|[/\\])\.{1,2}(?:[/\\]|\Z)")


def onward(
    headers: Iterable[Header], *, client: str | None, scheme: str, request_id: str, replaced: Iterable[Header] = ()
) -> list[Header]:
    """A request's headers for the next hop, without `host`. Names are in lower case; `replaced` win over the client's."""
    headers, replaced = list(headers), list(replaced)
    left_behind = _OF_THE_REQUEST | _named_by_connection(headers) | {name.lower() for name, _ in replaced}
    passed = [header for header in headers if header[0] not in left_behind]
    forwarded = [value for name, value in headers if name == b"x-forwarded-for"]
    forwarded += [client.encode("latin-1", "replace")] if client else []
    if forwarded:
        passed.append((b"x-forwarded-for", b", ".join(forwarded)))
    sent = {name for name, _ in headers}
    host = next((value for name, value in headers if name == b"host"), b"")
    for name, value in (
        (b"x-forwarded-proto", scheme.encode("ascii")),
        (b"x-forwarded-host", host),
        (b"x-request-id", request_id.encode("ascii")),
    ):
        if value and name not in sent:
            passed.append((name, value))
    return passed + replaced


def back(headers: Iterable[Header]) -> list[Header]:
    """A reply's headers for the client, spelled as they came."""
    headers = list(headers)
    left_behind = _OF_THE_REPLY | _named_by_connection(headers)
    return [header for header in headers if header[0].lower() not in left_behind]


def target(base_path: str, raw_path: bytes, query: bytes) -> bytes:
    """Path and query as they were sent, below the base."""
    path = base_path.rstrip("/").encode("ascii") + raw_path
    return path + b"?" + query if query else path


def climbs(raw_path: bytes) -> bool:
    """Whether the next hop may read another path than the one that stands there: `/v1/../admin`, also encoded."""
    return _DOT_SEGMENT.search(unquote_to_bytes(raw_path)) is not None


def value_of(headers: Iterable[Header], name: bytes) -> bytes:
    """The first value of a header, its name in lower case; empty when it is not there."""
    return next((value for each, value in headers if each.lower() == name), b"")


def _named_by_connection(headers: Collection[Header]) -> set[bytes]:
    return {
        name.strip().lower()
        for header, value in headers
        if header.lower() == b"connection"
        for name in value.split(b",")
    }
