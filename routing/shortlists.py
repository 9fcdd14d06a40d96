"""Who of thousands of models comes into question, best first, without looking at each one for every request. Pure.

What a model is changes only with the registry. So for each single demand (a capability, a tier, a client key's patterns) it is
worked out once per snapshot who meets it, and for each strategy how it ranks everybody while nothing is known of any route. A
decision puts these together, and looks at what changes from request to request (length, cost, breakers, load) from the best model
down, until it has enough.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from heapq import merge
from itertools import islice
from typing import Any

from routing import filters, strategies
from routing.filters import Rule
from routing.policy_documents import PolicyDocument, Requirements
from routing.strategies.base import CONDITIONS, LOAD, Strategy
from routing.types import NOMINAL, Asked, Candidate, Dropped, PolicyTarget, RequestFacts, Snapshot

ENOUGH = 20
"""Models of one pool that a decision goes through with, and the size up to which every model is looked at."""

_FEW = 500
"""Up to here, those who meet the demands are sorted; of more, the ranking is gone through until there are enough."""

_NAMED_FOR_EACH_DEMAND = 8
_MOST_REMEMBERED = 1000
_MOST_WARMED = 20

Ranking = list[tuple[Any, int]]
"""Key and place of every model of a pool, best first."""


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


@dataclass(slots=True, eq=False)
class _Index:
    """What is known of a pool. Sets of models are numbers: the bit of a model's place in the pool says whether it belongs."""

    pool: Sequence[PolicyTarget]
    places: Mapping[str, int]
    """By route."""
    meeting: dict[Any, int] = field(default_factory=dict)
    """By demand."""
    rankings: dict[Any, tuple[Ranking, list[int]]] = field(default_factory=dict)
    """By what a strategy goes by: the ranking, and each place's rank in it."""
    keys_now: dict[Any, tuple[Mapping[str, Any], dict[int, Any]]] = field(default_factory=dict)
    """By what a strategy goes by: the routes' conditions, and the keys that were made under them."""
    refused: dict[Any, tuple[tuple[Dropped, ...], int]] = field(default_factory=dict)
    """By demands: some of those that do not meet them, and how many more there are."""


def shorten(
    pool: Sequence[PolicyTarget], asked: Asked, strategy: Strategy, snapshot: Snapshot, left_out: LeftOut
) -> list[PolicyTarget]:
    """Those of a large pool that a decision has to look at. Enough of them may serve now, if there are that many."""
    index = _index(pool, snapshot)
    met = _met(index, asked, left_out)
    if strategy.key is None or asked.facts.operation == "embeddings":
        # Whoever orders by something else than a key has to see them all; embeddings stay with the first one's model.
        return [pool[place] for place in _places(met, len(pool))]
    return _enough(_best_first(index, met, asked, strategy), met.bit_count(), asked, left_out)


def warm(snapshot: Snapshot) -> None:
    """Work out now what the policies over many models will need, rather than while somebody waits."""
    for document, pool in _large_pools(snapshot):
        if len(pool) <= ENOUGH:
            continue
        asked = Asked(
            RequestFacts(), document.requirements, NOMINAL, now=0.0, barred_types=snapshot.defaults.barred_types
        )
        index, strategy = _index(pool, snapshot), strategies.find(document.strategy)
        _met(index, asked, LeftOut())
        if strategy.key is not None and len(index.rankings) < _MOST_WARMED:
            _ranking(index, asked, strategy)


def _large_pools(snapshot: Snapshot) -> Iterator[tuple[PolicyDocument, Sequence[PolicyTarget]]]:
    yield PolicyDocument(), any_model(snapshot)
    for policy in snapshot.each_policy():
        yield policy.active.document, policy.active.targets


def any_model(snapshot: Snapshot) -> tuple[PolicyTarget, ...]:
    every = snapshot.memory.get(any_model)
    if every is None:
        every = tuple(PolicyTarget(model, order=order) for order, model in enumerate(snapshot.models))
        snapshot.memory[any_model] = every
    return every  # type: ignore[no-any-return]


def candidate_of(target: PolicyTarget, role: str = "target", estimate: Decimal | None = None) -> Candidate:
    return Candidate(target.model, target.via, role, target.weight, target.order, target.group, estimate)


def _index(pool: Sequence[PolicyTarget], snapshot: Snapshot) -> _Index:
    """The pool's own: while its index is remembered, the pool is held and nothing else has its identity."""
    index = snapshot.memory.get(id(pool))
    if index is None:
        places = {target.model.route: place for place, target in enumerate(pool)}
        index = _remember(snapshot.memory, id(pool), _Index(pool, places))
    return index  # type: ignore[no-any-return]


