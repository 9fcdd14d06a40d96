"""Reaching an upstream: look its name up, judge every address, connect to exactly the judged one, with or without TLS.

Failures are ours when they leave here. Their texts hold no host and no address.
"""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import os
import socket
import ssl
from collections.abc import Callable
from typing import Any

from inference.backends.exchange import Limits, Origin
from inference.errors import ConfigurationError, GatewayError, UpstreamTimeout, UpstreamUnreachable
from providers import tls
from providers.addresses import AddressRefused, check_address

LOOK_UP_SECONDS = 5.0
"""How long the answer of a look-up is used again."""

_REASONS = {
    10: "it has expired",
    18: "it is self-signed",
    19: "it is signed by an unknown authority",
    20: "it is signed by an unknown authority",
    21: "it is signed by an unknown authority",
    62: "it is for another name",
    64: "it is for another address",
}
"""OpenSSL's verification codes (X509_V_ERR_*)."""


async def connect(origin: Origin, addresses: list[str], protocol: Callable[[], Any], limits: Limits) -> Any:
    """Try the addresses in order; all of them share the time to connect."""
    loop = asyncio.get_running_loop()
    context = tls_context(origin)
    until = loop.time() + limits.connect
    failure: Exception | None = None
    for position, address in enumerate(addresses):
        left = until - loop.time()
        if position + 1 < len(addresses):
            left /= 2  # a dead address must not use up the time of a living one
        try:
            async with asyncio.timeout(left):
                _, made = await loop.create_connection(
                    protocol, address, origin.port, ssl=context, server_hostname=origin.host if context else None
                )
            return made
        except (OSError, TimeoutError) as error:  # ssl.SSLError is an OSError
            failure = error
    assert failure is not None
    raise not_connected(failure, limits) from failure


async def look_up(origin: Origin) -> list[str]:
    """The addresses of the origin's name that may be dialled."""
    if _is_address(origin.host):
        return allowed_addresses([origin.host], origin.allow_private)
    try:
        found = await asyncio.get_running_loop().getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise UpstreamUnreachable("The provider's host name does not resolve.", detail="name look-up failed") from error
    return allowed_addresses([str(entry[4][0]) for entry in found], origin.allow_private)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def allowed_addresses(found: list[str], allow_private: bool) -> list[str]:
    allowed: list[str] = []
    refusal: AddressRefused | None = None
    for address in dict.fromkeys(found):
        try:
            check_address(address, allow_private)
            allowed.append(address)
        except AddressRefused as error:
            refusal = error
    if not allowed:
        raise ConfigurationError(
            "The provider's address is not allowed.", detail=str(refusal or "no address")
        ) from refusal
    return allowed


def not_connected(error: Exception, limits: Limits) -> GatewayError:
    """What a failure to connect means; most specific first."""
    match error:
        case ssl.SSLCertVerificationError():
            reason = _REASONS.get(error.verify_code, f"verification code {error.verify_code}")
            return UpstreamUnreachable(
                "The provider's TLS certificate is not trusted.", detail=f"certificate: {reason}"
            )
        case ssl.SSLError():
            return UpstreamUnreachable("The TLS handshake with the provider failed.", detail=f"TLS: {error.reason}")
        case TimeoutError():
            return UpstreamTimeout(
                "The provider could not be reached in time.", detail=f"no connection within {limits.connect:g} s"
            )
        case ConnectionRefusedError():
            return UpstreamUnreachable("The provider refuses connections.", detail="connection refused")
        case _:
            name = type(error).__name__
            return UpstreamUnreachable(
                "The provider could not be reached.", detail=f"{name} errno {getattr(error, 'errno', None)}"
            )


def tls_context(origin: Origin) -> ssl.SSLContext | None:
    if origin.scheme != "https":
        return None
    try:
        stamps = tuple(os.stat(path).st_mtime_ns for path in (origin.ca_file, origin.client_certificate) if path)
        return _context(origin.verify_tls, origin.ca_file, origin.client_certificate, stamps)
    except OSError as error:
        raise ConfigurationError(
            "The provider's TLS settings cannot be used.",
            detail=f"ca_file or client_certificate: {type(error).__name__}",
        ) from error


@functools.lru_cache(maxsize=64)
def _context(verify: bool, ca_file: str | None, certificate: str | None, stamps: tuple[int, ...]) -> ssl.SSLContext:
    """Making one costs milliseconds. `stamps` are the files' times, so that a renewed file makes a new context."""
    context = tls.context(verify=verify, ca_file=ca_file, client_certificate=certificate)
    context.set_alpn_protocols(["http/1.1"])
    return context
