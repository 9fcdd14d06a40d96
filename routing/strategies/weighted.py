"""By chance, in proportion to the weights: first among all, and again among the others for when the first one fails."""

from __future__ import annotations

from collections.abc import Sequence

from routing.strategies.base import Asked, Strategy, shown
from routing.strategies.priority import STRATEGY as PRIORITY
from routing.types import Candidate

_DRAWS = 8
"""Targets that are drawn. One number between 0 and 1 holds no more chance than that many need; further ones go by weight."""


def order(candidates: Sequence[Candidate], asked: Asked) -> list[Candidate]:
    """Several models of one target are asked in a row, by priority. What has no weight comes last, as configured."""
    targets = targets_of(candidates, asked)
    drawn: list[list[Candidate]] = []
    left = [target for target in targets if target[0].weight > 0]
    chance = asked.chance
    while left and len(drawn) < _DRAWS:
        index, chance = _draw([target[0].weight for target in left], chance)
        drawn.append(left.pop(index))
    left.sort(key=lambda target: -target[0].weight)
    without = [target for target in targets if target[0].weight <= 0]
    total = sum(target[0].weight for target in targets) or 1
    return [
        shown(one, (("weight", float(one.weight)), ("share", one.weight / total)))
        for target in (*drawn, *left, *without)
        for one in target
    ]


def targets_of(candidates: Sequence[Candidate], asked: Asked) -> list[list[Candidate]]:
    """As configured; the models of each by priority."""
    found: dict[tuple[str, int], list[Candidate]] = {}
    for candidate in sorted(candidates, key=lambda one: one.order):
        group = ("alone", candidate.order) if candidate.group is None else ("group", candidate.group)
        found.setdefault(group, []).append(candidate)
    return [target if len(target) == 1 else PRIORITY.order(target, asked) for target in found.values()]


def _draw(weights: Sequence[int], chance: float) -> tuple[int, float]:
    """The index that `chance` falls on, and the chance that is left over: where within its stretch it fell."""
    mark = chance * sum(weights)
    for index, weight in enumerate(weights):
        if mark < weight:
            return index, mark / weight
        mark -= weight
    return len(weights) - 1, 0.0


STRATEGY = Strategy(
    "weighted",
    "By weight",
    "Each target gets the share of requests that its weight is of all weights; models of one target go by priority.",
    order,
    varies=True,
)
