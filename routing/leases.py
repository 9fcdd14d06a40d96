"""The calls of this process that were let through a half-open breaker, and whose each of them is.

A lease belongs to the task that asked for it, so that an old call of the same route does not give it back. A call that ends
in another task gives back one that no call can be using any more.
"""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from time import monotonic

from providers.breaker_settings import BreakerSettings
from routing.breakers import LEASE_MS

RENEW_SECONDS = 5.0


@dataclass(slots=True, eq=False)
class Lease:
    token: str
    route: str
    settings: BreakerSettings
    granted_at: float
    begun: bool = False


_mine: ContextVar[Lease | None] = ContextVar("half_open_lease", default=None)


class Leases:
    def __init__(self) -> None:
        self.held: dict[str, Lease] = {}
        """By token."""
        process = secrets.token_hex(6)
        self._tokens = (f"{process}:{number}" for number in itertools.count())
        self._renewed_at = 0.0

    def __iter__(self) -> Iterator[Lease]:
        return iter(list(self.held.values()))

    def new_token(self) -> str:
        return next(self._tokens)

    def hold(self, token: str, route: str, settings: BreakerSettings) -> None:
        """It was granted to the task that runs now."""
        lease = self.held[token] = Lease(token, route, settings, monotonic())
        _mine.set(lease)

    def begin(self, route: str) -> None:
        lease = _mine.get()
        if lease is not None and lease.route == route:
            lease.begun = True

    def take(self, route: str) -> str:
        """The token of this task's lease, which is over now; empty when it has none."""
        if not self.held:
            return ""
        lease = _mine.get()
        if lease is None or lease.route != route or self.held.pop(lease.token, None) is None:
            return ""
        _mine.set(None)
        return lease.token

    def take_unused(self, route: str, in_flight: int) -> str:
        """A lease more than there are calls under way, none of which can be its own."""
        begun = [lease for lease in self.held.values() if lease.route == route and lease.begun]
        if len(begun) <= in_flight:
            return ""
        del self.held[begun[0].token]
        return begun[0].token

    def drop(self, lease: Lease) -> None:
        self.held.pop(lease.token, None)

    def due(self) -> list[Lease]:
        """Those of calls under way, when it is time to say that they are; one that was granted and never began runs out."""
        now = monotonic()
        if now - self._renewed_at < RENEW_SECONDS:
            return []
        self._renewed_at = now
        for lease in self:
            if not lease.begun and now - lease.granted_at > LEASE_MS / 1000:
                self.drop(lease)
        return [lease for lease in self if lease.begun]
