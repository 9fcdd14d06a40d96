"""From a request to the decision about it, for every way in: the decision, what replies and records need of it, and its memory.

A decision is kept for requests alike, for as long as the registry, what is known of the routes and the second stay the same: keys
and overrides expire by the second. One that depends on more than that says so and is made anew.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import chain
from random import random
from time import time
from typing import Any
from urllib.parse import quote

from inference.asking import facts_of
from inference.errors import PermissionDenied
from inference.refusing import refusal
from inference.wire.openai import ParsedRequest
from inference.wire.other_models import named_beside
from routing import health
from routing.decide import decide
from routing.filters import permits_name
from routing.types import NOMINAL, Candidate, Conditions, Identity, RequestFacts, RouteDecision, Snapshot

_MOST_KEPT = 10_000
_LONGEST_NOTICE = 500


@dataclass(slots=True, eq=False)
class Ruling:
    """A decision with all that it came from; it may stand for many requests, of which `facts` are the first one's."""

    decision: RouteDecision
    facts: RequestFacts
    snapshot: Snapshot
    conditions: Conditions
    at: float
    """Epoch seconds."""
    headers: tuple[tuple[bytes, bytes], ...]
    """What every reply under it carries."""
    retries: int
    """After failures that were over quickly."""
    retries_each: bool
    """Every candidate is retried, as the policy says; else the last one alone, whose place nobody can take."""
    retry_delay_seconds: float
    digest: str | None = None
    """Of its explanation; the recorder fills it in."""
    wishes: dict[str, Any] | None = None
    """What the first request wished, as the recorder words it."""

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        return self.decision.candidates

    def pause(self, retry: int) -> float:
        """Seconds before the n-th retry, counted from zero, with jitter."""
        return self.retry_delay_seconds * self.decision.retries.backoff**retry * (1 + random())


class _Memory:
    """Another one is made when any of these has changed: threads may decide by different ones, and none writes into another's."""

    __slots__ = ("conditions", "made", "second", "snapshot")

    def __init__(self, snapshot: Snapshot | None = None, conditions: Conditions | None = None, second: int = 0) -> None:
        self.snapshot = snapshot
        self.conditions = conditions
        self.second = second
        self.made: dict[tuple[object, ...], Ruling] = {}


_memory = _Memory()


def rule(request: ParsedRequest, identity: Identity | None, snapshot: Snapshot) -> Ruling:
    """Who may serve, best first; nobody, when its `candidates` are empty. Raises `PermissionDenied` when an upstream is asked for
    models that the key may not name."""
    global _memory
    if identity is not None and (identity.allowed_models is not None or identity.allowed_policies is not None):
        _check_names(request, identity)
    now, conditions, memory = time(), health.current().conditions(), _memory
    if (
        memory.snapshot is not snapshot
        or memory.conditions is not conditions
        or memory.second != int(now)
        or len(memory.made) > _MOST_KEPT
    ):
        memory = _memory = _Memory(snapshot, conditions, int(now))
    if request.asks_the_unwell:
        return _ruling(facts_of(request, identity), _as_if_well(snapshot, request.model), NOMINAL, now)
    if request.max_cost is not None or request.images:
        return _ruling(facts_of(request, identity), snapshot, conditions, now)
    question = (
        request.model,
        request.operation.name,
        request.provider_id,
        None if identity is None else (identity.allowed_models, identity.allowed_policies, identity.allowed_providers),
        request.preferred_model,
        request.task,
        request.choices,
        request.require_vision,
        request.local_only,
        request.data_tags,
        request.capabilities,
        request.max_cost_tier,
        request.strategy,
    )
    kept = memory.made.get(question)
    if kept is not None:
        steady = kept.decision.steady_bytes
        if steady is None or request.prompt_bytes < steady:
            return kept
    ruling = _ruling(facts_of(request, identity), snapshot, conditions, now)
    steady = ruling.decision.steady_bytes
    if not ruling.decision.varies and (steady is None or request.prompt_bytes < steady):
        memory.made[question] = ruling
    return ruling


def _check_names(request: ParsedRequest, identity: Identity) -> None:
    told = (request.fields,) if request.native is None else (request.fields, request.native.fields)
    for name in chain.from_iterable(map(named_beside, told)):
        if not permits_name(identity, name):
            raise PermissionDenied(f"Your API key may not use the model '{name[:200]}'.", param="model")


def candidates_for(request: ParsedRequest, identity: Identity | None, snapshot: Snapshot) -> tuple[Candidate, ...]:
    """Raises the caller's error when nobody may serve."""
    ruling = rule(request, identity, snapshot)
    if not ruling.candidates:
        raise refusal(ruling.facts, ruling.decision, ruling.at)
    return ruling.candidates


def _as_if_well(snapshot: Snapshot, name: str) -> Snapshot:
    models = tuple(replace(model, auto_disabled="") for model in snapshot.by_name.get(name, ()))
    return replace(snapshot, by_name={**snapshot.by_name, name: models}) if models else snapshot


def _ruling(facts: RequestFacts, snapshot: Snapshot, conditions: Conditions, now: float) -> Ruling:
    decision = decide(facts, snapshot, conditions, now=now, chance=random())
    retries, defaults = decision.retries, snapshot.defaults
    return Ruling(
        decision,
        facts,
        snapshot,
        conditions,
        now,
        tuple(_headers(decision)),
        retries=defaults.retries if retries.attempts is None else retries.attempts,
        retries_each=retries.attempts is not None,
        retry_delay_seconds=defaults.retry_delay_seconds if retries.delay_seconds is None else retries.delay_seconds,
    )


def _headers(decision: RouteDecision) -> list[tuple[bytes, bytes]]:
    headers = []
    if decision.policy:
        named = f"{quote(decision.policy, safe='/:.,+-_~ ')}@{decision.version}"
        headers.append((b"x-gateway-policy", named.encode()))
    if decision.notices:
        headers.append((b"x-gateway-notice", _printable("; ".join(decision.notices))))
    return headers


def _printable(text: str) -> bytes:
    """As a header may carry it: names that clients made up can hold anything."""
    plain = text.encode("ascii", "backslashreplace").decode()
    return "".join(letter if letter.isprintable() else " " for letter in plain)[:_LONGEST_NOTICE].encode()
