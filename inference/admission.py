"""Who calls. One credential function serves every header a client may use.

The headers `Authorization: Bearer`, `x-api-key` and `api-key` are equals: whichever carries the key, the same check runs.
"""

from __future__ import annotations

from hashlib import sha256

from inference.errors import InvalidKey, PermissionDenied
from routing import client_keys
from routing.client_addresses import Network, within
from routing.client_keys import KeyRefused
from routing.permits import Permit
from routing.types import Identity, Snapshot

GENERATE = "generate"
ADMIN = "admin"

_LONGEST_KEY = 512
_REFUSALS = {
    "expired": ("Your API key has expired.", "expired_api_key"),
    "rotated": ("Your API key has been replaced by a newer one.", "expired_api_key"),
    "disabled": ("Your API key has been disabled.", "invalid_api_key"),
    "revoked": ("Your API key has been revoked.", "invalid_api_key"),
    "team_disabled": ("Your API key's team has been disabled.", "invalid_api_key"),
    "address": ("Your API key may not be used from your address.", "ip_not_authorized"),
}


def presented_key(authorization: bytes | None, x_api_key: bytes | None, api_key: bytes | None) -> str:
    """The key out of whichever header holds it; two headers with different keys are refused, not ranked."""
    found = [value for value in (_bearer(authorization), x_api_key, api_key) if value]
    if not found:
        raise InvalidKey(
            "You didn't provide an API key. Send it in an Authorization header as 'Bearer YOUR_KEY'.",
            code="missing_api_key",
        )
    key = found[0]
    if any(other != key for other in found[1:]):
        raise InvalidKey("Two different API keys were sent; send one.")
    if len(key) > _LONGEST_KEY or not key.isascii():
        raise InvalidKey("Incorrect API key provided.")
    return key.decode("ascii")


def _bearer(authorization: bytes | None) -> bytes | None:
    if authorization is None:
        return None
    scheme, _, value = authorization.partition(b" ")
    return value.strip() if scheme.lower() == b"bearer" else None


def admit(presented: str, snapshot: Snapshot, *, now: float, scope: str = GENERATE, address: str = "") -> Identity:
    """Raises `InvalidKey` (401) or `PermissionDenied` (403); neither says anything of the key that was shown. `address` is the
    client's, of which a key with ranges of addresses needs to know."""
    try:
        identity = _verified(presented, snapshot, now, address)
    except KeyRefused as refused:
        raise _refusal(refused) from None
    if scope not in identity.scopes and ADMIN not in identity.scopes:
        raise PermissionDenied(f"Your API key lacks the scope '{scope}'.", code="insufficient_scope")
    return identity


def admit_by_permit(permit: Permit, snapshot: Snapshot, *, now: float, address: str) -> Identity:
    """As `admit`, for a person in the playground: what the key may not, they may not with it. Raises `InvalidKey` and `PermissionDenied`."""
    view = snapshot.client_keys.get(permit.prefix)
    reason = "unknown" if view is None else view.refusal(now)
    if view is not None and not reason and view.networks is not None and not within(address, view.networks):
        reason = "address"
    if view is None or reason:
        raise _refusal(KeyRefused(reason))
    if not view.identity.may(GENERATE):
        raise PermissionDenied(f"The client key lacks the scope '{GENERATE}'.", code="insufficient_scope")
    return view.identity


def whose(presented: str, snapshot: Snapshot, *, now: float, address: str) -> Identity:
    """Whose a credential is that may be another system's. Raises `KeyRefused` for one that is no key of ours, and `InvalidKey` for a
    key of ours that lets nobody in."""
    try:
        return _verified(presented, snapshot, now, address)
    except KeyRefused as refused:
        if refused.reason not in _REFUSALS:
            raise
        raise _refusal(refused) from None


def _refusal(refused: KeyRefused) -> InvalidKey:
    message, code = _REFUSALS.get(refused.reason, ("Incorrect API key provided.", "invalid_api_key"))
    return InvalidKey(message, code=code, detail=f"client key refused: {refused.reason}")


class _Seen:
    """Keys that were good under the snapshot in force, by the SHA-256 of the whole key; forgotten with the snapshot."""

    __slots__ = ("keys", "snapshot")

    def __init__(self) -> None:
        self.snapshot: Snapshot | None = None
        self.keys: dict[bytes, tuple[Identity, float | None, tuple[Network, ...] | None]] = {}
        """Who it is, until when, and from where."""


_MOST_SEEN = 10_000
_seen = _Seen()


def _verified(presented: str, snapshot: Snapshot, now: float, address: str) -> Identity:
    """As `client_keys.verify`, whose HMAC is saved for a key that has passed it; time and address are looked at each time."""
    if _seen.snapshot is not snapshot or len(_seen.keys) > _MOST_SEEN:
        _seen.snapshot, _seen.keys = snapshot, {}
    fingerprint = sha256(presented.encode()).digest()
    known = _seen.keys.get(fingerprint)
    if known is None or (known[1] is not None and known[1] <= now):
        view, until = client_keys.find(presented, snapshot, now=now)
        known = _seen.keys[fingerprint] = (view.identity, until, view.networks)
    identity, _, networks = known
    if networks is not None and not within(address, networks):
        raise KeyRefused("address")
    return identity
