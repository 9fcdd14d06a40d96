"""The shapes in which a source system's admin API tells of policies, nodes and their health."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from routing import nodes
from routing.nodes import Selection
from routing.policy_documents import LOGICAL
from routing.types import Candidate, Conditions, ModelView, PolicyView, RouteCondition, Snapshot
from routing.validation import Issue, Validation

_SPOKEN = {"tools": "function_calling"}
"""Its words for capabilities that have another name here."""

CAPABILITIES = (
    "streaming",
    "function_calling",
    "vision",
    "reasoning",
    "web_search",
    "long_context",
    "creative_writing",
    "code_generation",
    "json_mode",
)
_HELD_AS = {spoken: held for held, spoken in _SPOKEN.items()}


def policies(snapshot: Snapshot) -> dict[str, Any]:
    return {name: _policy(policy) for name, policy in nodes.of_kind(LOGICAL, snapshot).items()}


def _policy(policy: PolicyView) -> dict[str, Any]:
    document = policy.active.document
    model = policy.active.targets[0].model if policy.active.targets else None
    return {
        "logical_id": policy.name,
        "provider": model.provider.provider_id if model else None,
        "provider_model_id": model.upstream_model_id if model else None,
        "capabilities": {name: _can(model, name) for name in CAPABILITIES},
        "cost_tier": model.cost_tier if model else None,
        "context_window": model.context_window if model else None,
        "input_cost_per_1k": _per_1k(model.prices.input_cost_per_million) if model else None,
        "output_cost_per_1k": _per_1k(model.prices.output_cost_per_million) if model else None,
        "fallback_models": list(document.fallbacks),
        "admin_overridable": document.overridable,
    }


def _can(model: ModelView | None, name: str) -> bool:
    return model is not None and _HELD_AS.get(name, name) in model.capabilities


def _per_1k(per_million: Decimal | None) -> float | None:
    return None if per_million is None else float(per_million / 1000)


def requirements(snapshot: Snapshot) -> dict[str, Any]:
    return {name: _requirements(policy) for name, policy in nodes.of_kind(nodes.NODE, snapshot).items()}


def _requirements(policy: PolicyView) -> dict[str, Any]:
    needs = policy.active.document.requirements
    return {
        "required_capabilities": _spoken(needs.capabilities),
        "preferred_capabilities": _spoken(needs.preferred_capabilities),
        "min_context_window": needs.min_context_window,
        "max_cost_tier": needs.max_cost_tier or None,
        "reasoning_required": needs.reasoning,
    }


def _spoken(capabilities: frozenset[str]) -> list[str]:
    return sorted(_SPOKEN.get(name, name) for name in capabilities)


def assignment(selection: Selection, now: float) -> dict[str, Any]:
    """Who serves a node at present, and by whose word."""
    first = selection.first
    policy = selection.snapshot.policies[selection.facts.model]
    override = policy.override if first is not None and first.role == "override" else None
    return {
        "model_id": nodes.name_of(first) if first else None,
        "provider": first.model.provider.provider_id if first else None,
        "provider_model_id": first.model.upstream_model_id if first else None,
        "mode": "override" if override else "config",
        "strategy": selection.decision.strategy,
        "reasoning": reasoning(selection),
        "expires_at": iso(override.expires_at) if override and override.expires_at else None,
    }


def reasoning(selection: Selection) -> str:
    decision, first = selection.decision, selection.first
    if first is None:
        details = dict.fromkeys(f"{dropped.route}: {dropped.detail}" for dropped in decision.dropped)
        return "; ".join([decision.reason, *list(details)[:10]])
    others = [one for one in selection.ranking if one.model.route != first.model.route and one.score is not None]
    if first.score is None or not others:
        return decision.reason
    return f"{decision.reason} ({first.score:.1f} against {others[0].score:.1f} of {nodes.name_of(others[0])})"


def alternatives(selection: Selection) -> list[str]:
    """What else meets the node's demands, best first."""
    first = selection.first
    return _names(one for one in selection.ranking if first is None or one.model.route != first.model.route)


def fallback_chain(selection: Selection) -> list[str]:
    """Who is asked when the first does not answer, in order."""
    return _names(selection.decision.candidates[1:])


def _names(candidates: Any) -> list[str]:
    return list(dict.fromkeys(nodes.name_of(candidate) for candidate in candidates))


def recommendation(candidate: Candidate) -> dict[str, Any]:
    model = candidate.model
    return {
        "model_id": nodes.name_of(candidate),
        "provider": model.provider.provider_id,
        "provider_model_id": model.upstream_model_id,
        "score": candidate.score,
        "parts": dict(candidate.parts),
        "cost_tier": model.cost_tier,
        "estimated_cost": None if candidate.estimate is None else float(candidate.estimate),
        "role": candidate.role,
    }


def performance(condition: RouteCondition) -> dict[str, Any]:
    latency = condition.latency_seconds
    return {
        "success_rate": condition.success_rate,
        "total_requests": condition.calls,
        "avg_latency_ms": None if latency is None else round(latency * 1000, 3),
        "recent_failures": condition.recent_failures,
        "last_failure": iso(condition.last_failure_at) if condition.last_failure_at else None,
        "circuit_breaker": condition.breaker,
    }


def health(snapshot: Snapshot, conditions: Conditions) -> dict[str, Any]:
    providers = {name: _provider_health(name, snapshot, conditions) for name in snapshot.providers}
    states = {provider["status"] for provider in providers.values()}
    overall = "healthy" if states == {"healthy"} else "unhealthy" if states <= {"unhealthy"} else "degraded"
    return {"overall_status": overall, "providers": providers}


def _provider_health(name: str, snapshot: Snapshot, conditions: Conditions) -> dict[str, Any]:
    models = [model for model in snapshot.models if model.provider.provider_id == name]
    seen = {model.model_id: conditions.of(model.route) for model in models}
    well = [
        model
        for model in models
        if seen[model.model_id].breaker != "open" and not model.auto_disabled and not model.provider.lacks_key
    ]
    latencies = [one.latency_seconds for one in seen.values() if one.latency_seconds is not None]
    return {
        "status": "healthy" if well == models and models else "degraded" if well else "unhealthy",
        "models_count": len(models),
        "models_available": len(well),
        "circuit_breakers": {model: one.breaker for model, one in seen.items() if one.breaker != "closed"},
        "latency_ms": round(1000 * sum(latencies) / len(latencies), 3) if latencies else None,
    }


def told(validation: Validation) -> dict[str, Any]:
    return {
        "valid": validation.valid,
        "issues": [_sentence(issue) for issue in validation.issues],
        "warnings": [_sentence(issue) for issue in validation.warnings],
        "details": [
            {"severity": severity, "code": issue.code, "name": issue.name, "message": issue.sentence}
            for severity, issues in (("issue", validation.issues), ("warning", validation.warnings))
            for issue in issues
        ],
    }


def _sentence(issue: Issue) -> str:
    return f"{issue.name}: {issue.sentence}"


def iso(epoch: float) -> str:
    return datetime.fromtimestamp(epoch, UTC).isoformat().replace("+00:00", "Z")