def _remember(memory: dict[Any, Any], question: Any, answer: Any) -> Any:
    if len(memory) >= _MOST_REMEMBERED:
        memory.clear()
    memory[question] = answer
    return answer


# --- Demands ----------------------------------------------------------------------------------------------------------------


def _met(index: _Index, asked: Asked, left_out: LeftOut) -> int:
    """Who meets all that is demanded whatever the request's size; some of the others are named."""
    met = (1 << len(index.pool)) - 1
    short: list[int] = []
    demands = []
    for name, rule, requirements in _demands(asked):
        meeting = index.meeting.get(name)
        if meeting is None:
            meeting = _remember(index.meeting, name, _meeting(index.pool, rule, asked, requirements))
        demands.append(name)
        short.append(met & ~meeting)
        met &= meeting
    question = tuple(demands)
    refused = index.refused.get(question)
    if refused is None:
        refused = _remember(index.refused, question, _refused(index.pool, short, asked))
    for dropped in refused[0]:
        left_out.add(dropped)
    left_out.unnamed += refused[1]
    return met


def _demands(asked: Asked) -> Iterator[tuple[tuple[str, Any], Rule, Requirements | None]]:
    """Every single thing that is demanded: what it is remembered by, its rule, and the requirements that hold nothing else.
    In the order in which `filters.FIXED` asks."""
    facts, demanded = asked.facts, asked.requirements
    if facts.provider_id is not None:
        yield ("provider", facts.provider_id), filters.pinned_elsewhere, None
    if asked.barred_policy:
        yield ("barred policy", asked.barred_policy), filters.policy_not_allowed, None
    if (identity := facts.identity) is not None:
        if identity.allowed_providers is not None:
            yield ("providers", identity.allowed_providers), filters.provider_not_allowed, None
        by_policy = asked.allowed_by_name or asked.barred_policy
        if not by_policy and (identity.allowed_models, identity.allowed_policies) != (None, None):
            limits = identity.allowed_models, identity.allowed_policies is None
            yield ("allowed", limits), filters.not_allowed, None
    if asked.barred_types:
        yield ("barred", asked.barred_types), filters.switched_off, None
    yield ("operation", facts.operation), filters.wrong_operation, None
    if demanded.local_only:
        yield ("local", True), filters.not_local, Requirements(local_only=True)
    for tag in demanded.data_tags:
        yield ("data", tag), filters.data_not_allowed, Requirements(data_tags=frozenset({tag}))
    for word in demanded.capabilities:
        yield ("capability", word), filters.lacks_capability, Requirements(capabilities=frozenset({word}))
    if demanded.vision:
        yield ("vision", True), filters.cannot_see, Requirements(vision=True)
    if demanded.reasoning:
        yield ("reasoning", True), filters.cannot_reason, Requirements(reasoning=True)
    if demanded.task:
        yield ("task", demanded.task), filters.other_task, Requirements(task=demanded.task)
    if demanded.max_cost_tier:
        tier = demanded.max_cost_tier
        yield ("tier", tier), filters.too_dear_a_tier, Requirements(max_cost_tier=tier)
    if demanded.min_context_window:
        least = demanded.min_context_window
        yield ("window", least), filters.window_too_small, Requirements(min_context_window=least)


def _meeting(pool: Sequence[PolicyTarget], rule: Rule, asked: Asked, requirements: Requirements | None) -> int:
    alone = asked if requirements is None else replace(asked, requirements=requirements)
    return _set_of((place for place, target in enumerate(pool) if rule(target.model, alone) is None), len(pool))


