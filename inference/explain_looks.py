"""How an explanation looks on a page: the document's values as rows with tones, figures and sentences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import groupby
from typing import Any

from django.utils.dateparse import parse_datetime
from django.utils.safestring import SafeString

from inference.refusing import PASSING
from providers import cells
from routing import strategies

BUCKETS = 10_000
NAMED = 8
"""Models that are named for each reason before the others are folded away."""

_ROLES = {"override": "override", "preferred": "preferred", "target": "", "fallback": "fallback"}
_BREAKERS = {"closed": "good", "half_open": "warn", "open": "bad"}


@dataclass(frozen=True, slots=True)
class CandidateRow:
    place: int
    provider_id: str
    model_id: str
    route: str
    via: str
    role: str
    reason: str
    score: str
    parts: str
    cost: Any
    tier: str
    breaker: SafeString
    latency: Any
    success: str
    keys: str
    permit: bool


@dataclass(frozen=True, slots=True)
class DroppedGroup:
    """All that were left out for one reason; `passes` tells that waiting may cure it."""

    reason: str
    passes: bool
    count: int
    rows: list[dict[str, Any]]
    folded: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Looks:
    """One explanation. `facts` are pairs of a label and a value."""

    reason: str
    served: bool
    facts: list[tuple[str, Any]]
    notices: list[str]
    nearest: list[str]
    candidates: list[CandidateRow]
    dropped: list[DroppedGroup]
    left_out: Mapping[str, int]
    demands: list[str] = field(default_factory=list)
    bucket: dict[str, Any] | None = None
    asked: list[tuple[str, Any]] = field(default_factory=list)


def looks(told: Mapping[str, Any]) -> Looks:
    return Looks(
        reason=_sentence(told["reason"]),
        served=bool(told["candidates"]),
        facts=_facts(told),
        notices=[_sentence(notice) for notice in told["notices"]],
        nearest=list(told["nearest"]),
        candidates=[_candidate(one) for one in told["candidates"]],
        dropped=_dropped(told["dropped"]),
        left_out=told["left_out"],
        demands=_demands(told.get("demands", {})),
        bucket=_bucket(told["bucket"]),
        asked=[(name, _plain(value)) for name, value in told.get("request", {}).items()],
    )


def _facts(told: Mapping[str, Any]) -> list[tuple[str, Any]]:
    policy, estimate = told["policy"], told.get("estimate")
    facts: list[tuple[str, Any]] = []
    if policy is not None:
        facts.append((policy["kind"].capitalize(), f"{policy['name']} · version {policy['version']}"))
        if policy["override"]:
            until = policy["override"]["expires_at"]
            facts.append(("Overridden by", f"{policy['override']['target']}{_until(until)}"))
    if told["strategy"]:
        facts.append(("Strategy", strategies.find(told["strategy"]).label))
    if told["candidates"]:
        facts.append(("Confidence", f"{told['confidence']:.0%}"))
    if estimate:
        tokens = f"{estimate['input_tokens']:,} in, {estimate['output_tokens']:,} out".replace(",", "\u202f", 0)
        facts += [("Estimated tokens", tokens), ("Estimated cost", _money(estimate["cost_usd"]))]
    return facts


def _demands(told: Mapping[str, Any]) -> list[str]:
    words = [*told.get("capabilities", ()), *(name for name in ("vision", "reasoning") if told.get(name))]
    if least := told.get("min_context_window"):
        words.append(f"a context of {least:,} tokens".replace(",", "\u202f"))
    if told.get("task"):
        words.append(f"the task {told['task']}")
    if told.get("max_cost_tier"):
        words.append(f"tier {told['max_cost_tier']} at most")
    if told.get("local_only"):
        words.append("local only")
    words += [f"allowed for {tag}" for tag in told.get("data_tags", ())]
    if told.get("max_cost_usd") is not None:
        words.append(f"{told['max_cost_usd']:.4g}\u202fUSD at most")
    return words + [f"{name}, if there is one" for name in told.get("preferred_capabilities", ())]


def _until(iso: str | None) -> str:
    at = parse_datetime(iso) if iso else None
    return "" if at is None else f" until {at:%Y-%m-%d %H:%M}Z"


def _bucket(told: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if told is None:
        return None
    number = told.get("number")
    return {
        **told,
        "percentage": f"{100 * told['share'] / BUCKETS:g}",
        "width": f"{100 * told['share'] / BUCKETS:.2f}",
        "at": None if number is None else f"{100 * number / BUCKETS:.2f}",
        "number": number,
    }


def _candidate(one: Mapping[str, Any]) -> CandidateRow:
    latency, success = one["latency_seconds"], one["success_rate"]
    keys = one.get("keys") or []
    return CandidateRow(
        place=one["place"],
        provider_id=one["provider_id"],
        model_id=one["model_id"],
        route=one["route"],
        via=one["via"],
        role=_ROLES.get(one["role"], one["role"]),
        reason=_sentence(one["reason"]),
        score="" if one["score"] is None else f"{one['score']:.4g}",
        parts=" · ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in one["parts"].items()),
        cost=_money(one["estimated_cost_usd"]) if "estimated_cost_usd" in one else None,
        tier=one["cost_tier"],
        breaker=cells.pill(one["breaker"].replace("_", "-"), _BREAKERS.get(one["breaker"], "")),
        latency=None if latency is None else cells.milliseconds(latency * 1000),
        success="" if success is None else f"{success:.0%} well",
        keys=_keys(keys),
        permit=one["needs_permit"],
    )


def _keys(keys: list[Mapping[str, Any]]) -> str:
    if len(keys) == 1:
        return f"key {keys[0]['key_id']}"
    return ", ".join(f"key {key['key_id']} {key['share']:.0%}" for key in keys if key["share"] is not None)


def _dropped(dropped: list[dict[str, Any]]) -> list[DroppedGroup]:
    """What waiting cures first, then by code."""
    rows = [
        {**one, "detail": _sentence(one["detail"]), "back": _back(one.get("back_at"))}
        for one in sorted(dropped, key=lambda one: (one["reason"] not in PASSING, one["reason"]))
    ]
    groups = []
    for reason, members in groupby(rows, key=lambda one: one["reason"]):
        told = list(members)
        groups.append(DroppedGroup(reason, reason in PASSING, len(told), told[:NAMED], told[NAMED:]))
    return groups


def _back(iso: str | None) -> SafeString | None:
    at = parse_datetime(iso) if iso else None
    return None if at is None else cells.ago(at)


def _money(amount: float | None) -> Any:
    if amount is None:
        return "price unknown"
    return "free" if amount == 0 else cells.money(Decimal(repr(amount)), "USD")


def _sentence(text: str) -> str:
    """With a capital only where the text does not begin with a name."""
    first = text.split(" ", 1)[0]
    return text[:1].upper() + text[1:] if first.isalpha() else text


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
