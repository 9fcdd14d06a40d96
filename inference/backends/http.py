"""The door to upstream HTTP: from a provider's connection parameters to the client that suits it.

`client_for` gives the lean client, or the aiohttp one where a proxy or a client certificate asks for it. Both are proven
by the same tests. What they have in common stands in `exchange`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from inference.backends.exchange import (
    MAX_BODY_BYTES,
    Headers,
    HttpClient,
    HttpReply,
    Limits,
    Origin,
    header,
)
from inference.backends.http1 import Http1Client
from inference.backends.inflate import InflatedReply, inflate_whole, is_compressed
from inference.errors import ConfigurationError
from providers.addresses import AddressRefused, ParsedURL, check_url
from providers.connection import flag, text
from providers.secrets import Secret

__all__ = ["Headers", "HttpClient", "HttpReply", "Limits", "Origin", "client_for", "header", "limits_of", "origin_of"]

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+\Z")


def client_for(origin: Origin) -> HttpClient:
    if origin.proxy is not None or origin.client_certificate is not None:
        # On first use: aiohttp takes 20 MB and a quarter of a second to import, and few providers need it.
        client: HttpClient = import_module("inference.backends.proxied").ProxiedClient(origin)
        return client
    return Http1Client(origin)


def origin_of(url: str, connection: Mapping[str, Any]) -> tuple[Origin, ParsedURL]:
    """Where a provider's URL leads, under its `allow_private`, `verify_tls`, `ca_file`, `client_certificate`, `proxy`."""
    allow_private = flag(connection, "allow_private", default=True)
    try:
        parsed = check_url(url, allow_private)
    except AddressRefused as error:
        raise ConfigurationError(
            "The provider's base URL is not allowed.", detail=str(error), param="base_url"
        ) from error
    proxy = text(connection, "proxy")
    origin = Origin(
        scheme=parsed.scheme,
        host=parsed.host,
        port=parsed.port,
        allow_private=allow_private,
        verify_tls=flag(connection, "verify_tls", default=True),
        ca_file=text(connection, "ca_file") or None,
        client_certificate=text(connection, "client_certificate") or None,
        proxy=Secret(proxy) if proxy else None,
        max_connections=_most_connections(connection),
    )
    return origin, parsed


def limits_of(settings: Mapping[str, Any]) -> Limits:
    """`connect_timeout_seconds`, `first_byte_timeout_seconds`, `idle_timeout_seconds`, `timeout_seconds`."""
    default = Limits()
    return Limits(
        connect=_seconds(settings, "connect_timeout_seconds", default.connect),
        first_byte=_seconds(settings, "first_byte_timeout_seconds", default.first_byte),
        idle=_seconds(settings, "idle_timeout_seconds", default.idle),
        total=_seconds(settings, "timeout_seconds", default.total),
    )


async def whole_body(reply: HttpReply, limit: int = MAX_BODY_BYTES) -> bytes:
    """The body of a reply, inflated."""
    body = await reply.read()
    encoding = header(reply, b"content-encoding")
    return await inflate_whole(body, encoding, limit) if is_compressed(encoding) else body


def plain_stream(reply: HttpReply) -> HttpReply | InflatedReply:
    """The pieces of a reply, inflated."""
    encoding = header(reply, b"content-encoding")
    return InflatedReply(reply, encoding) if is_compressed(encoding) else reply


def wire_headers(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """As they are sent. Raises `ConfigurationError` for one that cannot be."""
    wire = []
    for name, value in headers.items():
        if not _HEADER_NAME.match(name) or any(ord(letter) < 32 or ord(letter) == 127 for letter in value):
            raise ConfigurationError(
                "A header of the provider cannot be sent.", detail="bad name or value", param="headers"
            )
        wire.append((name.encode("ascii"), value.strip().encode("utf-8")))
    return wire


def _most_connections(connection: Mapping[str, Any]) -> int:
    said = text(connection, "max_connections") or "1000"
    if not said.isdecimal() or int(said) < 1:
        raise ConfigurationError(
            "The provider's number of connections cannot be used.",
            detail="max_connections is not a whole number",
            param="max_connections",
        )
    return int(said)


def _seconds(settings: Mapping[str, Any], name: str, default: float) -> float:
    value = settings.get(name)
    if value is None or value == "":
        return default
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = 0.0
    if seconds <= 0:
        raise ConfigurationError(
            "The provider's time limits cannot be used.", detail=f"{name} is not a number of seconds", param=name
        )
    return seconds
