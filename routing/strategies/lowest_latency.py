"""Whoever is likely to have answered first: the usual time of an answer, longer for what often fails."""

from __future__ import annotations

from typing import Any

from routing.strategies.base import CONDITIONS, Asked, Parts, Strategy, by
from routing.strategies.priority import key as by_priority
from routing.types import Candidate

UNKNOWN_SECONDS = 1.0
"""Of a model that nobody has measured: it is tried as soon as the measured ones are slower than that."""

_LEAST_SUCCESS = 0.01


def seconds(candidate: Candidate, asked: Asked) -> float:
    """Until a success, with the failures before it."""
    condition = asked.conditions.of(candidate.model.route)
    success = 1.0 if condition.success_rate is None else max(condition.success_rate, _LEAST_SUCCESS)
    latency = UNKNOWN_SECONDS if condition.latency_seconds is None else condition.latency_seconds
    return latency / success


def key(candidate: Candidate, asked: Asked) -> Any:
    return seconds(candidate, asked), by_priority(candidate, asked)


def parts(candidate: Candidate, asked: Asked) -> Parts:
    condition = asked.conditions.of(candidate.model.route)
    shown: Parts = (("seconds", seconds(candidate, asked)),)
    return shown if condition.success_rate is None else (*shown, ("success_rate", condition.success_rate))


STRATEGY = Strategy(
    "lowest_latency",
    "Lowest latency",
    "The lowest moving average of the time to answer, divided by the success rate; "
    f"{UNKNOWN_SECONDS:g} s where nothing was measured.",
    by(key, parts),
    key=key,
    looks_at=CONDITIONS,
)
