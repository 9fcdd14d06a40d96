"""Whoever has the fewest calls of this process under way; among equals by priority."""

from __future__ import annotations

from typing import Any

from routing.strategies.base import LOAD, Asked, Parts, Strategy, by
from routing.strategies.priority import key as by_priority
from routing.types import Candidate


def in_flight(candidate: Candidate, asked: Asked) -> int:
    return asked.conditions.in_flight.get(candidate.model.route, 0)


def key(candidate: Candidate, asked: Asked) -> Any:
    return in_flight(candidate, asked), by_priority(candidate, asked)


def parts(candidate: Candidate, asked: Asked) -> Parts:
    return (("in_flight", float(in_flight(candidate, asked))),)


STRATEGY = Strategy(
    "least_busy",
    "Least busy",
    "The fewest calls under way in this process; then by priority.",
    by(key, parts),
    varies=True,
    key=key,
    looks_at=LOAD,
)
