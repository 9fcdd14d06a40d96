"""Names like one that nothing has, for the sentence "did you mean". Pure.

Comparing letter by letter takes long among many thousands of names, so the likeliest are found first by the pairs of letters that
they share.
"""

from __future__ import annotations

import difflib
from heapq import nlargest
from itertools import pairwise

from routing.filters import permits, permits_policy
from routing.types import RequestFacts, Snapshot

_SHOWN = 3
_LIKENESS = 0.5
_COMPARED = 50
"""Names that are compared letter by letter."""
_LONGEST = 200
_PAIRS = 509
"""Bits of a name's mark; a prime."""


def nearest(facts: RequestFacts, snapshot: Snapshot) -> tuple[str, ...]:
    """Names like the one asked for, among those that this caller may use."""
    asked = facts.model[:_LONGEST]
    names = [name for name in _likeliest(asked, snapshot) if _may(facts, name, snapshot)]
    return tuple(difflib.get_close_matches(asked, names, n=_SHOWN, cutoff=_LIKENESS))


def _may(facts: RequestFacts, name: str, snapshot: Snapshot) -> bool:
    policy = snapshot.policies.get(name)
    if policy is not None:
        return permits_policy(facts.identity, (name, policy.name, f"{policy.kind}/{policy.name}"))
    return any(permits(facts.identity, model) for model in snapshot.by_name.get(name, ()))


def _likeliest(asked: str, snapshot: Snapshot) -> list[str]:
    names = _names(snapshot, qualified="/" in asked)
    if len(names) <= _COMPARED:
        return list(names)
    mark = _mark(asked)
    many = mark.bit_count() or 1
    likeness = {name: (mark & its).bit_count() / (many + count) for name, (its, count) in names.items()}
    return nlargest(_COMPARED, likeness, key=likeness.__getitem__)


def _names(snapshot: Snapshot, qualified: bool) -> dict[str, tuple[int, int]]:
    """Every name with its mark and how many bits that has. Whoever names no provider is not told of every provider's name for a model."""
    question = (nearest, qualified)
    names = snapshot.memory.get(question)
    if names is None:
        routes = set() if qualified else {model.route for model in snapshot.models}
        every = (*snapshot.by_name, *snapshot.policies)
        marks = {name: _mark(name) for name in every if name not in routes}
        names = snapshot.memory[question] = {name: (mark, mark.bit_count()) for name, mark in marks.items()}
    return names  # type: ignore[no-any-return]


def _mark(name: str) -> int:
    """A bit for each pair of neighbouring letters, whatever their case."""
    mark = 0
    letters = name[:_LONGEST].lower()
    for one, next_one in pairwise(letters):
        mark |= 1 << (ord(one) * 31 + ord(next_one)) % _PAIRS
    return mark
