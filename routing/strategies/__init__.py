"""Orderings: in which order the models that may serve are asked. One file each; the table below names them.

Another package adds its own through the entry point `llm_gateway.routing_strategies` (an object of class `Strategy`); one that
cannot be used is remembered in `failures` for the system check and skipped. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points

from routing.strategies import (
    admin_preferred,
    balanced,
    capability_strict,
    cost_optimized,
    in_order,
    least_busy,
    lowest_latency,
    performance_optimized,
    priority,
    session_sticky,
    weighted,
)
from routing.strategies.base import Asked, Strategy

__all__ = ["Asked", "Strategy", "failures", "find", "names", "registered"]

ENTRY_POINT = "llm_gateway.routing_strategies"

BUILT_IN = (
    priority.STRATEGY,
    in_order.STRATEGY,
    weighted.STRATEGY,
    cost_optimized.STRATEGY,
    performance_optimized.STRATEGY,
    balanced.STRATEGY,
    capability_strict.STRATEGY,
    admin_preferred.STRATEGY,
    lowest_latency.STRATEGY,
    least_busy.STRATEGY,
    session_sticky.STRATEGY,
)

failures: dict[str, str] = {}
"""Entry points that cannot be used, by name, with the reason."""


def find(name: str) -> Strategy:
    """The strategy of that name; `priority` for a name that nobody has any more."""
    return registered().get(name, priority.STRATEGY)


def names() -> tuple[str, ...]:
    return tuple(registered())


@cache
def registered() -> Mapping[str, Strategy]:
    """All strategies by name, in the order in which forms show them."""
    found = {strategy.name: strategy for strategy in BUILT_IN}
    for point in entry_points(group=ENTRY_POINT):
        try:
            strategy = point.load()
        except Exception as error:  # a plugin's import may fail in any way; the system check names it
            failures[point.name] = f"{type(error).__name__}: {error}"
            continue
        if not isinstance(strategy, Strategy):
            failures[point.name] = f"{point.value} is not a Strategy"
        elif strategy.name in found:
            failures[point.name] = f"a strategy is named {strategy.name!r} already"
        else:
            found[strategy.name] = strategy
    return found
