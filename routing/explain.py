"""A decision in words and numbers: one structure for the API, the command, the pages and what is kept of past requests. Pure.

`document` tells everything of one request at one moment. `kept` is the part of it that is true of every request that is decided
alike: without the request itself, its estimates, its bucket and the clock. Its `digest` is therefore the same for thousands of
requests, and is stored once.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from routing import asked, estimates, filters, policy_documents
from routing.decide import allows, demanded
from routing.policy_documents import PolicyDocument
from routing.strategies import in_order
from routing.types import (
    Asked,
    Candidate,
    Conditions,
    Dropped,
    Identity,
    ModelView,
    PolicyView,
    RequestFacts,
    RouteDecision,
    Snapshot,
)

MOST_KEPT = 100
"""Candidates, and dropped ones, that are kept of a decision; the rest is counted."""

_OF_OTHERS = filters.NOT_ALLOWED
"""Reasons that tell a caller of models that it may not know of."""


def document(
    facts: RequestFacts,
    decision: RouteDecision,
    snapshot: Snapshot,
    conditions: Conditions,
    *,
    now: float,
    most: int | None = None,
) -> dict[str, Any]:
    """Why the request would be served so, as plain values for JSON. `most` bounds the two lists; what is cut off is counted."""
    policy = snapshot.policies.get(decision.policy)
    first = decision.candidates[0] if decision.candidates else None
    dropped = decision.dropped[:most]
    candidates = decision.candidates[:most]
    return {
        "request": asked.document(facts),
        "policy": _policy(policy, decision, now) if policy is not None else None,
        "bucket": _bucket(policy, decision),
        "demands": _demands(demanded(facts, snapshot, conditions, now=now)),
        "strategy": decision.strategy,
        "reason": decision.reason,
        "confidence": decision.confidence,
        "estimate": _estimate(facts, first, conditions),
        "candidates": [_candidate(place, one, decision, conditions) for place, one in enumerate(candidates, 1)],
        "dropped": [_dropped(one) for one in dropped],
        "dropped_by_reason": _counted(one.reason for one in decision.dropped),
        "left_out": {
            "candidates": len(decision.candidates) - len(candidates),
            "dropped": len(decision.dropped) - len(dropped) + decision.unnamed,
        },
        "notices": list(decision.notices),
        "nearest": list(decision.nearest),
        "revision": snapshot.revision,
        "made_at": _time(now),
    }


def for_caller(told: Mapping[str, Any], identity: Identity | None, snapshot: Snapshot) -> dict[str, Any]:
    """The explanation for a caller that may not read the registry: a model that its key is not allowed does not exist to it,
    not even as what an override names, and our own keys are not counted."""
    policy = snapshot.policies.get(told["policy"]["name"]) if told["policy"] is not None else None
    by_name = policy is not None and allows(identity, policy, told["request"].get("model", ""), snapshot)
    dropped = [
        one
        for one in told["dropped"]
        if one["reason"] not in _OF_OTHERS and (by_name or _permits_route(identity, one["route"], snapshot))
    ]
    override = told["policy"] and told["policy"]["override"]
    if override and not by_name and not _permits_route(identity, override["target"], snapshot):
        told = {**told, "policy": {**told["policy"], "override": None}}
    return {
        **told,
        "candidates": [{**one, "keys": []} for one in told["candidates"]],
        "dropped": dropped,
        "dropped_by_reason": _counted(one["reason"] for one in dropped),
        "left_out": {**told["left_out"], "dropped": 0},
    }


def _permits_route(identity: Identity | None, route: str, snapshot: Snapshot) -> bool:
    model = next((one for one in snapshot.by_name.get(route, ()) if one.route == route), None)
    if model is not None:
        return filters.permits(identity, model)
    return filters.permits_name(identity, route) or filters.permits_name(identity, route.partition("/")[2])


def _counted(reasons: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(reasons).items()))


# --- What is kept -----------------------------------------------------------------------------------------------------------


def kept(told: Mapping[str, Any]) -> dict[str, Any]:
    """What all requests that are decided alike have in common. Measured values are rounded, so that they change seldom."""
    common = {name: value for name, value in told.items() if name not in {"request", "estimate", "made_at"}}
    common["demands"] = {name: value for name, value in told["demands"].items() if name != "max_cost_usd"}
    if common["bucket"] is not None:
        common["bucket"] = {name: value for name, value in common["bucket"].items() if name != "number"}
    left_out = common["left_out"]
    common["candidates"] = [_kept_candidate(one, told["candidates"][0]) for one in told["candidates"][:MOST_KEPT]]
    common["dropped"] = [_kept_dropped(one) for one in told["dropped"][:MOST_KEPT]]
    common["left_out"] = {name: left_out[name] + max(0, len(told[name]) - MOST_KEPT) for name in left_out}
    return common


def digest(told: Mapping[str, Any]) -> str:
    """32 hexadecimal digits, equal for all explanations of which the same is kept."""
    text = json.dumps(kept(told), sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _kept_candidate(told: Mapping[str, Any], first: Mapping[str, Any]) -> dict[str, Any]:
    common = {name: value for name, value in told.items() if name not in _OF_ONE_REQUEST}
    parts = {name: value for name, value in told["parts"].items() if name not in _OF_ONE_REQUEST}
    common |= {
        "latency_seconds": _roughly(told["latency_seconds"], 1),
        "success_rate": _roughly(told["success_rate"], 1),
    }
    if parts.keys() & _MEASURED:
        parts = {name: _roughly(value, 2) for name, value in parts.items()}
        common["score"] = _roughly(told["score"], 2)
        if told["place"] > 1 and told["role"] == first["role"] == "target":
            common["reason"] = "fewer points than the first" if told["score"] != first["score"] else told["reason"]
    common["parts"] = parts
    return common


_OF_ONE_REQUEST = frozenset({"estimated_cost_usd", "in_flight", "keys", "throw"})
_MEASURED = frozenset({"performance", "seconds", "success_rate"})
"""Parts of a score that change from call to call, and the score with them."""


def _kept_dropped(told: Mapping[str, Any]) -> dict[str, Any]:
    return {"route": told["route"], "reason": told["reason"], "detail": _COMMON.get(told["reason"], told["detail"])}


_COMMON = {
    "prompt_too_long": "the prompt does not fit its context",
    "max_cost": "the estimate is above the limit of cost",
    "breaker_open": "its circuit breaker is open",
}
"""Sentences in place of those that hold numbers of one request or one moment."""


def _roughly(value: float | None, digits: int) -> float | None:
    """Rounded to so many significant digits."""
    return None if value is None else float(f"{value:.{digits}g}")


# --- Its parts --------------------------------------------------------------------------------------------------------------


def _policy(policy: PolicyView, decision: RouteDecision, now: float) -> dict[str, Any]:
    override, cache = policy.override, decision.cache
    return {
        "name": policy.name,
        "kind": policy.kind,
        "version": decision.version,
        "override": None
        if override is None or (override.expires_at is not None and override.expires_at <= now)
        else {"target": override.target, "expires_at": _time(override.expires_at)},
        "cache": {"ttl_seconds": cache.ttl_seconds, "scope": cache.scope} if cache.ttl_seconds else None,
    }


def _bucket(policy: PolicyView | None, decision: RouteDecision) -> dict[str, Any] | None:
    if policy is None or policy.candidate is None or decision.bucket is None:
        return None
    return {
        "number": decision.bucket,
        "share": policy.share,
        "version": decision.version,
        "candidate_version": policy.candidate.number,
    }


def _demands(question: Asked | None) -> dict[str, Any]:
    """What the policy and the request demand together, without what is as usual."""
    if question is None:
        return {}
    told = policy_documents.as_document(PolicyDocument(requirements=question.requirements)).get("requirements", {})
    return told if question.max_cost is None else {**told, "max_cost_usd": float(question.max_cost)}


def _estimate(facts: RequestFacts, first: Candidate | None, conditions: Conditions) -> dict[str, Any] | None:
    """Of the first candidate."""
    if first is None:
        return None
    condition = conditions.of(first.model.route)
    return {
        "input_tokens": estimates.input_tokens(facts, condition),
        "output_tokens": estimates.output_tokens(facts, first.model),
        "cost_usd": _money(first.estimate),
    }


def _candidate(place: int, candidate: Candidate, decision: RouteDecision, conditions: Conditions) -> dict[str, Any]:
    model, condition = candidate.model, conditions.of(candidate.model.route)
    return {
        "place": place,
        "route": model.route,
        "provider_id": model.provider.provider_id,
        "provider_type": model.provider.provider_type,
        "model_id": model.model_id,
        "via": candidate.via,
        "role": candidate.role,
        "reason": _why_first(candidate, decision) if place == 1 else _why_here(candidate, decision),
        "score": candidate.score,
        "parts": dict(candidate.parts),
        "priority": model.provider.priority,
        "weight": candidate.weight,
        "estimated_cost_usd": _money(candidate.estimate),
        "cost_tier": model.cost_tier,
        "breaker": condition.breaker,
        "needs_permit": candidate.needs_permit,
        "latency_seconds": condition.latency_seconds,
        "success_rate": condition.success_rate,
        "in_flight": conditions.in_flight.get(model.route, 0),
        "keys": _keys(model),
    }


def _why_first(candidate: Candidate, decision: RouteDecision) -> str:
    """As the decision says it, but for the name."""
    return decision.reason.removeprefix(f"{candidate.model.route}: ")


def _why_here(candidate: Candidate, decision: RouteDecision) -> str:
    first = decision.candidates[0]
    share = dict(candidate.parts).get("share")
    if share is not None and candidate.role == "target":
        return f"drawn by chance: {share:.1%} of the requests begin with it"
    if candidate.role == "override":
        return "an override puts it before the policy's own choice"
    if candidate.role == "preferred":
        return "the request prefers it"
    if candidate.role == "fallback":
        return f"a fallback, by way of {candidate.via}" if candidate.via else "a fallback"
    if first.role != "target":
        return "the policy's own choice comes after"
    if candidate.score is not None and candidate.score == first.score:
        return f"as many points as the first, {_number(first.score)}, by {decision.strategy}"
    if candidate.score is not None and first.score is not None:
        return f"{_number(candidate.score)} against {_number(first.score)} of the first, by {decision.strategy}"
    if decision.strategy == in_order.STRATEGY.name:
        return "written after the first"
    if candidate.model.provider.priority != first.model.provider.priority:
        return f"its provider's priority is {candidate.model.provider.priority}, the first one's {first.model.provider.priority}"
    return f"after the first, by {decision.strategy}"


def _keys(model: ModelView) -> list[dict[str, Any]]:
    """Our keys for the provider, by number, with the share of the requests that each gets."""
    total = sum(max(key.weight, 0) for key in model.provider.keys)
    return [
        {"key_id": key.key_id, "share": round(max(key.weight, 0) / total, 4) if total else None}
        for key in model.provider.keys
    ]


_MENDED_BY = {
    "no_usable_key": "store one, or set the variable or file that it refers to; the doctor names keys that cannot be read"
}
"""Of reasons that look like those that pass, and do not."""


def _dropped(dropped: Dropped) -> dict[str, Any]:
    mend = _MENDED_BY.get(dropped.reason)
    return {
        "route": dropped.route,
        "reason": dropped.reason,
        "detail": f"{dropped.detail}: {mend}" if mend else dropped.detail,
        "back_at": _time(dropped.back_at),
    }


def _money(amount: Decimal | None) -> float | None:
    """A number, as clients of the source systems read it; None is unknown."""
    return None if amount is None else float(amount)


def _number(value: float) -> str:
    return f"{value:.4g}"


def _time(epoch: float | None) -> str | None:
    if epoch is None:
        return None
    return datetime.fromtimestamp(epoch, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
