"""A session stays with its model, without anybody remembering it: each model throws a die that the session and its own name
have loaded, and the highest throw wins.

When a model comes or goes, only the sessions that it wins or had won move. Weights are shares, as under `weighted`. Without a
session the client key stands for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from math import log

from routing.strategies.base import Asked, Strategy, shown
from routing.types import Candidate, RequestFacts

_STEPS = 2**53


def order(candidates: Sequence[Candidate], asked: Asked) -> list[Candidate]:
    whose = _whose(asked.facts)
    sizes = Counter(candidate.group for candidate in candidates)
    throws = [(throw(whose, one.model.route, one.weight / _alike(one, sizes)), one) for one in candidates]
    throws.sort(key=lambda one: (-one[0], one[1].order))
    return [shown(candidate, (("throw", thrown),)) for thrown, candidate in throws]


def _alike(candidate: Candidate, sizes: Mapping[int | None, int]) -> int:
    """How many models share the weight of its target."""
    return 1 if candidate.group is None else sizes[candidate.group]


def throw(whose: bytes, route: str, weight: float) -> float:
    """Above 0; a heavier model throws higher in proportion. 0 for one without weight, which comes last."""
    if weight <= 0:
        return 0.0
    digest = blake2b(route.encode("utf-8", "surrogatepass"), key=whose, digest_size=8).digest()
    evenly = ((int.from_bytes(digest, "little") >> 11) + 0.5) / _STEPS
    return weight / -log(evenly)


def _whose(facts: RequestFacts) -> bytes:
    if facts.session_id:
        told = b"session:" + facts.session_id.encode("utf-8", "surrogatepass")
    else:
        told = b"key:" + (facts.identity.prefix.encode() if facts.identity is not None else b"")
    return blake2b(told, digest_size=32).digest()


STRATEGY = Strategy(
    "session_sticky",
    "Sticky session",
    "A session, or else a client key, always gets the same model as long as it may serve; shares go by weight.",
    order,
    varies=True,
)
