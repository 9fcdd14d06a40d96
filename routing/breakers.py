"""The rules of a circuit breaker: when a route is asked, when it is left alone, and how it comes back. Pure.

closed ──failures in a row, or a rate of them──▶ open ──time──▶ half_open ──good calls──▶ closed
                                                   ▲                │
                                                   └──one failure───┘

A person may open one too, which then has no failures to show for it.

Times are whole milliseconds of one clock, which the caller keeps. `lua/breakers.lua` says the same inside Redis, where all
processes meet; `tests/routing/test_breakers.py` proves the two equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from providers.breaker_settings import BreakerSettings

CLOSED, OPEN, HALF_OPEN = "closed", "open", "half_open"

COUNTING = frozenset(
    {
        "upstream_unreachable",  # no connection
        "upstream_timeout",
        "upstream_error",  # 5xx, and an error in place of a stream
        "upstream_broken",  # an answer that is none: garbage, cut off, a redirect
        "rate_limit_exceeded",  # 429, when no other key of the provider was left to try
        "insufficient_quota",
        "engine_error",
        "model_unavailable",
        "out_of_memory",
        "worker_lost",
    }
)
"""Codes that speak against a route. Not the caller's own mistakes, not a caller who left, not a refused prompt; and not
`upstream_auth_failed`, `no_usable_key`, `provider_misconfigured` or `overloaded`, which speak of a key or of ourselves."""

SLOTS = 10
"""Parts of the window over which the failure rate is taken; the oldest falls out as a whole."""
LEASE_MS = 15_000
"""How long a call through a half-open breaker counts as under way without word from its process."""


@dataclass(frozen=True, slots=True)
class Breaker:
    """Of one route. A moment of 0 never was."""

    state: str = CLOSED
    failures: int = 0
    """In a row, in whatever state; a success ends the row."""
    successes: int = 0
    """Since it became half-open."""
    opened_at: int = 0
    retry_at: int = 0
    failed_at: int = 0
    code: str = ""
    """Of the last failure."""
    window: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    """Good and bad calls by slot number."""
    leases: Mapping[str, int] = field(default_factory=dict)
    """When each call through the half-open breaker stops to count as under way."""

    @property
    def is_well(self) -> bool:
        """Another success changes nothing but counts."""
        return self.state == CLOSED and not self.failures


WELL = Breaker()


@dataclass(frozen=True, slots=True)
class Step:
    """What happened at a route: `kind` is good, bad, permit, renew, release, open or reset."""

    route: str
    kind: str
    settings: BreakerSettings
    count: int = 1
    lease: str = ""
    code: str = ""


def after(breaker: Breaker, step: Step, now: int) -> tuple[Breaker, bool]:
    """The breaker after a step, and for a permit whether the call may go."""
    settled = settle(breaker, step.settings, now)
    if step.kind == "good":
        return _good(_without(settled, step.lease), step, now), True
    if step.kind == "bad":
        return _bad(_without(settled, step.lease), step, now), True
    if step.kind == "permit":
        return _permit(settled, step, now)
    if step.kind == "renew":
        held = step.lease in settled.leases
        return _with_lease(settled, step.lease, now) if held else settled, held
    if step.kind == "release":
        return _without(settled, step.lease), True
    if step.kind == "open":
        return _opened(replace(settled, failures=0, code=""), step, now), True
    return WELL, True


def settle(breaker: Breaker, settings: BreakerSettings, now: int) -> Breaker:
    """As time alone has made it. A clock that was set back delays nothing by more than the settings say."""
    if breaker.state == OPEN:
        retry_at = min(breaker.retry_at, now + _open_ms(settings))
        if now >= retry_at:
            return replace(breaker, state=HALF_OPEN, retry_at=retry_at, successes=0, leases={})
        return replace(breaker, retry_at=retry_at) if retry_at != breaker.retry_at else breaker
    if breaker.leases:
        alive = {lease: end for lease, end in breaker.leases.items() if now < end <= now + LEASE_MS}
        return replace(breaker, leases=alive) if len(alive) < len(breaker.leases) else breaker
    return breaker


def _good(breaker: Breaker, step: Step, now: int) -> Breaker:
    if breaker.state == OPEN:
        return breaker  # a late answer to what was asked before it opened
    if breaker.state == CLOSED:
        return replace(breaker, failures=0, window=_counted(breaker.window, step.settings, now, good=step.count))
    successes = breaker.successes + step.count
    if successes >= step.settings.success_threshold:
        return Breaker(failed_at=breaker.failed_at, code=breaker.code)
    return replace(breaker, failures=0, successes=successes)


def _bad(breaker: Breaker, step: Step, now: int) -> Breaker:
    failed = replace(breaker, failures=breaker.failures + step.count, failed_at=now, code=step.code)
    if breaker.state == OPEN:
        return failed
    if breaker.state == CLOSED:
        failed = replace(failed, window=_counted(breaker.window, step.settings, now, bad=step.count))
        if failed.failures < step.settings.failure_threshold and not _fails_too_often(failed.window, step.settings):
            return failed
    return _opened(failed, step, now)


def _opened(breaker: Breaker, step: Step, now: int) -> Breaker:
    retry_at = now + _open_ms(step.settings)
    return replace(breaker, state=OPEN, successes=0, opened_at=now, retry_at=retry_at, window={}, leases={})


def _permit(breaker: Breaker, step: Step, now: int) -> tuple[Breaker, bool]:
    if breaker.state != HALF_OPEN:
        return breaker, breaker.state == CLOSED
    if len(breaker.leases) >= step.settings.probe_quota:
        return breaker, False
    return _with_lease(breaker, step.lease, now), True


def _with_lease(breaker: Breaker, lease: str, now: int) -> Breaker:
    return replace(breaker, leases={**breaker.leases, lease: now + LEASE_MS})


def _without(breaker: Breaker, lease: str) -> Breaker:
    if lease not in breaker.leases:
        return breaker
    return replace(breaker, leases={held: end for held, end in breaker.leases.items() if held != lease})


def _counted(
    window: Mapping[int, tuple[int, int]], settings: BreakerSettings, now: int, good: int = 0, bad: int = 0
) -> dict[int, tuple[int, int]]:
    this = now // _slot_ms(settings)
    kept = {slot: counts for slot, counts in window.items() if this - SLOTS < slot <= this}
    before = kept.get(this, (0, 0))
    kept[this] = (before[0] + good, before[1] + bad)
    return kept


def _fails_too_often(window: Mapping[int, tuple[int, int]], settings: BreakerSettings) -> bool:
    good, bad = (sum(counts[side] for counts in window.values()) for side in (0, 1))
    if not settings.failure_rate or good + bad < settings.minimum_calls:
        return False
    return bad >= settings.failure_rate * (good + bad)


def _open_ms(settings: BreakerSettings) -> int:
    return int(settings.open_seconds * 1000)


def _slot_ms(settings: BreakerSettings) -> int:
    return max(1, int(settings.window_seconds * 1000) // SLOTS)


# As Redis keeps it ----------------------------------------------------------------------------------------------------------


def as_document(breaker: Breaker) -> dict[str, Any]:
    return {
        "state": breaker.state,
        "failures": breaker.failures,
        "successes": breaker.successes,
        "opened_at": breaker.opened_at,
        "retry_at": breaker.retry_at,
        "failed_at": breaker.failed_at,
        "code": breaker.code,
        "window": {str(slot): list(counts) for slot, counts in breaker.window.items()},
        "leases": dict(breaker.leases),
    }


def from_document(document: Mapping[str, Any]) -> Breaker:
    """Raises `KeyError`, `TypeError` or `ValueError` for what no breaker wrote."""
    return Breaker(
        state=str(document["state"]),
        failures=int(document["failures"]),
        successes=int(document["successes"]),
        opened_at=int(document["opened_at"]),
        retry_at=int(document["retry_at"]),
        failed_at=int(document["failed_at"]),
        code=str(document["code"]),
        window={int(slot): (int(good), int(bad)) for slot, (good, bad) in document["window"].items()},
        leases={str(lease): int(end) for lease, end in document["leases"].items()},
    )


def step_document(step: Step) -> list[Any]:
    """As `lua/breakers.lua` reads it."""
    settings = step.settings
    return [
        step.route,
        step.kind,
        step.count,
        step.lease,
        step.code,
        settings.failure_threshold,
        _open_ms(settings),
        settings.success_threshold,
        settings.failure_rate,
        _slot_ms(settings),
        settings.minimum_calls,
        settings.probe_quota,
    ]
