"""What a request and its reply look like one hop further on: the headers that belong to a connection stay behind (RFC 9110,
7.6.1), who asked and where is added, everything else keeps its order, its duplicates and its bytes. No I/O.

A request's length is one of them: whoever writes the body says how long it is. A client that could have its length left out,
by naming it in `connection`, would have its body taken for the next request.
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
_OF_THE_REQUEST = _OF_THE_CONNECTION | {b"host", b"content-length", b"expect", b"x-forwarded-for"}
_ADDED = frozenset({b"via", b"x-forwarded-host", b"x-forwarded-proto", b"x-request-id"})
_OF_THE_REPLY = _OF_THE_CONNECTION | {b"date"}
"""The server that answers the client dates its replies itself."""
_WITHOUT_BODY = (204, 304)

_DOT_SEGMENT = re.compile(rb"(?:^|[/\\])\.{1,2}(?:[/\\;]|\Z)")


def onward(
    headers: Iterable[Header],
    *,
    client: str | None,
    scheme: str,
    request_id: str,
    replaced: Iterable[Header] = (),
    own_cookies: Collection[bytes] = (),
) -> list[Header]:
    """A request's headers for the next hop, without `host` and `content-length`. Names are in lower case; `replaced` win over
    the client's, and cookies that are ours are left out."""
    headers, replaced = list(headers), list(replaced)
    left_behind = _OF_THE_REQUEST | _named_by_connection(headers) | {name.lower() for name, _ in replaced}
    passed = []
    for name, value in headers:
        if name in left_behind or (b"_" in name and _means_one_of(name, left_behind)):
            continue
        if name == b"cookie" and any(own in value for own in own_cookies):
            value = _without_cookies(value, own_cookies)
            if not value:
                continue
        passed.append((name, value))
    sent = {name for name, _ in passed}
    forwarded = [value for name, value in headers if name == b"x-forwarded-for"]
    forwarded += [client.encode("latin-1", "replace")] if client else []
    if forwarded:
        passed.append((b"x-forwarded-for", b", ".join(forwarded)))
    host = next((value for name, value in headers if name == b"host"), b"")
    for name, value in (
        (b"x-forwarded-proto", scheme.encode("ascii")),
        (b"x-forwarded-host", host),
        (b"x-request-id", request_id.encode("ascii")),
    ):
        if value and name not in sent:
            passed.append((name, value))
    return passed + replaced


def back(
    headers: Iterable[Header], *, status: int = 200, own_cookies: Collection[bytes] = (), local: Local | None = None
) -> list[Header]:
    """A reply's headers for the client, spelled as they came. Cookies that are ours are not the next hop's to set, a redirect
    to itself comes back here, and a reply that has no body by its status says nothing of a length."""
    headers = list(headers)
    left_behind = _OF_THE_REPLY | _named_by_connection(headers)
    if status in _WITHOUT_BODY:
        left_behind |= {b"content-length"}
    passed = []
    for name, value in headers:
        lowered = name.lower()
        if lowered in left_behind or (lowered == b"set-cookie" and value.partition(b"=")[0].strip() in own_cookies):
            continue
        passed.append((name, local.to(value) if local is not None and lowered == b"location" else value))
    return passed


class Local:
    """Says what an address of the next hop is for a client that knows this one only."""

    def __init__(self, authority: bytes, base_path: str) -> None:
        self._origins = (b"http://" + authority, b"https://" + authority)
        self._base = base_path.rstrip("/").encode("ascii")

    def to(self, location: bytes) -> bytes:
        """A path here, or the location as it is when it leads elsewhere."""
        path = location
        for origin in self._origins:
            if location.startswith(origin) and location[len(origin) :][:1] in (b"", b"/", b"?"):
                path = location[len(origin) :]
                path = path if path[:1] == b"/" else b"/" + path
        if path[:1] != b"/" or path[:2] in (b"//", b"/\\"):
            return location
        if not self._base:
            return path
        below = path[len(self._base) :]
        return below if path.startswith(self._base) and below[:1] == b"/" and below[:2] != b"//" else location


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


def _means_one_of(name: bytes, names: Collection[bytes]) -> bool:
    """Whether a server that takes `_` for `-` (CGI's way, and so WSGI's) reads a name as one of ours."""
    meant = name.replace(b"_", b"-")
    return meant in names or meant in _ADDED


def _without_cookies(sent: bytes, names: Collection[bytes]) -> bytes:
    cookies = (pair.strip() for pair in sent.split(b";"))
    return b"; ".join(cookie for cookie in cookies if cookie.partition(b"=")[0].strip() not in names)


def _named_by_connection(headers: Collection[Header]) -> set[bytes]:
    return {
        name.strip().lower()
        for header, value in headers
        if header.lower() == b"connection"
        for name in value.split(b",")
    }
