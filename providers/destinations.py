"""Where a provider's secrets are sent. Pure: a destination is read from connection parameters, and compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from providers import connection

_PORTS = {"http": 80, "https": 443}
_PROXIED, _UNVERIFIED = " through ", " without checking the certificate"


@dataclass(frozen=True, slots=True)
class Destination:
    """`origin` and `proxy` are scheme, host and port; empty where nobody is dialled, or no proxy is asked."""

    origin: str = ""
    proxy: str = ""
    verified: bool = True

    def covers(self, other: Destination) -> bool:
        """Whether what was entered for this one may go to the other: the same place, by the same way or a safer one."""
        return self.origin == other.origin and other.proxy in ("", self.proxy) and (other.verified or not self.verified)

    def __str__(self) -> str:
        """For people, without credentials; `read` takes it back."""
        proxied = f"{_PROXIED}{self.proxy}" if self.proxy else ""
        return f"{self.origin or 'nowhere'}{proxied}{'' if self.verified else _UNVERIFIED}"


def of(params: Mapping[str, Any]) -> Destination:
    """The destination that canonical connection parameters name; secrets in them may be `Secret`s."""
    return Destination(
        _origin(connection.text(params, "base_url")),
        _origin(connection.text(params, "proxy")),
        connection.flag(params, "verify_tls", default=True),
    )


def read(text: str) -> Destination:
    """What `str` of a destination said."""
    rest = text.removesuffix(_UNVERIFIED)
    origin, _, proxy = rest.partition(_PROXIED)
    return Destination("" if origin == "nowhere" else origin, proxy, rest == text)


def _origin(url: str) -> str:
    """Of a URL that cannot be read, the whole of it without what may be a password: any change of it is a change of place."""
    url = url.strip()
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme) or ""
    except ValueError:
        return url.rpartition("@")[2]
    if not parts.hostname:
        return url.rpartition("@")[2]
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}:{port}"
