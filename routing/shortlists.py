"""Who of thousands of models comes into question, best first, without looking at each one for every request. Pure.

What a model is and what a request demands change seldom, so who meets the demands, and in which order a strategy takes them, is
worked out once for a snapshot and remembered in it. What changes from request to request (length, cost, breakers, load) is then
looked at from the best one down, until there are enough.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from heapq import merge
from typing import Any

from routing import filters
from routing.strategies.base import CONDITIONS, LOAD, Strategy
from routing.types import NOMINAL, Asked, Candidate, Dropped, PolicyTarget, Snapshot

ENOUGH = 50
"""Models of one pool that a decision goes through with, and the size up to which every model is looked at."""

_MOST_REMEMBERED = 256


class LeftOut:
    """Who may not serve and why. Of very many, the first ones and one for each reason; the others are counted."""

    def __init__(self, most: int | None = ENOUGH) -> None:
        self._most = most
        self._named: dict[str, Dropped] = {}
        self._reasons: set[str] = set()
        self.unnamed = 0

    def add(self, dropped: Dropped) -> None:
        known = dropped.route in self._named or dropped.reason not in self._reasons
        if known or self._most is None or len(self._named) < self._most:
            self._named[dropped.route] = dropped
            self._reasons.add(dropped.reason)
        else:
            self.unnamed += 1

    def named(self, without: Iterable[str] = ()) -> tuple[Dropped, ...]:
        there = set(without)
        return tuple(dropped for route, dropped in self._named.items() if route not in there)


@dataclass(slots=True)
class Shortlist:
    """The targets of a pool that meet some demands, in the strategy's order while nothing is known of any route."""

    pool: Sequence[PolicyTarget]
    """Held so that nothing else can take its identity while this is remembered."""
    targets: list[PolicyTarget]
    places: dict[str, int]
    """By route."""
    refused: tuple[Dropped, ...]
    unnamed: int
    moved: tuple[Mapping[str, Any] | None, list[PolicyTarget]] = (None, [])
    """The order under the conditions that were asked for last."""


def shorten(
    pool: Sequence[PolicyTarget], asked: Asked, strategy: Strategy, snapshot: Snapshot, left_out: LeftOut
) -> list[PolicyTarget]:
    """Those of a large pool that a decision has to look at. Enough of them may serve now, if there are that many."""
    shortlist = _remembered(pool, asked, strategy, snapshot)
    for dropped in shortlist.refused:
        left_out.add(dropped)
    left_out.unnamed += shortlist.unnamed
    if strategy.key is None or asked.facts.operation == "embeddings":
        # Whoever orders by something else than a key has to see them all; embeddings stay with the first one's model.
        return shortlist.targets
    return _enough(_in_order(shortlist, asked, strategy), len(shortlist.targets), asked, left_out)


def _enough(ordered: Iterable[PolicyTarget], count: int, asked: Asked, left_out: LeftOut) -> list[PolicyTarget]:
    taken: list[PolicyTarget] = []
    able = unable = looked_at = 0
    for target in ordered:
        looked_at += 1
        if filters.refusal_of_size(target.model, asked) or filters.out_for_now(target.model, asked):
            unable += 1
            if unable > ENOUGH:
                left_out.unnamed += 1
                continue
        else:
            able += 1
        taken.append(target)
        if able == ENOUGH:
            break
    left_out.unnamed += count - looked_at
    return taken


def _remembered(pool: Sequence[PolicyTarget], asked: Asked, strategy: Strategy, snapshot: Snapshot) -> Shortlist:
    facts = asked.facts
    allowed = None if asked.allowed_by_name or facts.identity is None else facts.identity.allowed_models
    question = (id(pool), asked.requirements, facts.operation, facts.provider_id, allowed, strategy.name)
    shortlist = snapshot.memory.get(question)
    if shortlist is None:
        if len(snapshot.memory) >= _MOST_REMEMBERED:
            snapshot.memory.clear()
        shortlist = snapshot.memory[question] = _shortlist(pool, asked, strategy)
    return shortlist  # type: ignore[no-any-return]


def _shortlist(pool: Sequence[PolicyTarget], asked: Asked, strategy: Strategy) -> Shortlist:
    left_out = LeftOut()
    targets = []
    for target in pool:
        refused = filters.fixed_refusal(target.model, asked)
        if refused is None:
            targets.append(target)
        else:
            left_out.add(refused)
    if strategy.key is not None:
        targets.sort(key=_key(strategy, _nominal(asked)))
    places = {target.model.route: place for place, target in enumerate(targets)}
    return Shortlist(pool, targets, places, left_out.named(), left_out.unnamed)


def _nominal(asked: Asked) -> Asked:
    return Asked(asked.facts, asked.requirements, NOMINAL, asked.now, asked.chance)


def _key(strategy: Strategy, asked: Asked) -> Any:
    key = strategy.key
    assert key is not None
    return lambda target: key(candidate_of(target), asked)


def candidate_of(target: PolicyTarget, role: str = "target", estimate: Decimal | None = None) -> Candidate:
    return Candidate(target.model, target.via, role, target.weight, target.order, target.group, estimate)


def _in_order(shortlist: Shortlist, asked: Asked, strategy: Strategy) -> Iterable[PolicyTarget]:
    """Only the routes of which something is known have another place than the remembered one."""
    if strategy.looks_at == CONDITIONS:
        known = asked.conditions.routes
        if shortlist.moved[0] is not known:
            shortlist.moved = (known, list(_moved(shortlist, known, asked, strategy)) if known else shortlist.targets)
        return shortlist.moved[1]
    if strategy.looks_at == LOAD:
        return _moved(shortlist, dict(asked.conditions.in_flight), asked, strategy)
    return shortlist.targets


def _moved(shortlist: Shortlist, known: Iterable[str], asked: Asked, strategy: Strategy) -> Iterator[PolicyTarget]:
    places = {shortlist.places[route] for route in known if route in shortlist.places}
    key = _key(strategy, asked)
    seen = sorted((shortlist.targets[place] for place in places), key=key)
    unseen = (target for place, target in enumerate(shortlist.targets) if place not in places)
    return merge(unseen, seen, key=key)