def _set_of(places: Iterable[int], size: int) -> int:
    bits = bytearray((size + 7) // 8)
    for place in places:
        bits[place >> 3] |= 1 << (place & 7)
    return int.from_bytes(bits, "little")


def _refused(pool: Sequence[PolicyTarget], short: Iterable[int], asked: Asked) -> tuple[tuple[Dropped, ...], int]:
    named: list[Dropped] = []
    unnamed = 0
    for models in short:
        some = list(islice(_places(models, len(pool)), _NAMED_FOR_EACH_DEMAND))
        refusals = (filters.fixed_refusal(pool[place].model, asked) for place in some)
        named += [refused for refused in refusals if refused is not None]
        unnamed += models.bit_count() - len(some)
    return tuple(named), unnamed


_BITS = tuple(tuple(bit for bit in range(8) if byte >> bit & 1) for byte in range(256))


def _places(models: int, size: int) -> Iterator[int]:
    for start, byte in enumerate(models.to_bytes((size + 7) // 8, "little")):
        if byte:
            for bit in _BITS[byte]:
                yield 8 * start + bit


# --- Rankings ---------------------------------------------------------------------------------------------------------------


def _ranking(index: _Index, asked: Asked, strategy: Strategy) -> tuple[Ranking, list[int]]:
    """By the strategy while nothing is known of any route."""
    question = _preferences(asked, strategy)
    found = index.rankings.get(question)
    if found is None:
        _, preferred, least = question
        preferences = Requirements(preferred_capabilities=preferred, min_context_window=least)
        key = _key(strategy, Asked(RequestFacts(), preferences, NOMINAL, now=0.0))
        ranking = sorted((key(target), place) for place, target in enumerate(index.pool))
        ranks = [0] * len(ranking)
        for rank, (_, place) in enumerate(ranking):
            ranks[place] = rank
        found = _remember(index.rankings, question, (ranking, ranks))
    return found


def _key(strategy: Strategy, asked: Asked) -> Callable[[PolicyTarget], Any]:
    key = strategy.key
    assert key is not None
    return lambda target: key(candidate_of(target), asked)


def _best_first(index: _Index, met: int, asked: Asked, strategy: Strategy) -> Iterator[PolicyTarget]:
    """Only routes of which something is known now may have another place than in the ranking."""
    seen = _seen(index, met, asked, strategy)
    if seen:
        met &= ~_set_of((place for _, place in seen), len(index.pool))
    ranked: Iterator[tuple[Any, int]] = _ranked(index, met, asked, strategy)
    return (index.pool[place] for _, place in (merge(ranked, seen) if seen else ranked))


def _seen(index: _Index, met: int, asked: Asked, strategy: Strategy) -> Ranking:
    """Those of which something is known, with the keys that they have now."""
    known: Iterable[str]
    if strategy.looks_at == CONDITIONS:
        known, keys = asked.conditions.routes, _keys_now(index, asked, strategy)
    elif strategy.looks_at == LOAD:
        known, keys = list(asked.conditions.in_flight), {}
    else:
        return []
    # As in the ranking, without the required capabilities, which all that are left have.
    key = _key(strategy, replace(asked, requirements=replace(asked.requirements, capabilities=frozenset())))
    bits, places = met.to_bytes((len(index.pool) + 7) // 8, "little"), index.places
    seen = []
    for route in known:
        place = places.get(route)
        if place is not None and bits[place >> 3] >> (place & 7) & 1:
            its = keys.get(place)
            if its is None:
                its = keys[place] = key(index.pool[place])
            seen.append((its, place))
    seen.sort()
    return seen


def _keys_now(index: _Index, asked: Asked, strategy: Strategy) -> dict[int, Any]:
    """Keys by place that hold as long as the conditions do."""
    routes, keys = index.keys_now.get(_preferences(asked, strategy), (None, {}))
    if routes is not asked.conditions.routes:
        keys = {}
        _remember(index.keys_now, _preferences(asked, strategy), (asked.conditions.routes, keys))
    return keys


def _preferences(asked: Asked, strategy: Strategy) -> tuple[Any, ...]:
    """What a ranking depends on. Of what is demanded, only preferences and the least context tell models apart that meet it."""
    demanded = asked.requirements
    return strategy.name, demanded.preferred_capabilities, demanded.min_context_window


def _ranked(index: _Index, met: int, asked: Asked, strategy: Strategy) -> Iterator[tuple[Any, int]]:
    ranking, ranks = _ranking(index, asked, strategy)
    if met.bit_count() <= _FEW:
        for rank in sorted(map(ranks.__getitem__, _places(met, len(index.pool)))):
            yield ranking[rank]
        return
    bits = met.to_bytes((len(index.pool) + 7) // 8, "little")
    for ranked in ranking:
        place = ranked[1]
        if bits[place >> 3] >> (place & 7) & 1:
            yield ranked


def _enough(ordered: Iterable[PolicyTarget], count: int, asked: Asked, left_out: LeftOut) -> list[PolicyTarget]:
    taken: list[PolicyTarget] = []
    able = unable = looked_at = 0
    for target in ordered:
        looked_at += 1
        if unable >= ENOUGH and not filters.affordable(target.model, asked):
            left_out.unnamed += 1  # said without words: under a low limit of cost this is most of them
            continue
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
