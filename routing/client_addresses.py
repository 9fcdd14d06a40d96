"""Where a request comes from, and whether a key may come from there. Pure.

A proxy's word for its client counts only when the proxy is one that the operator trusts: anybody can send X-Forwarded-For.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

_MOST_HOPS = 20


class BadNetwork(ValueError):
    """A text that names no addresses; the message says which one."""


def networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Addresses and ranges such as 10.0.0.0/8, 192.0.2.7 or 2001:db8::/32. Raises `BadNetwork`."""
    return tuple(_network(text) for text in texts)


def _network(text: Any) -> Network:
    if not isinstance(text, str) or not text.strip():
        raise BadNetwork("An address or a range is needed, such as 10.0.0.0/8.")
    try:
        network = ip_network(text.strip())
    except ValueError as error:
        why = "its address has bits beyond the range" if "host bits" in str(error) else "it is no address and no range"
        raise BadNetwork(f"{text[:64]!r} is not such as 10.0.0.0/8 or 192.0.2.7: {why}.") from None
    if isinstance(network, IPv6Network) and network.prefixlen >= 96 and network.network_address.ipv4_mapped:
        return ip_network((network.network_address.ipv4_mapped, network.prefixlen - 96))
    return network


@lru_cache(maxsize=8192)
def within(address: str, ranges: tuple[Network, ...]) -> bool:
    """An unknown address, which is empty, is in no range."""
    known = _read(address)
    return known is not None and any(known.version == one.version and known in one for one in ranges)


def address_of(peer: str, forwarded_for: str, trusted: tuple[Network, ...]) -> str:
    """The client's address: the peer's, or behind trusted proxies the nearest one that is no proxy of ours; empty where a trusted
    proxy names what is no address."""
    if not trusted or not forwarded_for:
        return peer
    return _behind_proxies(peer, forwarded_for, trusted)


@lru_cache(maxsize=8192)
def _behind_proxies(peer: str, forwarded_for: str, trusted: tuple[Network, ...]) -> str:
    nearest = peer
    for hop in reversed(forwarded_for.split(",")[-_MOST_HOPS:]):
        if not within(nearest, trusted):
            break
        named = _read(_without_port(hop.strip()))
        if named is None:
            return ""
        nearest = str(named)
    return nearest


def of_scope(scope: Mapping[str, Any], forwarded_for: bytes | None, trusted: tuple[Network, ...]) -> str:
    """The client's address of an ASGI request; empty when the server knows none."""
    client = scope.get("client")
    peer: str = client[0] if client else ""
    return peer if not trusted or forwarded_for is None else address_of(peer, forwarded_for.decode("latin-1"), trusted)


def of_meta(meta: Mapping[str, Any], trusted: tuple[Network, ...]) -> str:
    """The client's address of a Django request, by its `META`."""
    return address_of(meta.get("REMOTE_ADDR") or "", meta.get("HTTP_X_FORWARDED_FOR") or "", trusted)


def plain(address: str) -> str | None:
    """As a column of addresses takes it; None for what is none."""
    known = _read(address)
    return None if known is None else str(known)


def _read(text: str) -> Address | None:
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _without_port(hop: str) -> str:
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    return hop.partition(":")[0] if hop.count(":") == 1 else hop
