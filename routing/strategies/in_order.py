"""As the targets are written, from the first to the last; several models of one target in a row, by priority."""

from __future__ import annotations

from collections.abc import Sequence

from routing.strategies.base import Asked, Strategy
from routing.strategies.weighted import targets_of
from routing.types import Candidate


def order(candidates: Sequence[Candidate], asked: Asked) -> list[Candidate]:
    return [one for target in targets_of(candidates, asked) for one in target]


STRATEGY = Strategy(
    "in_order",
    "In the order written",
    "The first target as long as it can serve, then the next; models of one target go by priority.",
    order,
)
