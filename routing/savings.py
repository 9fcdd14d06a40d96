"""Where a node is served by a dearer model than it needs. Pure.

Nothing worse is proposed: only models that meet everything the node demands, that have as many of its preferred capabilities,
and that answer no less reliably than the one that serves now.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from routing import nodes, unwritten_nodes
from routing.types import Candidate, Conditions, Snapshot

_LESS_RELIABLE = 0.02
"""A success rate that is lower by more than this is worse."""


@dataclass(frozen=True, slots=True)
class Saving:
    """Costs in USD, of a request of the usual length."""

    node: str
    current: Candidate
    current_cost: Decimal
    better: Candidate
    better_cost: Decimal

    @property
    def per_request(self) -> Decimal:
        return self.current_cost - self.better_cost

    @property
    def percent(self) -> Decimal:
        return 100 * self.per_request / self.current_cost if self.current_cost else Decimal(0)


def find(snapshot: Snapshot, conditions: Conditions, *, now: float) -> list[Saving]:
    """The best saving of every node that has one, largest first."""
    found = [
        saving
        for name in nodes.of_kind(unwritten_nodes.NODE, snapshot)
        if (saving := _of_node(name, snapshot, conditions, now)) is not None
    ]
    return sorted(found, key=lambda saving: saving.per_request, reverse=True)


def _of_node(name: str, snapshot: Snapshot, conditions: Conditions, now: float) -> Saving | None:
    selection = nodes.select(name, snapshot, conditions, now=now)
    current = selection.first
    if current is None or current.estimate is None:
        return None
    wanted = snapshot.policies[selection.facts.model].active.document.requirements.preferred_capabilities
    better = [
        other
        for other in selection.ranking
        if other.model.route != current.model.route
        and other.estimate is not None
        and other.estimate < current.estimate
        and len(other.model.capabilities & wanted) >= len(current.model.capabilities & wanted)
        and not _is_less_reliable(other, current, conditions)
    ]
    if not better:
        return None
    cheapest = min(better, key=lambda other: other.estimate or Decimal(0))
    assert cheapest.estimate is not None
    return Saving(name, current, current.estimate, cheapest, cheapest.estimate)


def _is_less_reliable(one: Candidate, other: Candidate, conditions: Conditions) -> bool:
    rates = [conditions.of(candidate.model.route).success_rate for candidate in (one, other)]
    if rates[0] is None:
        return False
    return rates[0] < (1.0 if rates[1] is None else rates[1]) - _LESS_RELIABLE
