"""Whether what is sent to a provider stays in this installation's own hands. Pure: names are not resolved.

An administrator's word decides. Without it, a provider is local when its type runs models on one's own machines and its address
does not say otherwise: a name on the public internet might be anybody's.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

LOCAL, REMOTE = "local", "remote"
_OWN_SUFFIXES = (".local", ".localhost", ".lan", ".internal", ".home.arpa", ".intranet")


def is_local(declared: str, type_is_local: bool, base_url: str = "") -> bool:
    """`declared` is `local`, `remote` or empty. `base_url` is empty for what runs in our own workers."""
    if declared in (LOCAL, REMOTE):
        return declared == LOCAL
    return type_is_local and (not base_url or is_own_address(base_url))


def is_own_address(url: str) -> bool:
    """A loopback or private address, a bare host name, or a name that no public server has."""
    try:
        host = (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:
        return False
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return bool(host) and ("." not in host or host.endswith(_OWN_SUFFIXES))
    return address.is_private or address.is_loopback or address.is_link_local
