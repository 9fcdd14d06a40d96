"""What is known of how the routes fare: breakers, exhausted keys and figures, seen by all processes of the installation.

The request path reads `conditions()` and tells what happened; it never waits for that, except for `permit()` of a half-open
breaker. One `Health` per process; without Redis it knows what its own process saw.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace as changed
from time import time

from routing.types import Conditions, ModelView, RouteCondition


class Health:
    """Of one process. All but `permit()` return at once and never raise."""

    def __init__(self) -> None:
        self._in_flight: dict[str, int] = defaultdict(int)
        self._conditions = Conditions(in_flight=self._in_flight)
        self._exhausted: dict[int, float] = {}

    def conditions(self) -> Conditions:
        """The same object until something that decisions may depend on changed: decisions may be kept by its identity."""
        return self._conditions

    async def permit(self, model: ModelView) -> bool:
        """Whether a call may go through a half-open breaker; ask for a candidate that `needs_permit`, just before `began()`.

        What was granted is given back by `succeeded()`, `failed()` or `ended()` of the same task.
        """
        return True

    def began(self, route: str) -> None:
        """A call is on its way upstream; each has its `ended()`, in a `finally`."""
        self._in_flight[route] += 1

    def ended(self, route: str) -> None:
        self._in_flight[route] -= 1

    def succeeded(self, model: ModelView, seconds: float, key_id: int | None = None) -> None:
        """`seconds` to the whole reply, of a stream to its first byte; `key_id` of the key that was shown."""

    def failed(self, model: ModelView, code: str) -> None:
        """A retryable failure of the upstream, by its error's `code`; which ones count for the breaker is decided here."""

    def key_failed(self, model: ModelView, key_id: int, code: str, retry_after: float | None = None) -> None:
        """The upstream refused the key: `insufficient_quota`, `rate_limit_exceeded` or `upstream_auth_failed`.

        For how long it is set aside is decided here; `retry_after` in seconds, as the upstream said.
        """
        self.key_exhausted(model, key_id, time() + (retry_after or 0.0))

    def key_exhausted(self, model: ModelView, key_id: int, until: float) -> None:
        """Not to be used before `until`, in epoch seconds."""
        self._exhausted[key_id] = until
        backs = [self._exhausted.get(key.key_id, 0.0) for key in model.provider.keys]
        condition = changed(self._conditions.of(model.route), keys_back_at=min(backs, default=None))
        self._conditions = Conditions({**self._conditions.routes, model.route: condition}, self._in_flight)

    def key_is_exhausted(self, key_id: int, now: float) -> bool:
        return self._exhausted.get(key_id, 0.0) > now

    async def start(self) -> None:
        """Share with the other processes from now on. On the loop that serves requests; never fails for want of Redis."""

    async def stop(self) -> None:
        """Tell the others what is not told yet, and go on alone."""


_current = Health()


def current() -> Health:
    """The process's one: in memory only until `start()`."""
    return _current


def replace(health: Health | None) -> Health:
    """Put another in force, for tests; None a fresh one. Returns the one now in force."""
    global _current
    _current = health if health is not None else Health()
    return _current


async def start() -> None:
    await _current.start()


async def stop() -> None:
    await _current.stop()


def read() -> Conditions:
    """What all processes know, from Redis: for commands, tasks and views, which keep no mirror. Empty without Redis."""
    return Conditions(routes=dict[str, RouteCondition]())


def reset(route: str) -> None:
    """Close the breaker of a route, everywhere."""
