"""Which policies ask a provider, and what they lose without it: told by the layer above, registered at start-up."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PolicyUse:
    """One policy that may ask a provider. `models` are those of the provider that it names, `others` how many healthy targets stand
    elsewhere."""

    name: str
    kind: str
    link: str
    models: tuple[str, ...]
    as_fallback: bool
    others: int


@dataclass(frozen=True, slots=True)
class Losses:
    """Names of policies: those that are left with nothing healthy, and those whose answer will come from a fallback alone."""

    stranded: tuple[str, ...] = ()
    weakened: tuple[str, ...] = ()


Read = Callable[[str], Sequence[PolicyUse]]
Lose = Callable[[Collection[str]], Losses]


def _none(provider_id: str) -> Sequence[PolicyUse]:
    return ()


def _nothing(provider_ids: Collection[str]) -> Losses:
    return Losses()


_read: Read = _none
_lose: Lose = _nothing


def register(read: Read, lose: Lose) -> None:
    global _read, _lose
    _read, _lose = read, lose


def of(provider_id: str) -> Sequence[PolicyUse]:
    return _read(provider_id)


def lost_without(provider_ids: Collection[str]) -> Losses:
    """What policies lose when these providers serve no more."""
    return _lose(provider_ids)
