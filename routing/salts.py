"""Salts of shares: what keeps one roll-out's buckets apart from another's."""

from __future__ import annotations

import secrets

from routing.rollout import SALT_BYTES


def new_salt() -> str:
    return secrets.token_hex(SALT_BYTES)
