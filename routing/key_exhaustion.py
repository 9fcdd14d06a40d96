"""For how long one of our keys is left alone after its provider refused it. Pure; times in milliseconds.

A refusal while the key rests already, of a call that was under way, lengthens nothing but to a later hour that the provider
itself named. A success ends it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
LONGEST_MS = 24 * HOUR_MS
LONGEST_SPENT_MS = 32 * LONGEST_MS
"""A spent key may come back with the next month, where its provider says so."""

SPENT = "insufficient_quota"
RESTS = {
    SPENT: (HOUR_MS, LONGEST_MS),  # the account's money is used up: waiting rarely cures it
    "upstream_auth_failed": (MINUTE_MS, 15 * MINUTE_MS),  # 401: revoked, or not known there yet
}
"""The first rest and the longest, by the error's code; each further one without a success between is twice as long."""


@dataclass(frozen=True, slots=True)
class Exhaustion:
    """Of one key. `until` 0 is a key that works."""

    until: int = 0
    code: str = ""
    times: int = 0
    """Rests in a row."""
    provider_id: str = ""
    fingerprint: str = ""
    """The provider's, as it was: the rest ends when it is changed."""

    def rests(self, now: int) -> bool:
        return self.until > now


WORKS = Exhaustion()


def after(
    known: Exhaustion, code: str, retry_after_ms: int | None, provider_id: str, fingerprint: str, now: int
) -> Exhaustion:
    """The key's state after a refusal; a 429 that names no time and no lack of money changes nothing."""
    longest_named = LONGEST_SPENT_MS if code == SPENT else LONGEST_MS
    named = None if retry_after_ms is None else now + min(max(retry_after_ms, 0), longest_named)
    if code not in RESTS:
        if named is None:
            return known
        return Exhaustion(max(named, known.until), code, max(known.times, 1), provider_id, fingerprint)
    if known.rests(now) and known.code == code:
        return replace(known, until=max(known.until, named or 0))
    times = known.times + 1 if known.code == code else 1
    first, longest = RESTS[code]
    rest = min(first * 2 ** min(times - 1, 10), longest)
    return Exhaustion(max(now + rest, named or 0), code, times, provider_id, fingerprint)


def as_document(exhaustion: Exhaustion) -> dict[str, Any]:
    return {
        "until": exhaustion.until,
        "code": exhaustion.code,
        "times": exhaustion.times,
        "provider_id": exhaustion.provider_id,
        "fingerprint": exhaustion.fingerprint,
    }


def from_document(document: Mapping[str, Any]) -> Exhaustion:
    """Raises `KeyError`, `TypeError` or `ValueError` for what is none."""
    return Exhaustion(
        int(document["until"]),
        str(document["code"]),
        int(document["times"]),
        str(document["provider_id"]),
        str(document["fingerprint"]),
    )
