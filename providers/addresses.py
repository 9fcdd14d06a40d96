"""Which upstream URLs, and which addresses their names resolve to, may be dialled.

Private and loopback addresses are legitimate here, since models run on the machine and in the next rack; `allow_private`
says whether for one provider. Never allowed are link-local, multicast, unspecified and reserved addresses and the ones
where clouds keep credentials for the machine: no model is served there. A name is judged again at connect time by what
it resolves to (`check_address`), and that very address is dialled, so a name that changes its mind gains nothing.

Pure: no look-ups. The sentences name reasons, never the address.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_PORTS = {"http": 80, "https": 443}

_METADATA_NAMES = {
    "metadata",
    "metadata.google.internal",
    "metadata.goog",
    "metadata.azure.internal",
    "metadata.tencentyun.com",
    "metadata.platformequinix.com",
    "instance-data",
    "instance-data.ec2.internal",
}
_METADATA_ADDRESSES = {
    ipaddress.ip_address(text)
    for text in (
        "169.254.169.254",  # AWS, GCP, Azure, OpenStack, ...
        "169.254.170.2",  # AWS containers
        "168.63.129.16",  # Azure
        "100.100.100.200",  # Alibaba
        "192.0.0.192",  # Oracle
        "fd00:ec2::254",  # AWS
        "fd00:ec2::23",
        "fd20:ce::254",  # GCP
        "fd00:42::42",  # Scaleway
    )
}
_PRIVATE_NAMES = ("localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback")
_PRIVATE_SUFFIXES = (".localhost", ".local", ".internal", ".localdomain", ".lan", ".home.arpa")

_THIS_NETWORK = ipaddress.ip_network("0.0.0.0/8")
_SHARED = ipaddress.ip_network("100.64.0.0/10")
_SITE_LOCAL = ipaddress.ip_network("fec0::/10")
_NAT64 = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48"))
_IPV4_COMPATIBLE = ipaddress.ip_network("::/96")

_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)\Z")
_NUMBER = re.compile(r"(0x[0-9a-f]*|[0-9]+)\Z")


class AddressRefused(ValueError):
    """The URL or address may not be dialled; the text is a sentence that names the reason."""


@dataclass(frozen=True, slots=True)
class ParsedURL:
    """An allowed URL in its one spelling: `host` is lower case, without brackets or trailing dot, numbers as dotted IPv4."""

    scheme: str
    host: str
    port: int
    path: str
    query: str = ""

    @property
    def authority(self) -> str:
        """As a Host header names it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


def check_url(url: str, allow_private: bool = True) -> ParsedURL:
    """Read an upstream URL, or raise `AddressRefused`."""
    if re.search(r"[\x00-\x20\x7f\\]", url):
        raise AddressRefused("The URL holds a space, a backslash or a control character.")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise AddressRefused("The URL is malformed.") from error
    if parts.scheme not in _PORTS:
        raise AddressRefused("The URL must begin with http:// or https://.")
    if "@" in parts.netloc:
        raise AddressRefused("The URL holds a user name or password; put keys into the provider's API keys.")
    if parts.fragment:
        raise AddressRefused("The URL holds a fragment (#), which is never sent.")
    if port == 0:
        raise AddressRefused("The URL names port 0.")
    host = check_host(parts.hostname or "", allow_private)
    return ParsedURL(parts.scheme, host, port or _PORTS[parts.scheme], parts.path, parts.query)


def check_host(host: str, allow_private: bool = True) -> str:
    """The host in its one spelling, judged as far as its text tells."""
    host = _ascii(host).rstrip(".").lower()
    if not host:
        raise AddressRefused("The URL names no host.")
    literal = _literal(host)
    if literal is not None:
        check_address(str(literal), allow_private)
        return str(literal)
    if len(host) > 253 or not all(_LABEL.match(label) for label in host.split(".")):
        raise AddressRefused("The host name is malformed.")
    if host in _METADATA_NAMES:
        raise AddressRefused("The host is a cloud's metadata service.")
    if not allow_private and (host in _PRIVATE_NAMES or host.endswith(_PRIVATE_SUFFIXES)):
        raise AddressRefused("The host is a private name, and private addresses are not allowed for it.")
    return host


def check_address(ip: str, allow_private: bool = True) -> IPAddress:
    """Judge an address, and every IPv4 address wrapped in it; raise `AddressRefused` or return it parsed."""
    try:
        address = ipaddress.ip_address(ip.partition("%")[0])
    except ValueError as error:
        raise AddressRefused("The address is malformed.") from error
    for each in (address, *_wrapped(address)):
        _judge(each, allow_private)
    return address


def _judge(address: IPAddress, allow_private: bool) -> None:
    if address in _METADATA_ADDRESSES:
        raise AddressRefused("The address is a cloud's metadata service.")
    if address.is_link_local:
        raise AddressRefused("The address is link-local.")
    if address.is_multicast:
        raise AddressRefused("The address is a multicast group.")
    if address.is_unspecified or address in _THIS_NETWORK:
        raise AddressRefused("The address is unspecified.")
    if address.version == 4 and address.is_reserved:
        raise AddressRefused("The address is reserved.")
    if not allow_private and _is_private(address):
        raise AddressRefused("The address is private, and private addresses are not allowed for it.")


def _is_private(address: IPAddress) -> bool:
    if any(address in network for network in _NAT64):
        return False  # judged by the IPv4 address within
    return address.is_private or address.is_loopback or address in _SHARED or address in _SITE_LOCAL


def _wrapped(address: IPAddress) -> list[IPAddress]:
    """The IPv4 addresses that an IPv6 address stands for in some translation."""
    if isinstance(address, ipaddress.IPv4Address):
        return []
    found: list[IPAddress | None] = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if address in _IPV4_COMPATIBLE and int(address) > 0xFFFF:
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    if any(address in network for network in _NAT64):
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return [each for each in found if each is not None]


def _literal(host: str) -> IPAddress | None:
    """The address that a host text is, in any spelling that a resolver would take for one; None for names."""
    if ":" in host:
        if "%" in host:
            raise AddressRefused("The address names a network interface.")
        try:
            return ipaddress.IPv6Address(host)
        except ValueError as error:
            raise AddressRefused("The IPv6 address is malformed.") from error
    if not _NUMBER.match(host.rpartition(".")[2]):
        return None
    try:
        return ipaddress.IPv4Address(
            socket.inet_aton(host)
        )  # decimal, octal, hexadecimal and short forms, as libc reads them
    except OSError as error:
        raise AddressRefused("The IPv4 address is malformed.") from error


def _ascii(host: str) -> str:
    if host.isascii():
        return host
    try:
        return host.encode("idna").decode("ascii")
    except UnicodeError as error:
        raise AddressRefused("The host name is malformed.") from error
