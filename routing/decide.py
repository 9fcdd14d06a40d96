"""Which models may serve a request, in which order, and why every other one may not. Pure: time is an argument."""

from __future__ import annotations

import difflib

from routing import filters
from routing.types import Candidate, Dropped, RequestFacts, RouteDecision, Snapshot

_NEAREST = 3


def decide(facts: RequestFacts, snapshot: Snapshot, *, now: float) -> RouteDecision:
    """Candidates for the requested name, best priority first.

    `model_id` is served by every provider that lists it, `provider_id/model_id` by that one. A name that no model has gives
    no candidate and the nearest names.
    """
    models = snapshot.by_name.get(facts.model, ())
    if not models:
        return RouteDecision(
            candidates=(), reason=f"no model is named {facts.model!r}", nearest=nearest(facts, snapshot)
        )
    candidates: list[Candidate] = []
    dropped: list[Dropped] = []
    for model in models:
        refusal = filters.refusal(model, facts, now)
        if refusal is None:
            candidates.append(Candidate(model))
        else:
            dropped.append(refusal)
    return RouteDecision(tuple(candidates), tuple(dropped), _reason(candidates))


def nearest(facts: RequestFacts, snapshot: Snapshot) -> tuple[str, ...]:
    """Names like the one asked for, among those that this caller may use."""
    names = [
        name
        for name, models in snapshot.by_name.items()
        if any(filters.permits(facts.identity, model) for model in models)
    ]
    return tuple(difflib.get_close_matches(facts.model, names, n=_NEAREST, cutoff=0.5))


def _reason(candidates: list[Candidate]) -> str:
    if not candidates:
        return "every model of that name was left out"
    best = candidates[0].model
    return f"{best.route} has the best priority ({best.provider.priority}) of {len(candidates)}"
