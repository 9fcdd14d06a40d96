"""Client keys: how one is made, what of it is stored, and how a presented one is verified.

A key reads `gw-<12 characters>-<43 characters>`: the first part names the row, the second is 256 random bits. Stored is
HMAC-SHA256 of the whole key under a pepper that lies outside the database.

A key that another system issued names no row of ours. It is found by the HMAC of its SHA-256, which that system may have kept
instead of the key; whoever holds the SHA-256 alone still has no key.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from providers.secrets import Secret
from routing.client_addresses import within
from routing.types import ClientKeyView, Identity, Snapshot

SCOPES = ("generate", "registry:read", "registry:write", "secrets:read", "admin")
_PREFIX_LENGTH = len("gw-") + 12


class KeyRefused(Exception):
    """The key does not let its bearer in; `reason` is unknown, disabled, revoked, rotated, expired, team_disabled or address."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"client key refused: {reason}")
        self.reason = reason


@dataclass(frozen=True, slots=True)
class NewKey:
    prefix: str
    plaintext: Secret


class Found(NamedTuple):
    """A key that is good now, and the epoch second from which time alone makes it bad."""

    view: ClientKeyView
    until: float | None


def generate(prefix: str = "") -> NewKey:
    """A new key; with a prefix, another one for the row that has it."""
    prefix = prefix or f"gw-{os.urandom(6).hex()}"
    body = base64.urlsafe_b64encode(os.urandom(32)).decode().rstrip("=")
    return NewKey(prefix=prefix, plaintext=Secret(f"{prefix}-{body}"))


def digest(plaintext: str, pepper: bytes) -> bytes:
    return hmac.digest(pepper, plaintext.encode(), "sha256")


def digest_of_sha256(sha256: bytes, pepper: bytes) -> bytes:
    """What is stored of a key of which another system kept the SHA-256."""
    return hmac.digest(pepper, b"sha256:" + sha256, "sha256")


def digests_as_imported(plaintext: str, peppers: Mapping[str, bytes]) -> list[bytes]:
    """What may be stored of a key if another system issued it, the newest pepper's first."""
    sha256 = hashlib.sha256(plaintext.encode()).digest()
    return [digest_of_sha256(sha256, pepper) for pepper in peppers.values()]


def prefix_of(plaintext: str) -> str:
    return plaintext[:_PREFIX_LENGTH]


def verify(presented: str, snapshot: Snapshot, *, now: float, address: str = "") -> Identity:
    """The identity of a presented key. Raises `KeyRefused`; an unknown prefix costs the same digest as a known one.

    `address` is the client's; without one, a key that may come from some addresses only is refused.
    """
    view = find(presented, snapshot, now=now).view
    if view.networks is not None and not within(address, view.networks):
        raise KeyRefused("address")
    return view.identity


def find(presented: str, snapshot: Snapshot, *, now: float) -> Found:
    """The key that is presented, wherever it comes from. Raises `KeyRefused`."""
    view = snapshot.client_keys.get(presented[:_PREFIX_LENGTH])
    if view is not None and _is(presented, view.digest, snapshot.peppers.get(view.pepper_id)):
        return _good(view, now)
    if (
        view is not None
        and view.previous_until is not None
        and _is(presented, view.previous_digest, snapshot.peppers.get(view.previous_pepper_id))
    ):
        return _good_before_rotation(view, now)
    if view is None and not snapshot.imported_keys:
        hashlib.sha256(presented.encode()).digest()
    if snapshot.imported_keys:
        return _imported(presented, snapshot, now)
    raise KeyRefused("unknown")


def _is(presented: str, expected: bytes, pepper: bytes | None) -> bool:
    return pepper is not None and hmac.compare_digest(digest(presented, pepper), expected)


def _imported(presented: str, snapshot: Snapshot, now: float) -> Found:
    # A lookup by digest tells nothing by its time: nobody without the pepper knows which digest a guess has.
    for candidate in digests_as_imported(presented, snapshot.peppers):
        prefix = snapshot.imported_keys.get(candidate)
        view = None if prefix is None else snapshot.client_keys.get(prefix)
        if view is not None:
            return _good(view, now) if view.digest == candidate else _good_before_rotation(view, now)
    raise KeyRefused("unknown")


def _good(view: ClientKeyView, now: float) -> Found:
    reason = view.refusal(now)
    if reason:
        raise KeyRefused(reason)
    return Found(view, view.expires_at)


def _good_before_rotation(view: ClientKeyView, now: float) -> Found:
    found = _good(view, now)
    end = view.previous_until
    if end is None or end <= now:
        raise KeyRefused("rotated")
    return Found(view, end if found.until is None else min(end, found.until))
