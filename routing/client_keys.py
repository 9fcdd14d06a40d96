"""Client keys: how one is made, what of it is stored, and how a presented one is verified.

A key reads `gw-<12 characters>-<43 characters>`: the first part names the row, the second is 256 random bits. Stored is
HMAC-SHA256 of the whole key under a pepper that lies outside the database.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from dataclasses import dataclass

from providers.secrets import Secret
from routing.types import Identity, Snapshot

SCOPES = ("generate", "registry:read", "registry:write", "secrets:read", "admin")
_PREFIX_LENGTH = len("gw-") + 12


class KeyRefused(Exception):
    """The key does not let its bearer in; `reason` is unknown, disabled or expired."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"client key refused: {reason}")
        self.reason = reason


@dataclass(frozen=True, slots=True)
class NewKey:
    prefix: str
    plaintext: Secret


def generate() -> NewKey:
    prefix = f"gw-{os.urandom(6).hex()}"
    body = base64.urlsafe_b64encode(os.urandom(32)).decode().rstrip("=")
    return NewKey(prefix=prefix, plaintext=Secret(f"{prefix}-{body}"))


def digest(plaintext: str, pepper: bytes) -> bytes:
    return hmac.digest(pepper, plaintext.encode(), "sha256")


def prefix_of(plaintext: str) -> str:
    return plaintext[:_PREFIX_LENGTH]


def verify(presented: str, snapshot: Snapshot, *, now: float) -> Identity:
    """The identity of a presented key. Raises `KeyRefused`; an unknown prefix costs the same digest as a known one."""
    view = snapshot.client_keys.get(presented[:_PREFIX_LENGTH])
    if view is None:
        hashlib.sha256(presented.encode()).digest()
        raise KeyRefused("unknown")
    pepper = snapshot.peppers.get(view.pepper_id)
    if pepper is None or not hmac.compare_digest(digest(presented, pepper), view.digest):
        raise KeyRefused("unknown")
    if not view.enabled:
        raise KeyRefused("disabled")
    if view.has_expired(now):
        raise KeyRefused("expired")
    return view.identity
